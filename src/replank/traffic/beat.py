"""A clock that a call can read for next to nothing: the time of the last beat.

When a call began is asked only when a drain has to name what blocks it, so to a beat is exact
enough; reading the real clock for every call would be a tenth of what an open gate costs.
"""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import Final

BEAT_S: Final = 0.05


class LastBeat:
    """When the last beat of any host in this process was.

    Attributes:
        at: Seconds of `perf_counter`, never later than now.
    """

    __slots__ = ("at",)

    def __init__(self) -> None:
        self.at = perf_counter()


last_beat: Final = LastBeat()


class Beat:
    """Beats on the event loop of one host, from `start` to `stop`."""

    def __init__(self) -> None:
        self._next: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Beat on the running loop; a simulated one would never come to rest, and needs none."""
        loop = asyncio.get_running_loop()
        if not getattr(loop, "runs_alone", False):
            self._beat(loop)

    def stop(self) -> None:
        """Beat no more; without a start it does no harm."""
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _beat(self, loop: asyncio.AbstractEventLoop) -> None:
        last_beat.at = perf_counter()
        self._next = loop.call_later(BEAT_S, self._beat, loop)


__all__ = ["BEAT_S", "Beat", "LastBeat", "last_beat"]
