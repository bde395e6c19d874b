"""Rehearse a reload on a forked copy of the host: the whole window, on the real state.

The candidate is loaded in the host, as for every plan. Then the process is copied, which takes
milliseconds, and the copy runs the same phases of the window that a reload runs: it copies and
migrates every record, builds the candidate's state, and asks invariants and checks. What it finds
comes back through a pipe. The copy has no connection, file or database of the host (see
`replank.forks`), cannot write a file, and is ended at its limits.
"""

from __future__ import annotations

import asyncio
import resource
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from replank.coordinator.coordinator import ReloadCoordinator
from replank.coordinator.plan import plan_of
from replank.coordinator.reporting import failure_of
from replank.coordinator.transaction import Transaction
from replank.errors import CheckError, UsageError
from replank.forks import Fork, can_fork
from replank.instrumentation.events import Event
from replank.memory import gather_pages, resident_bytes
from replank.migration.engine import Migration
from replank.report import BadRecord, ErrorReport, Phase, Plan, RehearsalReport
from replank.state.bad_records import SHOWN_MAX, find_bad
from replank.state.collector import shared_heap
from replank.state.windowed import WindowedTransfer
from replank.verification.watchdog import Watchdog

_WINDOW: Final = (Phase.SNAPSHOT, Phase.MIGRATE, Phase.RESTORE, Phase.VERIFY)


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """Make plans that were tried.

    Args:
        coordinator: Lends its phases; the copy of it in the child runs them.
    """

    coordinator: ReloadCoordinator

    async def plan(self, tx: Transaction) -> Plan:
        """Say what a reload would do, by doing it in a copy of this process; nothing changes here.

        Args:
            tx: What would be reloaded; no reload of these modules runs.

        Raises:
            UsageError: This system cannot copy a process.
        """
        if not can_fork():
            raise UsageError(
                "a rehearsal needs a copy of the host",
                expected="Linux, where a running process can be copied",
                do="make the plan without --rehearse: it copies the state in small slices",
            )
        if alone := [one.name for one in tx.each() if one.slot.config.isolated]:
            raise UsageError(
                "an isolated module is not in the process that a rehearsal copies",
                module=", ".join(alone),
                do="make the plan without --rehearse: it starts the candidate in a process of its "
                "own, and migrates and checks a copy of the whole state there",
            )
        coordinator = self.coordinator
        try:
            with coordinator.workshop.watchdog:
                await coordinator._phase(tx, Phase.PREPARE, "window")
            return await self._in_copy(tx)
        except Exception as raised:
            return _advised(plan_of(tx, failure_of(tx, raised)), tx)
        finally:
            await tx.undo()

    async def _in_copy(self, tx: Transaction) -> Plan:
        for one in tx.each():
            if one.slot.probation is not None:
                await one.slot.probation.settled()
        limit_s = self.coordinator.config.reload.window_timeout_s
        await gather_pages()
        with shared_heap():
            fork = Fork(lambda: self._be_the_copy(tx), "the rehearsal")
            plan = msgspec.msgpack.decode(await fork.answer(limit_s), type=Plan)
        assert plan.rehearsal is not None, "the copy tells what it did"
        told = msgspec.structs.replace(plan.rehearsal, fork_s=fork.pause_s)
        seconds = time.perf_counter() - tx.started
        plan = msgspec.structs.replace(plan, rehearsal=told, seconds=seconds)
        return _advised(plan, tx)

    # -- in the child -----------------------------------------------------------------------

    def _be_the_copy(self, tx: Transaction) -> bytes:
        _limit_itself(self.coordinator.config.reload.max_memory_bytes)
        # Its thread is the host's; this process needs one of its own.
        self.coordinator.workshop.watchdog = Watchdog()
        tx.publish = _tell_nobody
        return msgspec.msgpack.encode(asyncio.run(self._rehearsed(tx)))

    async def _rehearsed(self, tx: Transaction) -> Plan:
        before = resident_bytes()
        began = time.perf_counter()
        error: ErrorReport | None = None
        checks: list[str] = []
        with self.coordinator.workshop.watchdog:
            try:
                await self._end_probations(tx)
                await self.coordinator.candidates.find_ways(tx, _no_call_runs)
                for phase in _WINDOW:
                    await self._phase(tx, phase, checks)
            except Exception as raised:
                error = failure_of(tx, raised)
        window_s = time.perf_counter() - began
        memory = max(0, resident_bytes() - before)
        plan = plan_of(tx, error)
        migrates = error is None or error.kind != "MigrationError"
        bad, shown = (0, ()) if migrates else self._bad(tx)
        report = RehearsalReport(
            records=sum(one.records for one in plan.modules),
            bad=bad,
            bad_records=shown,
            checks=tuple(checks),
            window_s=window_s,
            pause_s=sum(one.predicted_pause_s for one in plan.modules),
            memory_bytes=memory,
        )
        return msgspec.structs.replace(plan, rehearsal=report)

    async def _phase(self, tx: Transaction, phase: Phase, checks: list[str]) -> None:
        try:
            await self.coordinator._phase(tx, phase, "window")
        except CheckError as error:
            carried = sorted({name for one in tx.each() for name in one.new.definition.carried})
            if not carried:
                raise
            tx.warnings.append(
                f"{error.what}; in a rehearsal connections lead nowhere ({', '.join(carried)}): "
                "the reload itself asks again"
            )
        if phase is Phase.VERIFY:
            checks += [name for one in tx.phase_reports() if one.name is phase
                       for name in one.detail.split(", ") if name]  # fmt: skip

    async def _end_probations(self, tx: Transaction) -> None:
        """Stop following, as a reload would; the old generations themselves are left alone."""
        for one in tx.each():
            if one.slot.probation is None or not one.slot.probation.returnable:
                continue
            transfer = one.slot.probation.participants[one.name].transfer
            if isinstance(transfer, WindowedTransfer):
                await transfer.forget()

    def _bad(self, tx: Transaction) -> tuple[int, tuple[BadRecord, ...]]:
        count = 0
        shown: tuple[BadRecord, ...] = ()
        for one in tx.each():
            if isinstance(one.migration, Migration) and one.candidate is not None:
                found, records = find_bad(one.name, one.old, one.candidate, one.migration)
                count += found
                shown += records
        return count, shown[:SHOWN_MAX]


def _limit_itself(memory_bytes: int | None) -> None:
    """See to it that this copy writes no file, and takes no more memory than a reload may."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    if memory_bytes is not None:
        mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        # Half as much again: what is mapped is always more than what is used.
        resource.setrlimit(resource.RLIMIT_AS, (mapped + memory_bytes * 3 // 2, hard))


def _advised(plan: Plan, tx: Transaction) -> Plan:
    """Say of a failed rehearsal what to do next."""
    if plan.error is None:
        return plan
    again = f"then rehearse again: replank plan {' '.join(tx.names)} --rehearse"
    do = f"{plan.error.do or 'mend the candidate'}; {again}"
    return msgspec.structs.replace(plan, error=msgspec.structs.replace(plan.error, do=do))


def _tell_nobody(_: Event) -> None:
    """Listeners of the host write logs and streams."""


async def _no_call_runs() -> None:
    """Return at once: in the copy nothing but the rehearsal runs."""


__all__ = ["Rehearsal"]
