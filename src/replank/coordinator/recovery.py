"""Start: bring back exactly the last committed versions with their last durable state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from graphlib import CycleError, TopologicalSorter

from replank.code.generation import Generation
from replank.code.source import digest_of
from replank.coordinator.candidates import commit_record
from replank.coordinator.coordinator import ReloadCoordinator
from replank.coordinator.explain import explain
from replank.coordinator.prepare import check_uses
from replank.coordinator.slot import Slot
from replank.errors import ModuleError, SnapshotError, SourceError
from replank.instrumentation.events import ModuleLoaded, Warned
from replank.journal.records import Committed
from replank.journal.records import Participant as Intent
from replank.migration.engine import steps_of
from replank.migration.steps import Step
from replank.report import ModuleReport, Outcome, ReloadReport
from replank.state.keeper import StateKeeper
from replank.threads import in_thread
from replank.traffic.messages import from_plain
from replank.verification.checks import run_checks
from replank.verification.effects import Effects


@dataclass(eq=False, slots=True)
class Startup:
    """Load every module of a host, in the order of their uses, and open their gates.

    Args:
        coordinator: Lends its workshop, journal and bus.
        keeper: Finds the durable state.
    """

    coordinator: ReloadCoordinator
    keeper: StateKeeper
    effects: Effects = field(default_factory=Effects)
    """What the modules do outside themselves while they start."""
    signers: dict[str, str | None] = field(default_factory=dict)
    """Who has signed the versions that serve for the first time, by module."""

    async def run(self) -> None:
        """Start all modules.

        Raises:
            ReplankError: One of them cannot start; none serves then.
        """
        for line in await in_thread(self.coordinator.journal.recover):
            self._warn(line)
        await in_thread(self.coordinator.workshop.store.sweep)
        await in_thread(self.keeper.sweep)
        committed = self.coordinator.journal.committed()
        slots = self.coordinator.routes.slots
        with self.coordinator.workshop.watchdog:
            loaded: dict[str, Generation] = {}
            try:
                await self._start(slots, committed, loaded)
            except BaseException:
                await self._take_back(loaded)
                raise
            self.effects.forget()

    async def _start(
        self,
        slots: Mapping[str, Slot],
        committed: Mapping[str, Committed],
        loaded: dict[str, Generation],
    ) -> None:
        for name, slot in slots.items():
            loaded[name] = await self._load(slot, committed.get(name))
        definitions = {name: one.definition for name, one in loaded.items()}
        for definition in definitions.values():
            check_uses(definition, definitions, self.coordinator.routes)
        new = {name: one for name, one in loaded.items() if name not in committed}
        tx_id = await self._begin_new(new)
        self.coordinator.routes.assign(loaded)
        for name in _in_order_of_use(loaded):
            await self._open(slots[name], loaded[name], first=name in new)
        # Only what has started well is committed: the next start would load it again.
        await self._commit_new(tx_id, new)

    async def _take_back(self, loaded: Mapping[str, Generation]) -> None:
        """End what a start that failed has begun; its error is the one that is told."""
        for name, generation in loaded.items():
            slot = self.coordinator.routes.slot(name)
            slot.gate.stop("it did not start")
            await slot.tasks.stop()
            await slot.persistence.close()
            await slot.inbox.stop()
            try:
                await self.coordinator.candidates.stop(generation)
            except Exception as error:
                self._warn(f"on_stop failed: {type(error).__name__}: {error}", name)
            generation.unload()
        for line in (await self.effects.take_back()).left:
            self._warn(f"left behind by the modules that did not start: {line}")

    async def _load(self, slot: Slot, committed: Committed | None) -> Generation:
        workshop = self.coordinator.workshop
        if committed is None:
            version = await workshop.stored(slot, None, None)
            self.signers[slot.name] = await workshop.signer_of(slot.name, version)
            made = await workshop.make(slot, version, self.effects)
            for line in self.effects.take_notes():
                self._warn(line, slot.name)
            return made
        version = await workshop.stored(slot, None, committed.digest)
        await self._tell_difference(slot, committed)
        return await workshop.make(slot, version, self.effects, probed=False)

    async def _tell_difference(self, slot: Slot, committed: Committed) -> None:
        try:
            on_disk = await in_thread(digest_of, slot.source)
        except SourceError as error:
            self._warn(f"{error.what}; the committed version serves", slot.name)
            return
        if on_disk != committed.digest:
            self._warn(
                f"{slot.source.name} on disk differs from the committed version "
                f"{committed.label}, which serves; to load it: replank reload {slot.name}",
                slot.name,
            )

    async def _begin_new(self, new: Mapping[str, Generation]) -> str:
        """Record what is about to serve for the first time; returns the transaction's id."""
        if not new:
            return ""
        tx_id = self.coordinator.journal.next_id()
        intents = [Intent(n, "", one.version.digest, one.number) for n, one in new.items()]
        await self.coordinator.journal.begin(tx_id, intents, "start")
        return tx_id

    async def _commit_new(self, tx_id: str, new: Mapping[str, Generation]) -> None:
        if not new:
            return
        journal = self.coordinator.journal
        await journal.commit(tx_id, [commit_record(one) for one in new.values()])
        report = ReloadReport(
            id=tx_id,
            outcome=Outcome.COMMITTED,
            reason="start",
            started_at=datetime.now(UTC).isoformat(),
            modules=tuple(
                ModuleReport(
                    name=name,
                    version_to=one.definition.label,
                    digest_to=one.version.digest,
                    signer=self.signers.get(name),
                    generation_to=one.number,
                    schema_to=one.definition.schema.version,
                )
                for name, one in new.items()
            ),
        )
        await journal.finish(tx_id, report)

    async def _steps_of_version(self, slot: Slot, digest: str) -> tuple[Step, ...]:
        """Return the migration steps of a stored version that does not serve."""
        workshop = self.coordinator.workshop
        version = await workshop.stored(slot, None, digest)
        effects = Effects()
        try:
            generation = await workshop.make(slot, version, effects, probed=False)
            steps = tuple(steps_of(generation.definition))
            generation.unload()
            return steps
        finally:
            await effects.take_back()

    async def _open(self, slot: Slot, generation: Generation, *, first: bool) -> None:
        """Restore a module's state, start it, and let calls in."""
        coordinator = self.coordinator
        kept = await generation.load_kept(
            self.keeper, lambda digest: self._steps_of_version(slot, digest)
        )
        for line in kept.warnings:
            self._warn(line, slot.name)
        await self._load_parked(slot)
        generation.wire(coordinator.routes.handles(), coordinator.workshop.runtime(slot))
        slot.tasks.adopt(generation.lane, generation.methods)
        try:
            await coordinator.candidates.run_on_start(generation, self.effects)
            await self._check(slot, generation, first=first)
        except ModuleError as error:
            explain(error, [generation])
            raise
        generation.started_at = datetime.now(UTC).isoformat()
        calls = generation.definition.calls
        slot.inbox.position = kept.inbox_position
        await slot.inbox.open()
        slot.inbox.put_back([from_plain(plain, calls) for plain in kept.messages])
        slot.gate.first_open(generation.lane)
        slot.tasks.start({one.name: one.period_s for one in generation.definition.timers})
        slot.inbox.start()
        slot.persistence.start()
        if slot.config.isolated:
            slot.persistence.request("start")
        coordinator.bus.publish(
            ModuleLoaded(
                name=slot.name,
                label=generation.definition.label,
                digest=generation.version.digest,
                generation=generation.number,
            )
        )

    async def _load_parked(self, slot: Slot) -> None:
        """Have ready what comes back with a newer version."""
        try:
            slot.parked.update(await in_thread(self.coordinator.workshop.parked.read, slot.name))
        except SnapshotError as error:
            self._warn(f"{error.what}; {error.do}", slot.name)

    async def _check(self, slot: Slot, generation: Generation, *, first: bool) -> None:
        """Run the checks; a version that was committed once serves all the same, with a warning."""
        workshop = self.coordinator.workshop
        try:
            await run_checks(
                slot.name,
                generation.definition.checks,
                generation.methods,
                where="pause",
                limit_s=workshop.config.verify_timeout_s,
                watchdog=workshop.watchdog,
            )
        except ModuleError as error:
            if first:
                raise
            self._warn(f"{error.what}; the committed version serves all the same", slot.name)

    def _warn(self, text: str, module: str | None = None) -> None:
        self.coordinator.bus.publish(Warned(text=text, module=module))


def _in_order_of_use(loaded: Mapping[str, Generation]) -> tuple[str, ...]:
    """Return the modules so that each comes after those it uses; circles in order of names."""
    uses = {
        name: {use.module for use in one.definition.uses if use.module in loaded}
        for name, one in sorted(loaded.items())
    }
    try:
        return tuple(TopologicalSorter(uses).static_order())
    except CycleError:
        return tuple(sorted(loaded))
