"""A clock that stands still until it is told to go on: for tests of what waits for a time."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Final

_TURNS: Final = 20


class FakeClock:
    """A `Clock` that only `advance` moves.

    Args:
        start: Unix seconds, or an ISO 8601 text with its zone.
    """

    def __init__(self, start: float | str = "2026-01-05T12:00:00+00:00") -> None:
        self._now = _seconds(start)
        self._waiting: dict[object, tuple[float, asyncio.Event]] = {}

    def now(self) -> float:
        """Return Unix seconds."""
        return self._now

    async def wait(self, news: asyncio.Event, until: float | None) -> None:
        """Wait for news or for `advance`; see `Clock.wait`."""
        if until is None:
            await news.wait()
            return
        if until <= self._now:
            await asyncio.sleep(0)
            return
        key, woken = object(), asyncio.Event()
        self._waiting[key] = (until, woken)
        waits = [asyncio.ensure_future(one.wait()) for one in (news, woken)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waits:
                one.cancel()
            self._waiting.pop(key, None)

    async def advance(self, seconds: float) -> None:
        """Let time pass, stopping wherever somebody waits to be woken.

        Args:
            seconds: How much.
        """
        await self.reach(self._now + seconds)

    async def reach(self, moment: float | str) -> None:
        """Let time pass up to a moment.

        Args:
            moment: Unix seconds, or an ISO 8601 text with its zone.
        """
        end = _seconds(moment)
        await settle()
        while due := [until for until, _ in self._waiting.values() if until <= end]:
            self._now = max(self._now, min(due))
            for until, woken in self._waiting.values():
                if until <= self._now:
                    woken.set()
            await settle()
        self._now = max(self._now, end)
        await settle()


def _seconds(moment: float | str) -> float:
    return datetime.fromisoformat(moment).timestamp() if isinstance(moment, str) else moment


async def settle() -> None:
    """Let everything that is ready run."""
    for _ in range(_TURNS):
        await asyncio.sleep(0)


__all__ = ["FakeClock", "settle"]
