"""Replace a live state by another one: here, or in the process of an isolated module."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from replank.code.generation import Generation
from replank.isolation.remote import RemoteGeneration
from replank.state.collector import release_in_slices
from replank.state.slices import Slices
from replank.state.spool import read_import
from replank.table import Table

_FREED: Final = (dict, list, set)
_ALONE: Final = 2
"""What is counted of an object that one name refers to: the name, and the count's own argument."""


class Read(NamedTuple):
    """What was read from a document."""

    schema_from: int
    records: int
    steps: tuple[str, ...]


class Replacement(Protocol):
    """One state on its way into a module: read first, then put in, and taken back or done."""

    async def read(self, document: bytes) -> Read:
        """Build all values; nothing is replaced."""

    async def put(self) -> None:
        """Assign them; nothing is in flight."""

    async def put_back(self) -> None:
        """Assign again what was there."""

    async def done(self) -> None:
        """Let go of what was replaced."""


class Replacing:
    """A replacement in this process.

    Args:
        generation: What serves.
        folder: Where there is room for a document that is read.
        limit_s: Seconds that reading may take.
    """

    def __init__(self, generation: Generation, folder: Path, limit_s: float) -> None:
        self._generation = generation
        self._folder = folder
        self._limit_s = limit_s
        self._values: dict[str, Any] = {}
        self._before: dict[str, Any] = {}

    async def read(self, document: bytes) -> Read:
        """Build all values; nothing is replaced."""
        snapshot, self._values, steps = await read_import(
            document, self._generation, self._folder, self._limit_s
        )
        return Read(snapshot.schema.version, snapshot.records, steps)

    async def put(self) -> None:
        """Assign them; nothing is in flight."""
        values = self._generation.values().items()
        self._before = {key: value for key, value in values if key in self._values}
        self._generation.assign(self._values)

    async def put_back(self) -> None:
        """Assign again what was there."""
        self._generation.assign(self._before)

    async def done(self) -> None:
        """Free the old state in slices: in one go a million records stall callers for 100 ms."""
        self._values = {}
        alone = []
        while self._before:
            value = self._before.popitem()[1]
            # What somebody else holds stays as it is.
            own = isinstance(value, Table) or type(value) in _FREED
            if own and sys.getrefcount(value) <= _ALONE:
                alone.append(value)
            del value
        await Slices().run(release_in_slices(alone))


class RemoteReplacing:
    """A replacement in the process of an isolated module.

    Args:
        generation: What serves.
    """

    def __init__(self, generation: RemoteGeneration) -> None:
        self._generation = generation

    async def read(self, document: bytes) -> Read:
        """Build all values; nothing is replaced."""
        return Read(*await self._generation.request("state.read", document))

    async def put(self) -> None:
        """Assign them; nothing is in flight."""
        await self._generation.request("state.put")

    async def put_back(self) -> None:
        """Assign again what was there."""
        await self._generation.request("state.put_back")

    async def done(self) -> None:
        """Let go of what was replaced."""
        await self._generation.request("state.put_done")


def replacing(generation: Generation, folder: Path, limit_s: float) -> Replacement:
    """Return the way of another state into a module.

    Args:
        generation: What serves.
        folder: Where there is room for a document that is read.
        limit_s: Seconds that reading may take.
    """
    if isinstance(generation, RemoteGeneration):
        return RemoteReplacing(generation)
    return Replacing(generation, folder, limit_s)


__all__ = ["Read", "Replacement", "replacing"]
