"""How long calls over HTTP take, in short ticks: what the dashboard draws.

The calls are timed at the door, so a host without a dashboard pays nothing for this. What is kept
is bounded by time, however many calls there are: a tick holds counts, not calls.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from typing import Final

import msgspec

TICK_S: Final = 0.5
TICKS_MAX: Final = 600
"""Five minutes of ticks; older ones are left out."""
_BOUNDS_S: Final = tuple(0.00001 * 1.25**step for step in range(70))
"""Upper bounds of what is counted together, each a quarter above the last: 10 µs to a minute."""
_FAILED_FROM: Final = 500


class Tick(msgspec.Struct, frozen=True, kw_only=True):
    """The calls that were answered within one tick."""

    number: int
    """Ticks since the epoch: the tick began at `number * TICK_S` Unix seconds."""
    calls: int
    failed: int
    """Of these, how many were answered 500 or above."""
    typical_s: float
    """The median, up to a quarter too long."""
    longest_s: float


class _Counts:
    __slots__ = ("calls", "failed", "longest_s", "number", "under")

    def __init__(self, number: int) -> None:
        self.number = number
        self.calls = 0
        self.failed = 0
        self.longest_s = 0.0
        self.under = [0] * (len(_BOUNDS_S) + 1)


class Meter:
    """Count calls by ticks.

    Args:
        clock: Returns Unix seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._ticks: deque[_Counts] = deque(maxlen=TICKS_MAX)

    def note(self, seconds: float, status: int) -> None:
        """Count a call that was answered just now.

        Args:
            seconds: From its arrival to the beginning of its answer.
            status: The answer's HTTP status.
        """
        number = int(self._clock() / TICK_S)
        if not self._ticks or self._ticks[-1].number < number:  # a clock set back counts here
            self._ticks.append(_Counts(number))
        tick = self._ticks[-1]
        tick.calls += 1
        tick.failed += status >= _FAILED_FROM
        tick.longest_s = max(tick.longest_s, seconds)
        tick.under[bisect_left(_BOUNDS_S, seconds)] += 1

    def after(self, number: int) -> tuple[Tick, ...]:
        """Return the ticks after one; the newest may still grow, so ask for it again.

        Args:
            number: Of the last tick that is complete for the reader.
        """
        return tuple(_finished(tick) for tick in self._ticks if tick.number > number)

    def now(self) -> int:
        """Return the number of the tick that is now."""
        return int(self._clock() / TICK_S)


def _finished(tick: _Counts) -> Tick:
    half, seen, place = (tick.calls + 1) // 2, 0, 0
    for place, count in enumerate(tick.under):  # noqa: B007 - where it stopped is the answer
        seen += count
        if seen >= half:
            break
    bound = _BOUNDS_S[min(place, len(_BOUNDS_S) - 1)]
    return Tick(
        number=tick.number,
        calls=tick.calls,
        failed=tick.failed,
        typical_s=min(bound, tick.longest_s),
        longest_s=tick.longest_s,
    )


__all__ = ["TICKS_MAX", "TICK_S", "Meter", "Tick"]
