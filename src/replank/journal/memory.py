"""The port in memory: for tests and trials; verified by the same tests as the one on disk."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence

from replank.journal.port import Entry, Moved, Value
from replank.journal.watchers import Watchers


class MemoryPort:
    """Do what a port does, for as long as this object lives."""

    def __init__(self) -> None:
        self._streams: dict[str, list[Entry]] = {}
        self._last: dict[str, int] = {}
        self._keys: dict[str, Value] = {}
        self._watchers = Watchers()

    async def publish(self, stream: str, payloads: Sequence[bytes]) -> range:
        """Append payloads; see `Port.publish`."""
        first = self._last.get(stream, 0) + 1
        positions = range(first, first + len(payloads))
        if payloads:
            entries = self._streams.setdefault(stream, [])
            entries += map(Entry, positions, map(bytes, payloads))
            self._move(stream, positions[-1])
        return positions

    async def read(self, stream: str, after: int, limit: int) -> tuple[Entry, ...]:
        """Return the next entries; see `Port.read`."""
        entries = self._streams.get(stream, [])
        # positions are contiguous, so that the place of one is known
        start = max(0, after + 1 - entries[0].position) if entries else 0
        return tuple(entries[start : start + limit])

    async def get(self, key: str) -> Value | None:
        """Return what a key holds; see `Port.get`."""
        return self._keys.get(key)

    async def compare_and_set(self, key: str, expected_version: int, data: bytes) -> int | None:
        """Change a key; see `Port.compare_and_set`."""
        held = self._keys.get(key)
        if (held.version if held else 0) != expected_version:
            return None
        self._keys[key] = Value(expected_version + 1, bytes(data))
        self._watchers.tell({key: expected_version + 1})
        return expected_version + 1

    def watch(self, name: str) -> AsyncIterator[Moved]:
        """Follow streams and keys; see `Port.watch`."""
        return self._watchers.follow(name, self._present)

    async def truncate(self, stream: str, upto: int) -> None:
        """Forget entries; see `TrimmablePort.truncate`."""
        self._streams[stream] = [e for e in self._streams.get(stream, []) if e.position > upto]
        if upto > self._last.get(stream, 0):
            self._move(stream, upto)

    async def close(self) -> None:
        """End the watches; everything else stays readable."""
        self._watchers.close()

    def _move(self, stream: str, position: int) -> None:
        self._last[stream] = position
        self._watchers.tell({stream: position})

    async def _present(self) -> Mapping[str, int]:
        return {**{key: held.version for key, held in self._keys.items()}, **self._last}


__all__ = ["MemoryPort"]
