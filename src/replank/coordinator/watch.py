"""Watch a version on probation: its calls beside those of the version before, and its own checks.

The calls of the old version are observed in the reload's window, those of the new one from its
commit until the probation ends. What trips sends the whole transaction back, once.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from replank.code.generation import Generation
from replank.config import Config
from replank.coordinator.growing import Growing
from replank.coordinator.slot import Slot
from replank.coordinator.transaction import Participant, Transaction
from replank.definition import CallKind
from replank.instrumentation.events import Bus, ProbationEnded, ProbationStarted, Warned
from replank.memory import resident_bytes
from replank.report import CallReport, ProbationReport
from replank.traffic.observing import Observer, Seen
from replank.verification.checks import is_cancelled, run_checks
from replank.verification.comparison import Sides, judge
from replank.verification.watchdog import Watchdog

OnTrip = Callable[[Transaction, str], None]
OnEnd = Callable[[ProbationReport], Awaitable[None]]


@contextmanager
def window_observed(tx: Transaction, config: Config) -> Iterator[None]:
    """Time the calls of the versions that serve while a reload is in its window."""
    for one in tx.each():
        # The longest call without this reload's pause: the certificate sets it beside the wait.
        one.slot.gate.longest_call_s, one.old.lane.timed = 0.0, True
    look_at_calls(tx, config)
    try:
        yield
    finally:
        for one in tx.each():
            one.old.lane.timed = False
            if not _on_probation(one.slot):  # else it was rejected, and they are looked at still
                leave_alone(one.slot, one.old)


def look_at_calls(tx: Transaction, config: Config) -> None:
    """Look at the calls of the versions that serve, when a probation will need to compare."""
    if config.probation.observe and config.reload.probation_s > 0:
        for one in tx.each():
            observe(one.slot, one.old)


def _on_probation(slot: Slot) -> bool:
    watch = slot.probation.watch if slot.probation is not None else None
    return watch is not None and watch.active


def observe(slot: Slot, generation: Generation) -> None:
    """Begin to look at the calls of a generation that serves."""
    calls = generation.definition.calls
    if generation.observer is None:
        names = [name for name, call in calls.items() if call.kind is not CallKind.STREAM]
        generation.observer = Observer(generation.lane, names)
    if not generation.observer.on:
        generation.observer.start()
        slot.handle._serve(generation.lane)


def leave_alone(slot: Slot, generation: Generation) -> None:
    """Look at the calls of a generation no longer."""
    if generation.observer is None or not generation.observer.on:
        return
    generation.observer.stop()
    if slot.gate.lane is generation.lane:
        slot.handle._serve(generation.lane)


class Countdown:
    """Seconds that are left, by the loop's clock; it can be held.

    Args:
        seconds: How many at the beginning.
    """

    def __init__(self, seconds: float) -> None:
        self._left_s = seconds
        self._since: float | None = asyncio.get_running_loop().time()

    @property
    def held(self) -> bool:
        """Whether it stands still."""
        return self._since is None

    @property
    def left_s(self) -> float:
        """How many are left; never less than 0."""
        if self._since is None:
            return self._left_s
        return max(0.0, self._left_s - (asyncio.get_running_loop().time() - self._since))

    def hold(self) -> None:
        """Stand still."""
        self._left_s, self._since = self.left_s, None

    def go_on(self) -> None:
        """Count on from where it stood."""
        if self._since is None:
            self._since = asyncio.get_running_loop().time()


class Watch:
    """Watches one transaction from its commit to the end of its probation.

    Args:
        tx: The transaction that was committed.
        config: Limits.
        countdown: How long.
        watchdog: Interrupts a check that holds the loop.
        bus: Is told.

    Attributes:
        on_trip: Has the whole transaction go back, and returns at once.
        on_end: Is given the report when all is over.
    """

    def __init__(
        self,
        tx: Transaction,
        config: Config,
        countdown: Countdown,
        watchdog: Watchdog,
        bus: Bus,
    ) -> None:
        self._tx = tx
        self._config = config
        self._countdown = countdown
        self._watchdog = watchdog
        self._bus = bus
        self.on_trip: OnTrip | None = None
        self.on_end: OnEnd | None = None
        self._state = "watching"
        self._tripped: str | None = None
        self._checks_passed = 0
        self._asked_s = config.reload.probation_s
        """Seconds that were left when the checks were asked last."""
        self._slower_since: dict[tuple[str, str], float] = {}
        """By module and call, the seconds that were left when it was first found slower."""
        self._last: tuple[CallReport, ...] = ()
        self._growing: Growing | None = None
        self._memory_before = 0
        self._memory = 0
        self._task: asyncio.Task[None] | None = None

    @property
    def active(self) -> bool:
        """Whether it watches still, or is held."""
        return self._state == "watching"

    async def measure(self) -> None:
        """Read what the old versions hold; before `begin`, while they are in memory."""
        self._memory_before = resident_bytes()
        if self._config.probation.observe:
            growing = Growing(self._tx, self._config.probation.leak_budget_bytes)
            await growing.begin()
            self._growing = growing

    def begin(self) -> None:
        """Watch, from now on."""
        if self._tripped is not None:
            return
        self._state = "watching"
        if self._config.probation.observe:
            for one in self._tx.each():
                observe(one.slot, one.new)
        names = self._tx.names
        self._bus.publish(
            ProbationStarted(id=self._tx.id, modules=names, seconds=self._countdown.left_s)
        )
        self._task = asyncio.create_task(self._watch(), name=f"watch {', '.join(names)}")

    def hold(self) -> None:
        """Neither judge nor let time pass, until `go_on`."""
        self._countdown.hold()

    def go_on(self) -> None:
        """Judge again, and let time pass."""
        self._countdown.go_on()

    async def end(self, state: str) -> None:
        """Stop watching; what was seen is told and written down. May be called twice.

        Args:
            state: How it ended, as in `ProbationReport`.
        """
        if not self.active:
            return
        self._state = state
        task, self._task = self._task, None
        if task is not None and task is not asyncio.current_task():
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        if self._config.probation.observe:
            self._last = self._judged()
        for one in self._tx.each():
            leave_alone(one.slot, one.new)
        self._memory = resident_bytes()
        report = self.report()
        self._bus.publish(ProbationEnded(id=self._tx.id, report=report))
        for line in report.growing:
            self._bus.publish(Warned(text=f"on probation {line}"))
        try:
            if self.on_end is not None:
                await self.on_end(report)
        except Exception as error:  # it is over all the same; only its story was not written
            text = f"the end of probation was not written to the journal: {error}"
            self._bus.publish(Warned(text=text))

    def report(self) -> ProbationReport:
        """Return how it goes, or how it went."""
        calls = self._last
        if self.active and self._config.probation.observe:
            calls = self._judged()
        return ProbationReport(
            id=self._tx.id,
            modules=self._tx.names,
            state="paused" if self.active and self._countdown.held else self._state,
            left_s=self._countdown.left_s if self.active else 0.0,
            tripped=self._tripped,
            checks_passed=self._checks_passed,
            calls=calls,
            growing=self._growing.lines if self._growing is not None else (),
            memory_before_bytes=self._memory_before,
            memory_bytes=resident_bytes() if self.active else self._memory,
        )

    async def _watch(self) -> None:
        every_s = self._config.probation.look_every_s
        while self._countdown.left_s > 0:
            await asyncio.sleep(min(every_s, self._countdown.left_s) or every_s)
            if self._countdown.held:
                continue
            found = await self._failed_check() or await self._failed_call() or await self._leaking()
            if found is not None and not self._countdown.held:
                self._tripped = found
                await self.end("tripped")
                if self.on_trip is not None:
                    self.on_trip(self._tx, found)
                return
        await self.end("passed")

    async def _failed_check(self) -> str | None:
        """Ask the modules' own checks when it is time; say which one is not well."""
        if self._asked_s - self._countdown.left_s < self._config.probation.check_every_s:
            return None
        self._asked_s = self._countdown.left_s
        for one in self._tx.each():
            try:
                with self._watchdog:
                    passed = await run_checks(
                        one.name,
                        one.new.definition.checks,
                        one.new.methods,
                        where="pause",
                        limit_s=self._config.reload.verify_timeout_s,
                        watchdog=self._watchdog,
                        skip=one.slow_checks,
                    )
            except asyncio.CancelledError:
                if is_cancelled():
                    raise
                return f"{one.name}: a check was cancelled from within"
            except Exception as error:
                return f"{one.name}: {error.args[0] if error.args else error}"
            self._checks_passed += len(passed)
        return None

    async def _failed_call(self) -> str | None:
        if not self._config.probation.observe:
            return None
        for one in self._tx.each():
            for sides in self._sides(one):
                judged = judge(sides, self._config.probation)
                found = judged.tripped or self._lasting(judged)
                if found is not None:
                    return found
                await asyncio.sleep(0)  # a comparison takes about as long as a call
        return None

    async def _leaking(self) -> str | None:
        return await self._growing.look() if self._growing is not None else None

    def _lasting(self, judged: CallReport) -> str | None:
        """Return what is slower, once it has been slower at every look for long enough."""
        key, left_s = (judged.module, judged.call), self._countdown.left_s
        if judged.slower is None:
            self._slower_since.pop(key, None)
            return None
        lasted_s = self._slower_since.setdefault(key, left_s) - left_s
        return judged.slower if lasted_s >= self._config.probation.latency_for_s else None

    def _judged(self) -> tuple[CallReport, ...]:
        return tuple(
            judge(sides, self._config.probation)
            for one in self._tx.each()
            for sides in self._sides(one)
        )

    def _sides(self, one: Participant) -> list[Sides]:
        seen = one.new.observer.seen if one.new.observer is not None else {}
        old, enough = one.old.observer, self._config.probation.min_calls
        return [
            Sides(one.name, call, old.baseline(call, enough) if old else Seen(), after)
            for call, after in seen.items()
        ]
