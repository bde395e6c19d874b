"""The port: the five verbs for whatever must survive a crash or be agreed on.

Two kinds of names live behind it. A *stream* takes payloads, in order, each at a *position*: 1 for
the first, one more for each next, never used twice. A *key* holds one value with a *version*: 1
when it is made, one more at each change. What is behind the port is SQLite in one process
(`replank.journal.embedded`); an engine that serves a whole fleet fits behind it too, which is why
nothing here mentions files, transactions or threads.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple, Protocol


class Entry(NamedTuple):
    """One payload of a stream."""

    position: int
    payload: bytes


class Value(NamedTuple):
    """What a key holds."""

    version: int
    data: bytes


class Moved(NamedTuple):
    """How far a stream or a key has come."""

    name: str
    position: int
    """A stream's last position, or a key's version."""


class Port(Protocol):
    """Publish, read, get, compare-and-set, watch."""

    async def publish(self, stream: str, payloads: Sequence[bytes]) -> range:
        """Append payloads, all or none, next to each other; durable on return.

        A publisher that is cancelled does not know: the payloads are in the stream, or are not.

        Args:
            stream: Name of the stream; made by its first payload.
            payloads: What to append, in order.

        Returns:
            Their positions.

        Raises:
            UsageError: A payload is larger than may be.
            JournalError: They could not be written.
        """

    async def read(self, stream: str, after: int, limit: int) -> tuple[Entry, ...]:
        """Return the next entries of a stream, oldest first.

        Args:
            stream: Name of the stream; an unknown one is empty.
            after: The position before the first that is wanted; 0 for the beginning.
            limit: How many at most.

        Raises:
            JournalError: The stream cannot be read.
        """

    async def get(self, key: str) -> Value | None:
        """Return what a key holds, or None when it does not exist.

        Args:
            key: Its name.

        Raises:
            JournalError: It cannot be read.
        """

    async def compare_and_set(self, key: str, expected_version: int, data: bytes) -> int | None:
        """Change a key if nobody else has meanwhile; durable on return.

        Args:
            key: Its name.
            expected_version: The version it must have; 0 when it must not exist.
            data: Its new value.

        Returns:
            The new version, or None when the key had another version and nothing was changed.

        Raises:
            UsageError: The value is larger than may be.
            JournalError: It could not be written.
        """

    def watch(self, name: str) -> AsyncIterator[Moved]:
        """Follow streams and keys: first where they stand, then each time they have moved.

        Who is slow sees the last position of each only. The iterator ends when the port closes.

        Args:
            name: A stream or key, which may not exist yet and then stands at 0; or a prefix that
                ends in "/", for all names that begin with it.
        """


class TrimmablePort(Port, Protocol):
    """A port whose streams can be shortened: housekeeping of whoever owns a stream."""

    async def truncate(self, stream: str, upto: int) -> None:
        """Forget the entries up to a position; what is published later comes after it.

        Args:
            stream: Name of the stream.
            upto: The last position that nobody needs; it may lie beyond the end of the stream,
                and the next position is then the one after it.

        Raises:
            JournalError: It could not be written.
        """


async def last_position(port: Port, stream: str) -> int:
    """Return the position of a stream's last entry, 0 when it never had one.

    Args:
        port: Where the stream is.
        stream: Its name.
    """
    async for moved in (watching := port.watch(stream)):
        await aclose(watching)
        return moved.position
    return 0


async def aclose(iterator: AsyncIterator[Moved]) -> None:
    """End a watch before its time.

    Args:
        iterator: From `Port.watch`.
    """
    close = getattr(iterator, "aclose", None)
    if close is not None:
        await close()


__all__ = ["Entry", "Moved", "Port", "TrimmablePort", "Value", "aclose", "last_position"]
