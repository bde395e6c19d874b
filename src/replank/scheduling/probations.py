"""What comes after a commit: the version is on probation, and there is a way back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final

from replank.coordinator.coordinator import ReloadCoordinator
from replank.coordinator.slot import Routes, Trying, Watching, WayBack
from replank.coordinator.transaction import Transaction
from replank.errors import HostStopped, UsageError
from replank.instrumentation.events import Bus, Event, PhaseEvent, ReloadEnded
from replank.journal.journal import Journal
from replank.report import ProbationReport
from replank.scheduling.desk import ScheduleDesk
from replank.scheduling.entries import Wishes
from replank.scheduling.scheduler import Request, Target
from replank.scheduling.ticket import Ticket

OnPhase = Callable[[PhaseEvent], None]

PUT_BACK: Final = Wishes(priority="critical")
"""A way back out of trouble waits for no window, no limit and no pause of the schedule."""


class KeepsProbations:
    """The host's calls about what comes after a commit: probation, and the way back."""

    _routes: Routes
    _desk: ScheduleDesk
    _journal: Journal
    _coordinator: ReloadCoordinator
    bus: Bus

    def probation(self, name: str) -> ProbationReport:
        """Say how the version of a module that is on probation does; also how it went.

        Args:
            name: The module's name.

        Raises:
            UnknownModule: There is no such module.
            UsageError: Nothing of it was put on probation.
        """
        if (canary := self._routes.slot(name).canary) is not None:
            return canary.report()
        return _watch_of(self._routes, name).report()

    def on_probation(self) -> tuple[ProbationReport, ...]:
        """Say how every version does that is on probation now, each transaction once."""
        found = (slot.probation for slot in self._routes.slots.values())
        watches = (one.watch for one in found if one is not None)
        # Equal watches are one: a transaction has one, however many modules it has.
        return tuple(one.report() for one in dict.fromkeys(watches) if one and one.active)

    async def promote(self, name: str) -> ProbationReport:
        """End a probation now: the new version stays, what was kept of the old one is freed.

        Of a candidate that is tried on a share of the calls, the steps to come are left out.

        Args:
            name: A module of the transaction; it is promoted as a whole.

        Raises:
            UsageError: The module is not on probation.
        """
        if (canary := self._routes.slot(name).canary) is not None:
            canary.promote()
            return canary.report()
        watch, probation = _active(self._routes, name)
        await watch.end("promoted")
        await probation.end()
        return watch.report()

    def abort(self, name: str, *, on_phase: OnPhase | None = None) -> Ticket:
        """Go back now, the whole transaction, keeping what was written since.

        A candidate that is tried on a share of the calls is rejected; the answer is its report.

        Args:
            name: A module of the transaction.
            on_phase: Is told as phases begin and end.

        Raises:
            UsageError: The module is not on probation.
        """
        if (canary := self._routes.slot(name).canary) is not None:
            ticket = self._answer_of(canary)
            canary.abort("aborted by hand")
            return ticket
        _, probation = _active(self._routes, name)
        request = Request(back_of(probation), "rollback", on_phase, cause="aborted by hand")
        return self._desk.agenda.submit(request, PUT_BACK)

    def pause(self, name: str) -> ProbationReport:
        """Let a probation stand still: it neither passes nor trips until it is resumed.

        Args:
            name: A module of the transaction.

        Raises:
            UsageError: The module is not on probation.
        """
        if (canary := self._routes.slot(name).canary) is not None:
            canary.hold()
            return canary.report()
        watch, _ = _active(self._routes, name)
        watch.hold()
        return watch.report()

    def resume(self, name: str) -> ProbationReport:
        """Let a probation that was paused go on.

        Args:
            name: A module of the transaction.

        Raises:
            UsageError: The module is not on probation.
        """
        if (canary := self._routes.slot(name).canary) is not None:
            canary.go_on()
            return canary.report()
        watch, _ = _active(self._routes, name)
        watch.go_on()
        return watch.report()

    def rollback(self, name: str, *, on_phase: OnPhase | None = None) -> Ticket:
        """Go back to the version committed before, keeping what was written since.

        Args:
            name: The module's name.
            on_phase: Is told as phases begin and end.

        Raises:
            UnknownModule: There is no such module.
            UsageError: It has no version before.
        """
        probation = self._routes.slot(name).probation
        if probation is not None and probation.returnable:
            request = Request(back_of(probation), "rollback", on_phase)
            return self._desk.agenda.submit(request, PUT_BACK)
        previous = self._journal.previous(name)
        if previous is None:
            raise UsageError(
                "there is no version to go back to",
                module=name,
                found="one committed version",
                serves=self._routes.current(name).label,
                do="reload a version first",
            )
        targets = {name: Target(digest=previous.digest)}
        return self._desk.agenda.submit(Request(targets, "rollback", on_phase), PUT_BACK)

    def _answer_of(self, canary: Trying) -> Ticket:
        """Return a ticket for the report of a reload that runs."""
        ticket = Ticket(frozenset(canary.modules))

        def told(event: Event) -> None:
            if isinstance(event, ReloadEnded) and event.id == canary.id:
                unsubscribe()
                ticket.answer(event.report)

        unsubscribe = self.bus.subscribe(told)
        return ticket

    def _end_canaries(self) -> None:
        """Let no candidate be tried any longer: the host stops and waits for running reloads."""
        self._coordinator.stopping = True
        for slot in self._routes.slots.values():
            if slot.canary is not None:
                slot.canary.abort("the host stops")

    def _way_back(self, targets: Mapping[str, Target]) -> WayBack | None:
        """Return the probation whose old generations can serve again, looked up when it begins."""
        probation = self._routes.slot(next(iter(targets))).probation
        if probation is None or not probation.returnable:
            return None
        return probation if probation.participants.keys() == targets.keys() else None

    def _tripped(self, tx: Transaction, cause: str) -> None:
        """Go back by itself; the scheduler waits for nobody, and the events tell the outcome."""
        targets = {one.name: Target(digest=one.old.version.digest) for one in tx.each()}
        cause = f"probation of {tx.id}: {cause}"
        with suppress(HostStopped):  # it is being stopped: its modules end with it
            self._desk.agenda.submit(Request(targets, "rollback", cause=cause), PUT_BACK)


def back_of(probation: WayBack) -> Mapping[str, Target]:
    """Return where each module of a probation goes back to.

    Should the probation end meanwhile, these are reloads to the versions before.
    """
    return {
        one.name: Target(digest=one.old.version.digest) for one in probation.participants.values()
    }


def _watch_of(routes: Routes, name: str) -> Watching:
    probation = routes.slot(name).probation
    if probation is None or probation.watch is None:
        raise UsageError(
            "nothing of this module was put on probation",
            module=name,
            found="no reload since the start, a rollback, or reload.probation_s = 0",
            serves=routes.current(name).label,
            do="reload it first",
        )
    return probation.watch


def _active(routes: Routes, name: str) -> tuple[Watching, WayBack]:
    watch, probation = _watch_of(routes, name), routes.slot(name).probation
    assert probation is not None, "a watch belongs to a probation"
    if not watch.active:
        raise UsageError(
            "this module is not on probation any more",
            module=name,
            found=f"a probation that is over: {watch.report().state}",
            serves=routes.current(name).label,
            do=f"to go back all the same: replank rollback {name}",
        )
    return watch, probation


__all__ = ["KeepsProbations", "back_of"]
