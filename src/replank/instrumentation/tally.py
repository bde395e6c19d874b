"""Count what happened, so that metrics have something to read: plain numbers, bounded for ever.

A listener of the bus. Nothing here is on the path of a call; every label is one of a few words
that the code itself knows, never text from a module.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from typing import Final

from replank.instrumentation import events
from replank.report import Outcome, Phase, PhaseReport, ReloadReport

PAUSE_BOUNDS_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
WORK_BOUNDS_S: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 120.0, 600.0)
_PHASES: Final = frozenset(Phase)


class Histogram:
    """How many values fell under each bound.

    Args:
        bounds: Upper bounds, rising.
    """

    __slots__ = ("_counts", "bounds", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.total = 0.0
        """Sum of all values."""
        self._counts = [0] * (len(self.bounds) + 1)

    @property
    def count(self) -> int:
        """How many values there were."""
        return sum(self._counts)

    def observe(self, value: float) -> None:
        """Count a value."""
        self._counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def cumulative(self) -> list[tuple[float, int]]:
        """Return for each bound how many values are not above it."""
        found, sum_ = [], 0
        for bound, count in zip(self.bounds, self._counts, strict=False):
            sum_ += count
            found.append((bound, sum_))
        return found


class Tally:
    """Everything that is counted from events; `note` is a listener for `Bus.subscribe`."""

    def __init__(self) -> None:
        self.reloads: Counter[tuple[str, str]] = Counter()
        """By outcome and, when it did not commit, the phase that failed."""
        self.phases: dict[tuple[str, str], Histogram] = {}
        """Seconds by phase and by where: "window" while the old version served, or "pause"."""
        self.pauses = Histogram(PAUSE_BOUNDS_S)
        """Longest wait of a call because of each reload that got so far as to close a gate."""
        self.totals = Histogram(WORK_BOUNDS_S)
        """Seconds from the first to the last phase of each reload."""
        self.calls_held = 0
        self.messages_held = 0
        self.records_migrated = 0
        self.running = 0
        """Reloads that have started and not ended."""
        self.rollbacks = 0
        """Commits that went back to a version before."""
        self.last_success_at = 0.0
        """Unix seconds; 0 before the first."""
        self.last_committed: bool | None = None
        """How the last reload ended; None before the first."""
        self.timer_failures: Counter[str] = Counter()
        """By module."""
        self.worker_ends: Counter[str] = Counter()
        """Processes of isolated modules that ended unasked, by module."""
        self.worker_restarts: Counter[str] = Counter()
        """By module."""
        self.warnings = 0

    def note(self, event: events.Event) -> None:
        """Count an event.

        Args:
            event: What happened.
        """
        match event:
            case events.ReloadStarted():
                self.running += 1
            case events.ReloadEnded():
                self.running = max(0, self.running - 1)
                self._note_report(event.report, event.at)
            case events.TimerFailed():
                self.timer_failures[event.module] += 1
            case events.WorkerEnded():
                self.worker_ends[event.module] += 1
            case events.WorkerRestarted():
                self.worker_restarts[event.module] += 1
            case events.Warned():
                self.warnings += 1

    def _note_report(self, report: ReloadReport, at: float) -> None:
        failed = "" if report.error is None else report.error.phase
        # An error may name a phase of its own; only the eight are labels, or there is no bound.
        self.reloads[report.outcome, failed if failed in _PHASES else ""] += 1
        for phase in report.phases:
            self._note_phase(phase)
        if report.outcome is not Outcome.REJECTED:
            self.pauses.observe(report.pause_s)
        self.totals.observe(report.total_s)
        self.calls_held += report.calls_held
        self.messages_held += report.messages_held
        self.last_committed = report.committed
        if report.committed:
            self.last_success_at = at
            self.records_migrated += sum(one.records_migrated for one in report.modules)
            self.rollbacks += report.reason == "rollback"

    def _note_phase(self, phase: PhaseReport) -> None:
        # What Prepare reports as its seconds was spent while the old version served.
        served = phase.seconds if phase.name is Phase.PREPARE else phase.window_seconds
        waited = 0.0 if phase.name is Phase.PREPARE else phase.seconds
        for where, seconds in (("window", served), ("pause", waited)):
            if seconds > 0:
                key = (str(phase.name), where)
                bounds = PAUSE_BOUNDS_S if where == "pause" else WORK_BOUNDS_S
                self.phases.setdefault(key, Histogram(bounds)).observe(seconds)


__all__ = ["PAUSE_BOUNDS_S", "WORK_BOUNDS_S", "Histogram", "Tally"]
