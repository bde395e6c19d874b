"""Canary: before the swap, a share of the calls of a module without state goes to the candidate.

It comes last before any call waits: the candidate has been probed, tested and checked, and now it
answers real calls, few at first. Its errors and its latency are judged as on probation, against
those of the version that serves at the same time. What trips is rejected, and every later call goes
to the version that served all the while; who has met the candidate already got its answers.

A module that has state is never tried so: its two versions would each change a state of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import typing
from typing import Any, Final

from replank.code.generation import Generation, undeclared_data
from replank.config import Config
from replank.coordinator.deadlines import drain_limit
from replank.coordinator.transaction import Participant, Transaction
from replank.coordinator.watch import Countdown, leave_alone, observe
from replank.definition import Call, CallKind
from replank.errors import CheckError
from replank.hints import is_private
from replank.instrumentation.events import Bus, CanaryMoved
from replank.report import CallReport, Phase, ProbationReport
from replank.traffic.observing import Observer, Seen
from replank.traffic.sharing import Sharing
from replank.verification.comparison import Sides, judge

_SPAWNS: Final = re.compile(rb"\bspawn\b")


async def try_on_share(tx: Transaction, config: Config, bus: Bus) -> None:
    """Let a candidate answer a share of its module's calls, in steps, when the settings ask for it.

    Args:
        tx: The transaction; its candidates have passed the rehearsal.
        config: The steps, and how much is too much.
        bus: Is told of each step.

    Raises:
        CheckError: The candidate did worse than what serves, or was aborted by hand.
    """
    if not config.probation.canary or tx.reason == "rollback":
        return
    stateless = [one for one in tx.each() if not _has_state(one)]
    for one in stateless:
        if (why := _unfit(tx, one)) is not None:
            tx.warnings.append(f"{one.name}: not tried on a share of the calls: {why}")
            return
    if stateless:
        await Canary(tx, stateless[0], config, bus).run()


class Canary:
    """One candidate on a share of the calls.

    Args:
        tx: The transaction.
        one: Its one module.
        config: The steps, and how much is too much.
        bus: Is told of each step.
    """

    def __init__(self, tx: Transaction, one: Participant, config: Config, bus: Bus) -> None:
        self.id = tx.id
        self.modules = tx.names
        self._tx = tx
        self._one = one
        self._config = config
        self._bus = bus
        self._calls = _shareable(one)
        self._sharing = Sharing(one.old.lane, one.new.lane, self._calls)
        self._countdown = Countdown(config.probation.canary_step_s)
        self._decided = asyncio.Event()
        self._aborted: str | None = None
        self._tripped: str | None = None
        self._slower_since: dict[str, float] = {}

    async def run(self) -> None:
        """Go through the steps.

        Raises:
            CheckError: It tripped, or was aborted.
        """
        one = self._one
        observe(one.slot, one.old)
        one.new.observer = Observer(one.new.lane, self._calls)
        one.new.observer.start()
        self._sharing.start()
        one.slot.handle._serve(one.old.lane)
        one.slot.canary = self
        passed = False
        try:
            await self._steps()
            self._say_what_is_unknown()
            passed = True
        finally:
            one.slot.canary = None
            self._sharing.stop()
            one.slot.handle._serve(one.old.lane)
            one.new.observer.stop()
            leave_alone(one.slot, one.old)
            await self._quiet(passed=passed)

    def report(self) -> ProbationReport:
        """Return how it goes."""
        steps, step_s = self._config.probation.canary, self._config.probation.canary_step_s
        later = sum(step > self._sharing.share for step in steps) * step_s
        return ProbationReport(
            id=self.id,
            modules=self.modules,
            state="paused" if self._countdown.held else "canary",
            left_s=self._countdown.left_s + later,
            tripped=self._tripped,
            share=self._sharing.share,
            calls=self._judged(),
        )

    def promote(self) -> None:
        """Leave the steps to come out: the swap is next."""
        self._decided.set()

    def abort(self, why: str) -> None:
        """Have the candidate rejected.

        Args:
            why: For the report.
        """
        self._aborted = why
        self._decided.set()

    def hold(self) -> None:
        """Neither judge nor let time pass; the share stays as it is."""
        self._countdown.hold()

    def go_on(self) -> None:
        """Judge again, and let time pass."""
        self._countdown.go_on()

    async def _steps(self) -> None:
        config = self._config.probation
        for share in config.canary:
            self._sharing.share = share
            held, self._countdown = self._countdown.held, Countdown(config.canary_step_s)
            if held:
                self._countdown.hold()
            self._bus.publish(CanaryMoved(id=self.id, modules=self.modules, share=share))
            while self._countdown.left_s > 0 and not self._decided.is_set():
                with contextlib.suppress(TimeoutError):
                    wait_s = min(config.look_every_s, self._countdown.left_s)
                    await asyncio.wait_for(self._decided.wait(), wait_s)
                if not self._countdown.held and not self._decided.is_set():
                    self._look()
        if self._aborted is not None:
            raise self._refusal(self._aborted, "nobody who aborts it")

    def _look(self) -> None:
        now = asyncio.get_running_loop().time()
        for judged in self._judged():
            found = judged.tripped
            if judged.slower is None:
                self._slower_since.pop(judged.call, None)
            elif now - self._slower_since.setdefault(judged.call, now) >= (
                self._config.probation.latency_for_s
            ):
                found = found or judged.slower
            if found is not None:
                self._tripped = found
                raise self._refusal(found, "no worse than what serves at the same time")

    def _judged(self) -> tuple[CallReport, ...]:
        config, old, new = self._config.probation, self._one.old.observer, self._one.new.observer
        assert old is not None, "a canary looks at both versions"
        assert new is not None, "a canary looks at both versions"
        return tuple(
            judge(
                Sides(
                    self._one.name,
                    call,
                    old.baseline(call, config.min_calls),
                    new.seen.get(call) or Seen(),
                ),
                config,
            )
            for call in self._calls
        )

    def _refusal(self, found: str, expected: str) -> CheckError:
        return CheckError(
            f"the canary was ended at {self._sharing.share:.1%} of the calls: {found}",
            module=self._one.name,
            phase=Phase.VERIFY,
            found=found,
            expected=expected,
            do="mend the candidate and reload again",
        )

    def _say_what_is_unknown(self) -> None:
        unknown = [one for one in self._judged() if one.unjudged not in (None, "not called")]
        called = [one for one in self._judged() if one.calls_after]
        if not called:
            self._tx.warnings.append(f"{self._one.name}: no call came to the canary")
        self._tx.warnings += [
            f"{one.module}.{one.call}: too few calls to judge in the canary: {one.unjudged}"
            for one in unknown
            if called
        ]

    async def _quiet(self, *, passed: bool) -> None:
        """Wait until the candidate's calls have ended; those of a good one are part of its test.

        Args:
            passed: Whether it has done well so far.

        Raises:
            CheckError: They have not, in the time that a drain gets.
        """
        lane = self._one.new.lane
        try:
            async with asyncio.timeout(drain_limit(self._tx, self._config)):
                await lane.grace()
        except TimeoutError:
            said = f"{lane.in_flight} of its calls did not end in time"
            if passed:
                raise self._refusal(said, "calls that end within the drain timeout") from None
            self._tx.warnings.append(f"{self._one.name}: {said} and go on in the candidate")


def _has_state(one: Participant) -> bool:
    return any(side.definition.state_names for side in (one.old, one.new))


def _unfit(tx: Transaction, one: Participant) -> str | None:
    """Return why a candidate without state cannot answer calls beside the version that serves."""
    if len(tx.participants) > 1:
        return "several modules change together"
    if "on_start" in one.new.definition.functions:
        return "it has an on_start, which runs only while calls wait"
    if _mentions_spawn(one.new):
        return "it spawns tasks, which belong to the version that serves"
    if undeclared_data(one.old):
        return "what serves keeps data that it does not declare"
    if not _shareable(one):
        return "no call of both versions can be tried"
    return None


def _mentions_spawn(generation: Generation) -> bool:
    version = generation.version
    sources = (version.root / name for name in version.files if name.endswith(".py"))
    return any(_SPAWNS.search(source.read_bytes()) for source in sources)


def _shareable(one: Participant) -> tuple[str, ...]:
    """Return the calls that mean the same in both versions, to callers of the old one."""
    old, new = one.old.definition.calls, one.new.definition.calls
    changed = {change.call for change in one.contract_changes if change.breaking}
    return tuple(
        name
        for name in old
        if name in new
        and name not in changed
        and not any(
            _names_own(call) or call.kind is CallKind.STREAM for call in (old[name], new[name])
        )
    )


def _names_own(call: Call) -> bool:
    """Whether a call takes or returns a class of its own version, which the other does not know."""
    return any(_is_own(hint) for hint in call.hints.values())


def _is_own(hint: Any) -> bool:
    if is_private(str(getattr(hint, "__module__", ""))):
        return True
    return any(_is_own(part) for part in typing.get_args(hint) if part is not hint)


__all__ = ["Canary", "try_on_share"]
