"""Take a live module's state out, and put another one in, through the gate that reloads use."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from replank.coordinator.coordinator import ReloadCoordinator
from replank.coordinator.replacing import replacing
from replank.coordinator.slot import Slot
from replank.errors import UsageError
from replank.isolation.remote import RemoteGeneration
from replank.state.exchange import (
    ImportReport,
    StateReport,
    describe_state,
    freeze_in_slices,
    snapshot_of,
)
from replank.state.format import Snapshot, SnapshotReader
from replank.state.sizing import state_size
from replank.state.slices import Slices
from replank.state.spool import approach_export, begin_export, finish_export
from replank.threads import in_thread, undisturbed
from replank.traffic.drain import Drain
from replank.verification.checks import run_checks

Exclusively = Callable[[str, Callable[[], Awaitable[Any]]], Awaitable[Any]]
"""Does something with a module while no reload of it runs."""


class ExchangesState:
    """The methods of a host that take a state out and put one in."""

    _exchange: StateExchange

    def describe_state(self, name: str) -> StateReport:
        """Say which fields a module's state has, with their types, items and about their bytes.

        Raises:
            UnknownModule: There is no such module.
            UsageError: Its state is in a process of its own: see `look_at_state`.
        """
        return self._exchange.describe(name)

    async def look_at_state(self, name: str) -> StateReport:
        """Say the same of any module, also of one whose state is in a process of its own.

        Args:
            name: The module's name.

        Raises:
            UnknownModule: There is no such module.
        """
        return await self._exchange.look(name)

    def state_size(self, name: str) -> tuple[int, int]:
        """Return how many records a module's state has and about how many bytes it takes.

        Raises:
            UnknownModule: There is no such module.
        """
        return self._exchange.size(name)

    async def export_state(self, name: str) -> bytes:
        """Return a module's state as JSON with its schema; calls wait while it is copied.

        Raises:
            UnknownModule: There is no such module.
            PhaseTimeout: Calls in flight did not end in time.
            SnapshotError: The state holds something that exists in this process only.
        """
        return await self._exchange.export(name)

    async def import_state(self, name: str, document: bytes) -> ImportReport:
        """Replace a module's state by an export, in one short pause: all of it, or nothing.

        Args:
            name: The module's name.
            document: What `export_state` returned, of this schema or an older one.

        Raises:
            UnknownModule: There is no such module.
            UsageError: It is no export of this module, or newer than the code.
            ModuleError: It cannot be migrated, does not fit its types, or a check fails.
        """
        return await self._exchange.replace(name, document)

    async def sample_state(self, name: str) -> Snapshot:
        """Return a copy in which each record is whole, without letting a call wait.

        Raises:
            UnknownModule: There is no such module.
        """
        return await self._exchange.sample(name)


@dataclass(frozen=True, slots=True)
class StateExchange:
    """What an operator may do with the state of a module that serves.

    Args:
        coordinator: Lends its routes, checks and limits.
        exclusively: Keeps reloads of a module away while its state is replaced.
        folder: Where there is room for a document that is written or read.
    """

    coordinator: ReloadCoordinator
    exclusively: Exclusively
    folder: Path

    def describe(self, name: str) -> StateReport:
        """Say what a module's state holds.

        Raises:
            UnknownModule: There is no such module.
            UsageError: It is in another process.
        """
        generation = self.coordinator.routes.current(name)
        if isinstance(generation, RemoteGeneration):
            raise UsageError(
                "its state is in a process of its own",
                module=name,
                do="await host.look_at_state(name)",
            )
        return describe_state(generation)

    async def look(self, name: str) -> StateReport:
        """Say what a module's state holds, wherever that is.

        Raises:
            UnknownModule: There is no such module.
        """
        generation = self.coordinator.routes.current(name)
        if not isinstance(generation, RemoteGeneration):
            return describe_state(generation)
        found: StateReport = await generation.request("state.describe")
        return found

    def size(self, name: str) -> tuple[int, int]:
        """Return records and about the bytes of a module's state, from a look at few objects.

        Raises:
            UnknownModule: There is no such module.
        """
        generation = self.coordinator.routes.current(name)
        if isinstance(generation, RemoteGeneration):
            return generation.worker.state_size
        carried = set(generation.definition.carried)
        values = generation.values().items()
        wanted = {field: value for field, value in values if field not in carried}
        return undisturbed(lambda: state_size(wanted))

    async def export(self, name: str) -> bytes:
        """Return a module's state as a document: all of one moment.

        Calls wait while it is copied; they go on while it is written.

        Raises:
            UnknownModule: There is no such module.
            PhaseTimeout: Calls in flight did not end in time.
            SnapshotError: The state holds something that exists in this process only.
        """
        slot = self.coordinator.routes.slot(name)
        serves = self.coordinator.routes.current(name)
        if isinstance(serves, RemoteGeneration):
            await serves.request("state.export_approach")
        else:
            await approach_export(serves)
        async with self._quiet(slot):
            generation = self.coordinator.routes.current(name)
            if isinstance(generation, RemoteGeneration):
                await generation.request("state.export_begin")
            else:
                held = begin_export(generation, generation.version.digest, self.folder)
        if isinstance(generation, RemoteGeneration):
            document: bytes = await generation.request("state.export")
            return document
        return await finish_export(held, self.coordinator.config.storage.fork_timeout_s)

    async def sample(self, name: str) -> Snapshot:
        """Return a copy of a module's state without letting a call wait, but for one with threads.

        Each record is whole, but they are not all of one moment: for checks, never for a restore.

        Raises:
            UnknownModule: There is no such module.
        """
        slot = self.coordinator.routes.slot(name)
        # What other threads write meanwhile no slice is safe from.
        async with self._quiet(slot) if slot.config.threads else nullcontext():
            generation = self.coordinator.routes.current(name)
            if isinstance(generation, RemoteGeneration):
                body: bytes = await generation.request("state.sample")
                return SnapshotReader(io.BytesIO(body), "of the sample").snapshot()
            tree = await Slices().run(freeze_in_slices(generation))
            return snapshot_of(generation, generation.version.digest, tree)

    async def replace(self, name: str, document: bytes) -> ImportReport:
        """Put another state into a module: all of it, or nothing.

        Everything is read, migrated and built first. Then the gate is closed, the values are
        assigned, the module's checks are run, and the gate is opened; when a check fails the
        old values are back before any call enters. Reloads of the module wait for their turn.

        Args:
            name: The module's name.
            document: What `export` returned, here or elsewhere.

        Raises:
            UsageError: It is no export of this module, or newer than the code.
            ModuleError: It cannot be migrated, does not fit its types, or a check fails.
        """
        self.coordinator.routes.slot(name)

        async def work() -> ImportReport:
            return await self._replace(name, document)

        report: ImportReport = await self.exclusively(name, work)
        return report

    async def _replace(self, name: str, document: bytes) -> ImportReport:
        slot = self.coordinator.routes.slot(name)
        generation = self.coordinator.routes.current(name)
        limit_s = self.coordinator.config.storage.fork_timeout_s
        other = replacing(generation, self.folder, limit_s)
        found = await other.read(document)
        began = perf_counter()
        async with self._quiet(slot):
            slot.tasks.hold()
            try:
                await other.put()
                await self._check(name)
            except BaseException:
                await other.put_back()
                slot.tasks.release()
                raise
            # What runs on may hold parts of the old state: it begins anew with the other one.
            resume = await slot.tasks.end_held()
            timers = {one.name: one.period_s for one in generation.definition.timers}
            slot.tasks.start(timers, resume)
        pause_s = perf_counter() - began
        if slot.probation is not None:
            # The state before the last reload is no way back from another state.
            await slot.probation.end()
            slot.probation = None
        slot.parked.clear()
        parked, schema = self.coordinator.workshop.parked, generation.definition.schema
        await in_thread(parked.write, name, schema, {})
        await other.done()
        warnings: tuple[str, ...] = ()
        try:
            await slot.persistence.save("import")
        except Exception as error:  # it serves all the same, and the next save has it
            warnings = (f"not on the disk yet: {type(error).__name__}: {error}",)
        return ImportReport(
            module=name,
            schema_from=found.schema_from,
            schema_to=generation.definition.schema.version,
            records=found.records,
            steps=found.steps,
            pause_s=pause_s,
            warnings=warnings,
        )

    @asynccontextmanager
    async def _quiet(self, slot: Slot) -> AsyncIterator[None]:
        """Give a context in which nothing is in flight in one module, and nothing enters."""
        limit_s = self.coordinator.config.drain_timeout_s(slot.name)
        async with slot.persistence.moment:
            drain = Drain([slot.gate])
            drain.close()
            try:
                # Calls that outlive it are never cancelled or detached for this.
                await drain.wait(limit_s, {})
                yield
            finally:
                drain.reopen()

    async def _check(self, name: str) -> None:
        workshop = self.coordinator.workshop
        generation = self.coordinator.routes.current(name)
        with workshop.watchdog:
            await run_checks(
                name,
                generation.definition.checks,
                generation.methods,
                where="pause",
                limit_s=self.coordinator.config.reload.verify_timeout_s,
                watchdog=workshop.watchdog,
            )


__all__ = ["ExchangesState", "StateExchange"]
