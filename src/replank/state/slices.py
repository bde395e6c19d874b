"""Drive long work in small slices between which traffic goes on.

Work is a generator that yields every few tens of microseconds. Slices of 0.25 / 0.5 / 1 / 2 / 5 ms
give requests a median wait of 0.19 / 0.35 / 0.57 / 1.2 / 2.8 ms; a thread gives 3.2 ms, with 54 ms
at worst. So: slices of 1 ms in the event loop, shorter ones while the loop is busy.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Generator
from typing import Any, TypeVar

T = TypeVar("T")

SLICE_S = 0.001
SLICE_MIN_S = 0.00025
TURNS_MAX = 4
"""Turns of the loop between two slices: a request often takes more than one."""
IDLE_TURN_S = 0.00005
"""A turn shorter than this found nothing to do."""


class Slices:
    """Run generators in slices on the event loop.

    Args:
        slice_s: Longest slice, in seconds.
        between: Called after each slice, for example `CollectorGuard.breathe`.
        clock: Time in seconds.
    """

    def __init__(
        self,
        slice_s: float = SLICE_S,
        *,
        between: Callable[[], None] | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.slice_s = slice_s
        self.longest_s = 0.0
        """Longest slice so far, in seconds."""
        self.count = 0
        self._current = slice_s
        self._between = between
        self._clock = clock

    async def run(self, steps: Generator[Any, None, T]) -> T:
        """Run a generator to its end and return its value; close it when cancelled or failing."""
        clock = self._clock
        try:
            while True:
                begin = clock()
                end = begin + self._current
                try:
                    next(steps)  # at least one, however short the slice
                    while clock() < end:
                        next(steps)
                except StopIteration as stop:
                    result: T = stop.value
                    return result
                finally:
                    self.count += 1
                    self.longest_s = max(self.longest_s, clock() - begin)
                if self._between is not None:
                    self._between()
                await self._let_traffic_run()
        finally:
            steps.close()

    async def _let_traffic_run(self) -> None:
        """Give the loop some turns, and take shorter slices when it needed them."""
        clock = self._clock
        begin = clock()
        for _ in range(TURNS_MAX):
            turn = clock()
            await asyncio.sleep(0)
            if clock() - turn < IDLE_TURN_S:
                break
        if clock() - begin > self._current:
            self._current = max(min(SLICE_MIN_S, self.slice_s), self._current / 2)
        else:
            self._current = min(self.slice_s, self._current * 1.25)


def run_all(steps: Generator[Any, None, T]) -> T:
    """Run a generator to its end in one go and return its value."""
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            result: T = stop.value
            return result
