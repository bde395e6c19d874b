"""The policies: may this request be taken up now, and if not, why and until when.

| policy            | low | normal | high | critical |
|-------------------|-----|--------|------|----------|
| its time          | yes | yes    | yes  | yes      |
| paused            | yes | yes    | yes  | no       |
| windows and hours | yes | yes    | yes  | no       |
| rate limit        | yes | yes    | no   | no       |
| debounce          | yes | yes    | no   | no       |
| quiet traffic     | yes | yes    | when it asks for it | no |

"yes" means that the policy holds for requests of that priority. They are asked in this order, and
the first that says no is the reason an operator reads.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from replank.config import Config
from replank.hours import Hours
from replank.report import Outcome, Phase, ReloadReport
from replank.scheduling.entries import Entry
from replank.scheduling.moments import said

_HIGH: Final = 2
_CRITICAL: Final = 3
_QUIET_CALLS_PER_S: Final = 1.0
"""What quiet means where nothing is configured and a request asks for it."""
_SAMPLE_S: Final = 1.0

_WORTH_RETRYING: Final = frozenset({"JournalError", "SnapshotError", "StorageError", "StoreError"})
"""Kinds of errors that lie with the machine and not with the candidate."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the policies say; `why` is empty when the request may be taken up."""

    why: str = ""
    until: float | None = None
    """Unix seconds at which to ask again; None to wait for a word of the operator."""

    gathers: bool = False
    """Whether nothing is missing but others that may join it."""

    @property
    def go(self) -> bool:
        """Whether the request may be taken up."""
        return not self.why


GO: Final = Verdict()


@dataclass(slots=True)
class _Traffic:
    calls: int
    at: float
    per_s: float | None = None


