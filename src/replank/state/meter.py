"""What was expected of a transfer, and what it takes."""

from __future__ import annotations

import functools
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, cast

from replank.memory import resident_bytes
from replank.report_state import StateCost
from replank.traffic.drain import Drained


@dataclass(frozen=True, slots=True)
class Forecast:
    """What is expected.

    Attributes:
        state_bytes: The state's size.
        cost: What taking it over will take.
        notes: What an operator should know, one sentence each.
    """

    state_bytes: int = 0
    cost: StateCost = StateCost()  # noqa: RUF009 - it is frozen
    notes: tuple[str, ...] = ()


class Meter:
    """What a transfer takes, set beside its forecast.

    Args:
        expected: The forecast.
        predicted_pause_s: What the pause would take now, by what was measured.
    """

    def __init__(self, expected: Forecast, predicted_pause_s: Callable[[], float]) -> None:
        self.expected = expected
        self.predicted = expected.cost
        self._predicted_pause_s = predicted_pause_s
        self._pause_s = 0.0
        self._window_s = 0.0
        self._before: int | None = None
        self._memory_bytes = 0

    @property
    def measured(self) -> StateCost:
        """What it has taken so far."""
        return StateCost(
            pause_s=self._pause_s, window_s=self._window_s, memory_bytes=self._memory_bytes
        )

    @contextmanager
    def running(self, *, paused: bool) -> Iterator[None]:
        """Count the time and memory inside.

        Args:
            paused: Whether calls wait.
        """
        if self._before is None:
            self._before = resident_bytes()
        if paused and not self._pause_s:
            self.predicted = StateCost(
                pause_s=self._predicted_pause_s(),
                window_s=self.predicted.window_s,
                memory_bytes=self.predicted.memory_bytes,
            )
        begin = time.perf_counter()
        try:
            yield
        finally:
            took = time.perf_counter() - begin
            if paused:
                self._pause_s += took
            else:
                self._window_s += took
            grown = resident_bytes() - self._before
            self._memory_bytes = max(self._memory_bytes, grown)


M = TypeVar("M", bound=Callable[..., Awaitable[None]])


class Metered(Protocol):
    """A transfer with a meter; inside another one it has none."""

    meter: Meter | None


def metered(method: M) -> M:
    """Have the time of one of a transfer's steps counted.

    Args:
        method: Takes the proof of quiet, or None in the window.
    """

    @functools.wraps(method)
    async def counted(self: Metered, drained: Drained | None = None) -> None:
        arguments: tuple[Any, ...] = () if method.__name__ == "approach" else (drained,)
        if self.meter is None:
            await method(self, *arguments)
            return
        with self.meter.running(paused=drained is not None):
            await method(self, *arguments)

    return cast("M", counted)


__all__ = ["Forecast", "Meter", "metered"]
