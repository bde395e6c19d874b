"""The clock of the schedule: the one place that asks what time it is; a fake one is for tests."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Final, Protocol

_LOOK_AGAIN_S: Final = 30.0
"""A clock may be set, and a machine may sleep: no wait trusts a span longer than this."""


class Clock(Protocol):
    """What time it is, and waiting for a time."""

    def now(self) -> float:
        """Return Unix seconds."""

    async def wait(self, news: asyncio.Event, until: float | None) -> None:
        """Return when there is news, when it may be later than a time, or somewhat earlier.

        Args:
            news: Ends the wait when it is set.
            until: Unix seconds; None to wait for news alone.
        """


class SystemClock:
    """The clock of the machine."""

    def now(self) -> float:
        """Return Unix seconds."""
        return time.time()

    async def wait(self, news: asyncio.Event, until: float | None) -> None:
        """Wait; see `Clock.wait`."""
        if until is None:
            await news.wait()
            return
        seconds = min(max(0.0, until - self.now()), _LOOK_AGAIN_S)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await news.wait()


__all__ = ["Clock", "SystemClock"]
