"""Who follows which streams and keys of a port, within one process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

from replank.journal.port import Moved


class Watchers:
    """Tell each watcher what has moved, the last position of each name only.

    Memory is bounded by the number of names, however slow a watcher is.
    """

    def __init__(self) -> None:
        self._watches: set[_Watch] = set()
        self._closed = False

    def tell(self, moved: Mapping[str, int]) -> None:
        """Note what has moved; on the event loop's thread.

        Args:
            moved: Position by name.
        """
        for watch in self._watches:
            watch.note(moved)

    def close(self) -> None:
        """End every watch."""
        self._closed = True
        for watch in self._watches:
            watch.arrived.set()

    async def follow(
        self, name: str, present: Callable[[], Awaitable[Mapping[str, int]]]
    ) -> AsyncIterator[Moved]:
        """Yield where the names stand, then what moves.

        Args:
            name: As for `Port.watch`.
            present: Reads where all the names stand now.
        """
        watch = _Watch(name)
        self._watches.add(watch)  # before reading: what moves meanwhile is told, not missed
        try:
            start = {key: at for key, at in (await present()).items() if matches(name, key)}
            if not name.endswith("/"):
                start.setdefault(name, 0)
            watch.begin(start)
            while True:
                for moved in watch.take():
                    yield moved
                if self._closed:
                    return
                await watch.arrived.wait()
        finally:
            self._watches.discard(watch)


class _Watch:
    """What one watcher has seen and has yet to see."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.arrived = asyncio.Event()
        self._seen: dict[str, int] = {}
        self._waiting: dict[str, int] = {}

    def begin(self, start: Mapping[str, int]) -> None:
        for name in sorted(start):
            self._waiting[name] = max(start[name], self._waiting.get(name, 0))
        self.arrived.set()

    def note(self, moved: Mapping[str, int]) -> None:
        for name, position in moved.items():
            if matches(self.name, name):
                self._waiting[name] = max(position, self._waiting.get(name, 0))
                self.arrived.set()

    def take(self) -> list[Moved]:
        self.arrived.clear()
        waiting, self._waiting = self._waiting, {}
        fresh = [Moved(n, at) for n, at in waiting.items() if at > self._seen.get(n, -1)]
        self._seen.update(fresh)
        return fresh


def matches(watched: str, name: str) -> bool:
    """Return whether a watch concerns a name.

    Args:
        watched: A name, or a prefix that ends in "/".
        name: What has moved.
    """
    return name.startswith(watched) if watched.endswith("/") else name == watched


__all__ = ["Watchers", "matches"]
