"""The coordinator: takes one transaction through the eight phases, or back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from time import perf_counter

import msgspec

from replank.config import Config
from replank.coordinator import invariants
from replank.coordinator.canary import try_on_share
from replank.coordinator.candidates import Candidates
from replank.coordinator.deadlines import drain_limit, limit_of
from replank.coordinator.endings import drop, guarded, is_committed, joined, settled
from replank.coordinator.left_over import keep_left_over
from replank.coordinator.outliving import seal_outlived
from replank.coordinator.phases import Where
from replank.coordinator.plan import plan_of, refuse_long_pause
from replank.coordinator.prepare import Workshop
from replank.coordinator.probation import Probation, end_probations, let_go, probations_held
from replank.coordinator.replays import replay
from replank.coordinator.reporting import failure_of, report_of
from replank.coordinator.retire import Retirement
from replank.coordinator.slot import Routes
from replank.coordinator.transaction import Participant, Transaction
from replank.coordinator.watch import Countdown, OnTrip, Watch, window_observed
from replank.instrumentation.events import Bus, ModuleLoaded, ReloadEnded, ReloadStarted
from replank.journal.journal import Journal, utc_now
from replank.report import ErrorReport, Outcome, Phase, Plan, ProbationReport, ReloadReport
from replank.state.collector import CollectorGuard
from replank.state.sharing import PartsShared
from replank.threads import brisk_switching
from replank.traffic.drain import Drain
from replank.verification.checks import CheckResult, run_checks

_GRACE_S = 2.0
_QUICK_CHECK_S = {"eager": 0.005, "windowed": 0.0005, "lazy": 0.0005}
"""A check that takes longer in the rehearsal, on the copied state, is not repeated in the pause."""


class ReloadCoordinator:
    """Run transactions, each through the phases of `phases.py`, in the order written here.

    Args:
        routes: The routing table.
        workshop: Makes candidates.
        journal: Records what was decided, before it is done.
        bus: Is told what happens.
        config: Deadlines and limits.
    """

    def __init__(
        self, routes: Routes, workshop: Workshop, journal: Journal, bus: Bus, config: Config
    ) -> None:
        self.routes = routes
        self.workshop = workshop
        self.journal = journal
        self.bus = bus
        self.config = config
        self.candidates = Candidates(routes, workshop)
        self._releasing: set[asyncio.Task[None]] = set()
        self.retirement = Retirement(bus, self.candidates.stop, config.reload)
        self.stopping = False
        """Whether what takes its time is left out, for the host stops."""
        self.on_trip: OnTrip | None = None
        """Has a transaction go back; without it nothing is watched after a commit."""

    async def run(self, tx: Transaction) -> ReloadReport:
        """Take a transaction through all phases.

        Args:
            tx: What to reload; its modules are in no other running transaction.

        Returns:
            The report; a failure is in it, not raised.
        """
        self.bus.publish(ReloadStarted(id=tx.id, modules=tx.names, reason=tx.reason))
        with self.workshop.watchdog:
            try:
                await end_probations(tx, beside=False)
                await self._window(tx)
                if not self.stopping:
                    await try_on_share(tx, self.config, self.bus)
                await self.journal.begin(
                    tx.id, self.candidates.intents(tx), tx.reason, tx.started_at
                )
                for one in tx.each():
                    await self._guarded(tx, one, one.state.approach())
                await self._pause(tx)
            except BaseException as error:
                report = await self._fail(tx, error)
                if isinstance(error, asyncio.CancelledError):
                    await self._close(tx, report)
                    raise
            else:
                report = report_of(tx, Outcome.COMMITTED)
        return await self._close(tx, report)

    async def plan(self, tx: Transaction) -> Plan:
        """Take a transaction up to the point where calls would wait, then take it back.

        Args:
            tx: What would be reloaded.

        Returns:
            What the reload would do, and why it would be rejected, if it would.
        """
        with self.workshop.watchdog:
            try:
                plan = plan_of(tx, await self._rehearse(tx))
            finally:
                left = await tx.undo()
        return msgspec.structs.replace(plan, warnings=(*tx.warnings, *left))

    async def _rehearse(self, tx: Transaction) -> ErrorReport | None:
        """Do everything that needs no call to wait; return why the reload would be rejected."""
        try:
            if any(one.slot.probation and one.slot.probation.returnable for one in tx.each()):
                tx.warnings.append("the last reload is in probation: no copy was rehearsed")
                await self._phase(tx, Phase.PREPARE, "window")
            else:
                await end_probations(tx, beside=False)
                with probations_held(tx):
                    await self._window(tx)
        except Exception as error:
            return failure_of(tx, error)
        return None

    async def _window(self, tx: Transaction) -> None:
        """Do everything that needs no call to wait; what fails here is rejected."""
        with window_observed(tx, self.config):
            with probations_held(tx):
                await self._phase(tx, Phase.PREPARE, "window")
            await self._phase(tx, Phase.SNAPSHOT, "window")
            await self._phase(tx, Phase.MIGRATE, "window")
            await self._phase(tx, Phase.RESTORE, "window")
            await self._phase(tx, Phase.VERIFY, "window")

    async def _pause(self, tx: Transaction) -> None:
        """Do what must be done while calls wait; what fails here is rolled back."""
        with CollectorGuard(), brisk_switching(), self.candidates.chain(tx):
            await self._phase(tx, Phase.DRAIN, "pause")
            await self._phase(tx, Phase.SNAPSHOT, "pause")
            await self._phase(tx, Phase.MIGRATE, "pause")
            await self._phase(tx, Phase.SWAP, "pause")
            await self._phase(tx, Phase.RESTORE, "pause")
            await self._phase(tx, Phase.VERIFY, "pause")
            await self._phase(tx, Phase.COMMIT, "pause")

    async def _phase(self, tx: Transaction, phase: Phase, where: Where) -> None:
        work = getattr(self, f"_{phase}_in_{where}")
        # The work knows its own limit and says best what did not end; this one is the last resort.
        tx.limit_s = limit_of(tx, phase, where, self.config)
        await tx.run(phase, where, work, tx.limit_s + _GRACE_S)

    async def _guarded(self, tx: Transaction, one: Participant, work: Awaitable[None]) -> None:
        what = f"{tx.phase} of {one.name}"
        await guarded(self.workshop.watchdog, one.name, work, tx.limit_s, what)

    # -- the window: the old version serves -------------------------------------------------

    async def _prepare_in_window(self, tx: Transaction) -> str:
        if tx.back is not None:
            await self.candidates.prepare_return(tx, tx.back)
        else:
            for one in tx.each() if tx.reason != "rollback" else ():
                self.retirement.refuse_more(one.name)
            tx.warnings += [f"still in memory: {leak}" for leak in self.retirement.leaks]
            await self.candidates.prepare(tx, partial(let_go, config=self.config))
        return ", ".join(one.prepared() for one in tx.each())

    async def _snapshot_in_window(self, tx: Transaction) -> str:
        for one in tx.each():
            try:
                await self._guarded(tx, one, one.state.snapshot(None))
            except PartsShared as error:
                await self.candidates.copy_whole(tx, one, error)
                await self._guarded(tx, one, one.state.snapshot(None))
        return f"{sum(one.state.records for one in tx.each())} records"

    async def _migrate_in_window(self, tx: Transaction) -> str:
        for one in tx.each():
            await self._guarded(tx, one, one.state.migrate(None))
        return "; ".join(line for one in tx.each() for line in one.path.steps)

    async def _restore_in_window(self, tx: Transaction) -> str:
        for one in tx.each():
            await one.state.restore(None)
        if any(one.state.mode in ("windowed", "lazy") for one in tx.each()):
            # All in one turn of the loop: the copies of all modules are of one moment.
            for one in tx.each():
                one.state.align()
        tx.digests = joined(one.state.digests() for one in tx.each())
        refuse_long_pause(tx, self.config.reload)
        return ""

    async def _verify_in_window(self, tx: Transaction) -> str:
        limit_s = self.config.reload.verify_timeout_s
        held = await invariants.rehearse(tx, self.workshop.watchdog, limit_s, _QUICK_CHECK_S)
        with self.candidates.chain(tx):
            checked = await self._check(tx, "rehearsal")
            again = await replay(tx, self.workshop.watchdog, limit_s)
            return ", ".join(filter(None, (*held, checked, *again)))

    # -- the pause: calls wait --------------------------------------------------------------

    async def _drain_in_pause(self, tx: Transaction) -> str:
        tx.on_undo("let the states be saved again", tx.release_moments)
        for one in tx.each():  # in the order of names: two transactions cannot wait for each other
            await one.slot.persistence.moment.acquire()
            tx.moments.append(one.slot.persistence.moment)
        tx.drain = Drain([one.slot.gate for one in tx.each()])
        tx.on_undo("open the gates", lambda: self._reopen(tx))
        tx.drain.close()
        policies = {one.name: one.slot.config.drain_policy for one in tx.each()}
        tx.drained = await tx.drain.wait(drain_limit(tx, self.config), policies)
        tx.on_undo("let the tasks go on", tx.release_tasks)
        for one in tx.each():
            one.slot.tasks.hold()
        seal_outlived(tx)
        return ""

    async def _snapshot_in_pause(self, tx: Transaction) -> str:
        invariants.note(tx, self.config.reload.verify_timeout_s)
        for one in tx.each():
            await self._guarded(tx, one, one.state.snapshot(tx.drained))
        return f"{sum(one.state.records for one in tx.each())} records"

    async def _migrate_in_pause(self, tx: Transaction) -> str:
        for one in tx.each():
            await self._guarded(tx, one, one.state.migrate(tx.drained))
        return "; ".join(line for one in tx.each() for line in one.path.steps)

    async def _swap_in_pause(self, tx: Transaction) -> str:
        before = {one.name: one.old for one in tx.each()}
        tx.on_undo("put the routing table back", lambda: drop(self.routes.assign(before)))
        self.routes.assign({one.name: one.new for one in tx.each()})
        return ", ".join(f"{one.name}: {one.old.number} -> {one.new.number}" for one in tx.each())

    async def _restore_in_pause(self, tx: Transaction) -> str:
        for one in tx.each():
            await one.state.restore(tx.drained)
            await self.candidates.start(tx, one)
        return ""

    async def _verify_in_pause(self, tx: Transaction) -> str:
        held = await invariants.verify(tx, self.config.reload.verify_timeout_s)
        return ", ".join(filter(None, (*held, await self._check(tx, "pause"))))

    async def _commit_in_pause(self, tx: Transaction) -> None:
        await self._write_commit_record(tx)
        # The point of no return: from here only forward, and nothing stops it half-way.
        tx.forget_undo()
        if any(one.slot.tasks.holds for one in tx.each()):
            await settled(self.candidates.end_tasks(tx))
        self._let_serve(tx)
        await settled(self._keep(tx))

    def _let_serve(self, tx: Transaction) -> None:
        """Let the candidates serve: what fails now is told, and the gates open all the same."""
        try:
            for one in tx.each():
                one.state.committed()
                one.new.started_at = utc_now()
                self.candidates.run_tasks(one)
        except Exception as error:
            tx.warnings.append(f"after the commit record: {type(error).__name__}: {error}")
        finally:
            self._reopen(tx)

    async def _keep(self, tx: Transaction) -> None:
        await keep_left_over(tx, self.workshop)
        tx.release_moments()
        for one in tx.each():
            one.slot.persistence.committed()

    async def _write_commit_record(self, tx: Transaction) -> None:
        """Write the record; when the writing fails, what the disk says decides."""
        try:
            self.journal.commit_now(tx.id, self.candidates.committed(tx))
        except BaseException:
            if not await is_committed(self.journal, tx.id, tx.names):
                raise

    # -- the end ----------------------------------------------------------------------------

    def _reopen(self, tx: Transaction) -> None:
        """Open the gates for whatever the routing table says now."""
        assert tx.drain is not None, "the gates were never closed"
        tx.messages_held = sum(one.slot.inbox.queued for one in tx.each())
        tx.held = tx.drain.reopen(
            {one.name: self.routes.current(one.name).lane for one in tx.each()}
        )

    async def _fail(self, tx: Transaction, error: BaseException) -> ReloadReport:
        if tx.decided:  # it is committed: what failed is told, and everything goes on
            tx.warnings.append(f"after the commit record: {type(error).__name__}: {error}")
            return report_of(tx, Outcome.COMMITTED)
        waited = tx.course.calls_waited
        described = failure_of(tx, error)
        failures = await tx.undo()
        tx.flush()
        outcome = Outcome.ROLLED_BACK if waited else Outcome.REJECTED
        self._release(tx)
        return report_of(tx, outcome, described, failures)

    def _release(self, tx: Transaction) -> None:
        """Free what a transaction has copied in vain, in slices, while the old version serves."""
        for one in tx.each():
            if one.transfer is not None and tx.back is None:
                task = asyncio.create_task(one.transfer.settle(), name=f"release {one.name}")
                self._releasing.add(task)
                task.add_done_callback(self._releasing.discard)

    async def _close(self, tx: Transaction, report: ReloadReport) -> ReloadReport:
        tx.flush()
        try:
            await settled(self.journal.finish(tx.id, report))
        except Exception as error:  # the outcome stands; only its story was not written
            text = f"the report was not written to the journal: {error}"
            report = msgspec.structs.replace(report, warnings=(*report.warnings, text))
        if report.committed:
            for one in tx.each():
                self.bus.publish(
                    ModuleLoaded(
                        name=one.name,
                        label=one.new.definition.label,
                        digest=one.new.version.digest,
                        generation=one.new.number,
                    )
                )
            self._begin_probation(tx, report)
        self.bus.publish(ReloadEnded(id=tx.id, report=report))
        return report

    def _begin_probation(self, tx: Transaction, report: ReloadReport) -> None:
        countdown = Countdown(0.0 if tx.back else self.config.reload.probation_s)
        watch = None
        if tx.reason != "rollback" and countdown.left_s and self.on_trip is not None:
            watch = Watch(tx, self.config, countdown, self.workshop.watchdog, self.bus)
            watch.on_trip, watch.on_end = self.on_trip, partial(self._write_probation, tx, report)
        retire, stop = self.retirement.retire, self.candidates.stop
        probation = Probation(tx, countdown, retire, stop, self.bus, watch)
        for one in tx.each():
            one.slot.probation = probation

    async def _write_probation(
        self, tx: Transaction, report: ReloadReport, found: ProbationReport
    ) -> None:
        await self.journal.finish(tx.id, msgspec.structs.replace(report, probation=found))

    async def _check(self, tx: Transaction, where: str) -> str:
        deadline = perf_counter() + self.config.reload.verify_timeout_s
        names: list[str] = []
        for one in tx.each():
            if tx.back is not None:
                continue  # it has served before, and its state was followed write by write
            with self._inconclusive(tx, one, where):
                results = await run_checks(
                    one.name,
                    one.new.definition.checks,
                    one.new.methods,
                    where=where,
                    limit_s=max(deadline - perf_counter(), 0.001),
                    watchdog=self.workshop.watchdog,
                    skip=one.slow_checks if where == "pause" else (),
                )
                if where == "rehearsal":
                    one.slow_checks = _slow(one, results)
                names += [f"{one.name}.{result.name}" for result in results]
        tx.checks_passed += len(names)
        return ", ".join(names)

    @contextmanager
    def _inconclusive(self, tx: Transaction, one: Participant, where: str) -> Iterator[None]:
        """Leave the last word to the pause, when a check may need what `on_start` opens."""
        try:
            yield
        except Exception as error:
            sure = "on_start" not in one.new.definition.functions or not one.new.alive
            if where == "pause" or sure:
                raise
            tx.warnings.append(
                f"{error.args[0] if error.args else error}; asked again after on_start "
                '(mark it @check(when="pause") to leave the rehearsal out)'
            )


def _slow(one: Participant, results: Iterable[CheckResult]) -> frozenset[str]:
    """Name the checks that are too slow to be asked again while calls wait."""
    asked_again = {check.name for check in one.new.definition.checks if check.when == "both"}
    return frozenset(
        result.name
        for result in results
        if result.seconds > _QUICK_CHECK_S[one.state.mode] and result.name in asked_again
    )