@dataclass(slots=True)
class Policies:
    """Judge requests by the configuration and by what has happened.

    Args:
        config: Limits and hours; replaced when the configuration is reloaded.
        calls_of: Returns how many calls and messages a module has had.
    """

    config: Config
    calls_of: Callable[[str], int]
    paused: set[str] = field(default_factory=set)
    """Modules whose requests wait; "*" for all."""
    _begun: dict[str, deque[float]] = field(default_factory=dict)
    _traffic: dict[str, _Traffic] = field(default_factory=dict)

    def judge(self, entry: Entry, now: float) -> Verdict:
        """Say whether a request may be taken up.

        Args:
            entry: The request.
            now: Unix seconds.
        """
        if now < entry.due:
            why = "it is tried again" if entry.attempt else "its time"
            return Verdict(f"{why} at {said(entry.due, self.hours('').zone)}", entry.due)
        if entry.wishes.rank >= _CRITICAL:
            return GO
        verdict = self._paused(entry)
        if verdict.go:
            verdict = self._closed(entry, now)
        if entry.wishes.rank < _HIGH:
            if verdict.go:
                verdict = self._too_often(entry, now)
            if verdict.go and now < entry.debounced_until:
                verdict = Verdict("others may belong to it", entry.debounced_until, gathers=True)
        if verdict.go:
            verdict = self._busy(entry, now)
        return verdict

    def begin(self, modules: frozenset[str], now: float) -> None:
        """Note that a reload of modules was taken up, for the rate limit."""
        for name in modules:
            self._begun.setdefault(name, deque(maxlen=1_000)).append(now)

    def hours(self, module: str) -> Hours:
        """Return the hours of a module; of one without its own, and of "", the common ones."""
        common = self.config.schedule
        own = self.config.modules.get(module)
        windows = own.windows if own and own.windows is not None else common.windows
        quiet = own.quiet_hours if own and own.quiet_hours is not None else common.quiet_hours
        key = (windows, quiet, common.timezone)
        if key not in _parsed:
            _parsed[key] = Hours.parse(*key)
        return _parsed[key]

    def _paused(self, entry: Entry) -> Verdict:
        if "*" in self.paused:
            return Verdict("reloads are paused: replank schedule resume")
        if held := sorted(self.paused & entry.modules):
            return Verdict(f"{', '.join(held)} paused: replank schedule resume {' '.join(held)}")
        return GO

    def _closed(self, entry: Entry, now: float) -> Verdict:
        moment = datetime.fromtimestamp(now, UTC)
        for name in sorted(entry.modules):
            hours = self.hours(name)
            if why := hours.why_closed(moment):
                opening = hours.next_open(moment)
                assert opening is not None, "hours that never open are refused when they are read"
                until = opening.timestamp()
                return Verdict(f"{why} until {said(until, hours.zone)}", until)
        return GO

    def _too_often(self, entry: Entry, now: float) -> Verdict:
        period_s = self.config.schedule.rate_period_s
        for name in sorted(entry.modules):
            limit = self.config.schedule.rate_limit
            own = self.config.modules.get(name)
            if own is not None and own.rate_limit is not None:
                limit = own.rate_limit
            begun = self._begun.get(name, ())
            recent = [at for at in begun if at > now - period_s]
            if limit is not None and len(recent) >= limit:
                until = recent[-limit] + period_s
                text = f"{name} was reloaded {len(recent)} times within {period_s:g} s"
                return Verdict(f"{text}; next at {said(until, self.hours('').zone)}", until)
        return GO

    def _busy(self, entry: Entry, now: float) -> Verdict:
        """Wait for quiet traffic, up to a limit."""
        schedule = self.config.schedule
        wished = entry.wishes.quiet_wait_s
        if wished is None and (schedule.quiet_calls_per_s is None or entry.wishes.rank >= _HIGH):
            return GO
        if entry.ripe_since is None:
            entry.ripe_since = now
        limit_s = schedule.quiet_wait_s if wished is None else wished
        if now >= entry.ripe_since + limit_s:
            return GO
        quiet = schedule.quiet_calls_per_s
        quiet = _QUIET_CALLS_PER_S if quiet is None else quiet
        per_s = [self._rate(name, now) for name in sorted(entry.modules)]
        if all(rate is not None and rate <= quiet for rate in per_s):
            return GO
        until = min(now + _SAMPLE_S, entry.ripe_since + limit_s)
        latest = said(entry.ripe_since + limit_s, self.hours("").zone)
        return Verdict(f"quiet traffic ({quiet:g} calls/s), at the latest {latest}", until)

    def _rate(self, name: str, now: float) -> float | None:
        """Return calls a second, None until there were two looks at it."""
        calls = self.calls_of(name)
        seen = self._traffic.get(name)
        if seen is None or now - seen.at > 5 * _SAMPLE_S:
            self._traffic[name] = _Traffic(calls, now)
            return None
        if now - seen.at >= _SAMPLE_S:
            rate = (calls - seen.calls) / (now - seen.at)
            self._traffic[name] = seen = _Traffic(calls, now, rate)
        return seen.per_s


_parsed: Final[dict[tuple[tuple[str, ...], tuple[str, ...], str], Hours]] = {}


def worth_retrying(report: ReloadReport) -> bool:
    """Say whether the same reload may well succeed later: the fault was not the candidate's.

    Args:
        report: How it ended.
    """
    if report.outcome is Outcome.COMMITTED or report.error is None:
        return False
    if report.error.kind in _WORTH_RETRYING:
        return True
    return report.error.phase in (Phase.DRAIN, Phase.COMMIT)


def backoff_s(attempt: int, first_s: float, most_s: float) -> float:
    """Return how long to wait before the next attempt, in seconds.

    Args:
        attempt: How many there were, from 1.
        first_s: Seconds before the second one.
        most_s: Seconds at most.
    """
    return float(min(most_s, first_s * 2 ** min(attempt - 1, 60)))


__all__ = ["GO", "Policies", "Verdict", "backoff_s", "worth_retrying"]
