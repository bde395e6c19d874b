"""The agenda: holds requests until the policies let them go, and answers every one of them.

One task looks at all open requests whenever something has happened or a time has come. What may go
is handed to the scheduler, which knows which modules are free. Nothing here touches a module.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Final

from replank.config import Config
from replank.errors import HostStopped, Overloaded, ReplankError, UsageError
from replank.instrumentation.events import Bus, ReloadDeferred, Warned
from replank.report import ReloadReport
from replank.scheduling.batching import TiedTo, groups_of, may_join
from replank.scheduling.clock import Clock
from replank.scheduling.entries import NOW, Entry, Scheduled, Wishes
from replank.scheduling.moments import next_of_cron
from replank.scheduling.policies import Policies, Verdict, backoff_s, worth_retrying
from replank.scheduling.scheduler import ReloadScheduler, Request
from replank.scheduling.ticket import Ticket
from replank.traffic.calls import outside_chain

_ANSWERED_KEPT: Final = 50
_TELL_AGAIN_S: Final = 60.0
"""A follower hears at least this often that its request still waits: no connection times out."""


class Agenda:
    """Take requests with wishes; hand them to the scheduler when the policies allow it.

    Args:
        scheduler: Runs what may go.
        policies: Say what may go.
        tied_to: Returns modules with everything that uses them or that they use.
        clock: What time it is.
        bus: Is told what waits, and why.
    """

    def __init__(
        self,
        scheduler: ReloadScheduler,
        policies: Policies,
        tied_to: TiedTo,
        clock: Clock,
        bus: Bus,
    ) -> None:
        self.policies = policies
        self.clock = clock
        self.on_change: Callable[[], None] = lambda: None
        """Called when what must survive a restart has changed."""
        self._scheduler = scheduler
        self._tied_to = tied_to
        self._bus = bus
        self._open: dict[str, Entry] = {}
        self._answered: deque[Scheduled] = deque(maxlen=_ANSWERED_KEPT)
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._last_number = 0
        self._stopped = False

    # -- requests -----------------------------------------------------------------------------

    def submit(self, request: Request, wishes: Wishes = NOW) -> Ticket:
        """Take a request; one that may go at once is with the scheduler when this returns.

        Args:
            request: What to reload.
            wishes: When and how.

        Raises:
            HostStopped: The host takes no more requests.
            Overloaded: Too many wait already.
        """
        return self.add(request, wishes, durable=False).ticket

    def add(self, request: Request, wishes: Wishes, *, durable: bool) -> Entry:
        """Take a request and return where it stands.

        Args:
            request: What to reload.
            wishes: When and how.
            durable: Whether it is remembered over a restart.

        Raises:
            HostStopped: The host takes no more requests.
            Overloaded: Too many wait already.
        """
        if self._stopped:
            raise HostStopped("the host takes no more reloads", do="start it again")
        config = self.policies.config.schedule
        if len(self._open) >= config.max_waiting:
            raise Overloaded(
                "too many reloads wait for their time",
                found=f"{len(self._open)} requests",
                expected=f"at most schedule.max_waiting = {config.max_waiting}",
                do="look at them: replank schedule list",
            )
        now = self.clock.now()
        self._last_number += 1
        ticket = Ticket(frozenset(request.targets))
        due = now if wishes.due is None else wishes.due
        entry = Entry(f"s{self._last_number}", request, wishes, ticket, due, now, durable=durable)
        if may_join(entry):
            entry.debounced_until = due + config.debounce_s
        self._supersede(entry, now)
        self._open[entry.id] = entry
        self._turn()
        self._changed(entry)
        return entry

    def restore(self, entries: Iterable[Entry], paused: Iterable[str], last_number: int) -> None:
        """Take up what an earlier life has left; what was due meanwhile is done now.

        Args:
            entries: Open requests.
            paused: Modules whose requests wait; "*" for all.
            last_number: Of the requests made so far.
        """
        now = self.clock.now()
        self._last_number = max(self._last_number, last_number)
        self.policies.paused |= set(paused)
        for entry in entries:
            if entry.wishes.cron is not None and entry.due < now:
                # What was missed while nothing ran is not made up for: the next time counts.
                entry.due = self._next_time(entry.wishes.cron, now)
            self._open[entry.id] = entry
        self._turn()

    def cancel(self, entry_id: str) -> Scheduled:
        """Forget a request that was not taken up, and tell whoever waits for it.

        Args:
            entry_id: Its id.

        Raises:
            UsageError: There is no such request, or it runs already.
        """
        entry = self._open.get(entry_id)
        if entry is None or entry.standing == "running":
            raise UsageError(
                f"request {entry_id} cannot be cancelled",
                found="it runs already" if entry else "no open request of that id",
                expected=", ".join(one.id for one in self.waiting()) or "none: nothing waits",
                do="replank schedule list shows what waits",
            )
        entry.standing = "cancelled"
        error = UsageError(f"request {entry_id} was cancelled", do="ask again")
        self._close(entry, _failing(error))
        return entry.record()

    def pause(self, names: Iterable[str] = ()) -> None:
        """Let requests wait until they are resumed.

        Args:
            names: Modules; none for all.
        """
        self.policies.paused |= set(names) or {"*"}
        self._kick()

    def resume(self, names: Iterable[str] = ()) -> None:
        """Let requests go on.

        Args:
            names: Modules; none for all.
        """
        self.policies.paused -= set(names) or set(self.policies.paused)
        self._kick()

    def waiting(self) -> tuple[Entry, ...]:
        """Return the open requests, soonest first."""
        return tuple(sorted(self._open.values(), key=_order))

    def answered(self) -> tuple[Scheduled, ...]:
        """Return the last requests that had to wait and were answered, newest first."""
        return tuple(reversed(self._answered))

    @property
    def last_number(self) -> int:
        """Number of the newest request."""
        return self._last_number

    def reconfigure(self, config: Config) -> None:
        """Judge by another configuration from now on."""
        self.policies.config = config
        self._turn()

    async def stop(self) -> None:
        """Take no more requests and answer those that wait; the durable ones are remembered."""
        self._stopped = True
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        error = HostStopped("the host stopped before the reload began")
        for entry in self._open.values():
            if entry.standing == "waiting":
                entry.answer(_failing(error))

    # -- inside -------------------------------------------------------------------------------

    def _kick(self) -> None:
        self._turn()
        self.on_change()

    def _changed(self, entry: Entry) -> None:
        if entry.durable:
            self.on_change()

    async def _run(self) -> None:
        while any(one.standing == "waiting" for one in self._open.values()):
            self._news.clear()
            until = self._look()
            await self.clock.wait(self._news, until)
        self._task = None

    def _turn(self) -> None:
        """Look at once, and have the task look again when it has to."""
        if self._stopped:
            return
        self._look()
        self._news.set()
        if self._task is None and any(one.standing == "waiting" for one in self._open.values()):
            # The request may come from inside a call; the schedule is no part of its chain.
            self._task = asyncio.create_task(
                self._run(), name="reload schedule", context=outside_chain()
            )

    def _look(self) -> float | None:
        """Hand over what may go; return when to look again."""
        now = self.clock.now()
        verdicts = {
            entry.id: self.policies.judge(entry, now)
            for entry in self.waiting()
            if entry.standing == "waiting"
        }
        ripe = [self._open[key] for key, verdict in verdicts.items() if verdict.go]
        # Those that only wait for others to join them: one that is ripe may take them along.
        early = [
            self._open[key]
            for key, verdict in verdicts.items()
            if verdict.gathers and self._open[key] not in ripe
        ]
        for group in groups_of([*ripe, *early], self._tied_to):
            if any(one in ripe for one in group):
                self._begin(group, now)
        for key, verdict in verdicts.items():
            entry = self._open.get(key)
            if entry is not None and entry.standing == "waiting":
                self._tell(entry, verdict, now)
        times = [one.until for one in verdicts.values() if one.until is not None]
        return min(times, default=None)

    def _begin(self, group: list[Entry], now: float) -> None:
        targets = {name: target for one in group for name, target in one.request.targets.items()}
        request = replace(
            group[0].request,
            targets=targets,
            reason=" + ".join(dict.fromkeys(one.request.reason for one in group)),
            on_phase=_told_to(group),
            priority=max(one.wishes.rank for one in group),
        )
        self.policies.begin(frozenset(targets), now)
        for one in group:
            one.standing, one.why = "running", ""
        try:
            ticket = self._scheduler.submit(request)
        except ReplankError as error:
            for one in group:
                self._close(one, _failing(error))
            return
        for one in group:
            one.answer(ticket.lead)
        ticket.on_answer(lambda answer: self._ended(group, answer))

    def _ended(self, group: list[Entry], answer: asyncio.Future[ReloadReport]) -> None:
        error = answer.exception()
        for entry in group:
            if error is not None:
                self._close(entry, _failing(error))
            else:
                self._reported(entry, answer.result())
        if not self._stopped:
            self._turn()

    def _reported(self, entry: Entry, report: ReloadReport) -> None:
        entry.last = report
        config = self.policies.config.schedule
        retries = config.retries if entry.wishes.retries is None else entry.wishes.retries
        if entry.attempt < retries and worth_retrying(report) and not self._stopped:
            entry.attempt += 1
            entry.standing, entry.ripe_since = "waiting", None
            entry.due = self.clock.now() + backoff_s(
                entry.attempt, config.retry_backoff_s, config.retry_backoff_max_s
            )
            return
        entry.runs += 1
        if entry.repeats and not self._stopped:
            entry.standing, entry.attempt, entry.ripe_since = "waiting", 0, None
            entry.due = self._next_time(entry.wishes.cron or "", self.clock.now())
            entry.answer(_answering(report))
            self._changed(entry)
            return
        entry.standing = "answered"
        self._close(entry, _answering(report))

    def _close(self, entry: Entry, act: Callable[[Ticket], None]) -> None:
        self._open.pop(entry.id, None)
        if entry.durable or entry.told is not None:
            self._answered.append(entry.record())
        entry.answer(act)
        self._changed(entry)
        self._news.set()

    def _supersede(self, newer: Entry, now: float) -> None:
        """Let a newer request take the place of older ones for the same moment and modules."""
        if not newer.reads_source:
            return
        for older in list(self._open.values()):
            if (
                older.standing == "waiting"
                and older.reads_source
                and not (older.repeats or newer.repeats)
                and older.modules <= newer.modules
                and (max(older.due, now) == max(newer.due, now) or older.attempt)
            ):
                older.standing = "superseded"
                newer.followers += [older.ticket, *older.followers]
                newer.durable = newer.durable or older.durable
                if older.wishes.rank > newer.wishes.rank:
                    newer.wishes = replace(newer.wishes, priority=older.wishes.priority)
                newer.debounced_until = min(newer.debounced_until, older.debounced_until)
                older.followers, older.ticket = [], Ticket(older.modules)
                older.why = f"{newer.id} has taken its place"
                self._close(older, lambda _: None)

    def _tell(self, entry: Entry, verdict: Verdict, now: float) -> None:
        entry.why = verdict.why
        news = entry.told is None or entry.told[0] != verdict.why
        if not news and entry.told is not None and now < entry.told[1] + _TELL_AGAIN_S:
            return
        entry.told = (verdict.why, now)
        event = ReloadDeferred(
            id=entry.id,
            modules=tuple(sorted(entry.modules)),
            why=verdict.why,
            until=verdict.until,
            priority=entry.wishes.priority,
        )
        if news:
            self._bus.publish(event)
        if entry.request.on_phase is not None:
            entry.request.on_phase(event)

    def _next_time(self, cron: str, now: float) -> float:
        try:
            return next_of_cron(cron, now, self.policies.hours("").zone)
        except UsageError as error:  # it was a good line when it was made
            self._bus.publish(Warned(text=f"a cron line names no more moments: {error.what}"))
            return float("inf")


def _failing(error: BaseException) -> Callable[[Ticket], None]:
    return lambda ticket: ticket.fail(error)


def _answering(report: ReloadReport) -> Callable[[Ticket], None]:
    return lambda ticket: ticket.answer(report)


def _order(entry: Entry) -> tuple[int, float, int]:
    return -entry.wishes.rank, entry.due, int(entry.id[1:])


def _told_to(group: list[Entry]) -> Callable[..., None] | None:
    listeners = [one.request.on_phase for one in group if one.request.on_phase is not None]
    if len(listeners) <= 1:
        return listeners[0] if listeners else None

    def tell(event: object) -> None:
        for listener in listeners:
            listener(event)  # type: ignore[arg-type]

    return tell


__all__ = ["Agenda"]
