"""The last events, numbered and bounded, for readers that come late or read slowly.

An event is written as JSON once, when it happens, however many read it. What is kept is bounded by
number and by size, so that a host that runs for months keeps no more than one that runs for a
minute. A reader has a place and nothing else: one that falls behind what is kept is told so.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import Final, NamedTuple, Self

import msgspec

from replank.instrumentation.events import Event, Warned

KEPT_BYTES_MAX: Final = 4 << 20
"""Bytes of all kept events together: reports with long tracebacks must not add up."""


class Kept(NamedTuple):
    """One event as it is kept."""

    number: int
    """Counted from 1 since the host was made."""
    kind: str
    """Its class, such as "ReloadEnded"."""
    data: bytes
    """The event as JSON."""


class Overtaken(Exception):
    """A reader's next event is no longer kept.

    Args:
        missed: How many events the reader will never see.
    """

    def __init__(self, missed: int) -> None:
        super().__init__(f"{missed} events were left out")
        self.missed = missed


class RecentEvents:
    """Keep the last events; `note` is a listener for `Bus.subscribe`.

    Args:
        events_max: How many are kept.
        bytes_max: How many bytes they may have together.
    """

    def __init__(self, events_max: int, *, bytes_max: int = KEPT_BYTES_MAX) -> None:
        self.origin = secrets.token_hex(4)
        """Tells this host's numbers from those of an earlier life."""
        self.last = 0
        """Number of the newest event."""
        self._kept: deque[Kept] = deque()
        self._events_max = events_max
        self._bytes_max = bytes_max
        self._bytes = 0
        self._readers: set[EventReader] = set()

    @property
    def oldest(self) -> int:
        """Number of the oldest event that is kept; the next one to come when there is none."""
        return self._kept[0].number if self._kept else self.last + 1

    @property
    def kept_bytes(self) -> int:
        """Bytes of all that is kept."""
        return self._bytes

    def note(self, event: Event) -> None:
        """Keep an event and wake who waits for one.

        Args:
            event: What happened.
        """
        try:
            data = msgspec.json.encode(event)
        except (TypeError, ValueError) as error:  # a lone surrogate in a module's own message
            kind = type(event).__name__
            event = Warned(text=f"an event {kind} cannot be written as JSON: {error!r}")
            data = msgspec.json.encode(event)
        self.last += 1
        self._kept.append(Kept(self.last, type(event).__name__, data))
        self._bytes += len(data)
        while len(self._kept) > self._events_max or (
            self._bytes > self._bytes_max and len(self._kept) > 1
        ):
            self._bytes -= len(self._kept.popleft().data)
        for reader in self._readers:
            reader._wake()

    def after(self, number: int) -> Iterator[Kept]:
        """Yield what is kept after a number, oldest first.

        Args:
            number: Of the last event that is known already.
        """
        skipped = max(0, number + 1 - self.oldest)
        return islice(self._kept, skipped, None)

    def reader(self, after: int) -> EventReader:
        """Return a reader; use it as a context manager, on the event loop that publishes.

        Args:
            after: Number of the last event that it knows already.
        """
        return EventReader(self, after)

    def close(self) -> None:
        """End every reader: nothing more will be told."""
        for reader in self._readers:
            reader.ended = True
            reader._wake()


class EventReader:
    """One reader's place among the events.

    Args:
        recent: What is kept.
        place: Number of the last event that it knows already.
    """

    def __init__(self, recent: RecentEvents, place: int) -> None:
        self.place = place
        self.ended = False
        """Whether nothing more will come."""
        self._recent = recent
        self._news = asyncio.Event()

    def __enter__(self) -> Self:
        """Begin to be woken."""
        self._recent._readers.add(self)
        return self

    def __exit__(self, *_: object) -> None:
        """End being woken."""
        self._recent._readers.discard(self)

    def next(self) -> Kept | None:
        """Return the next event and move on, or None when there is none yet.

        Raises:
            Overtaken: It is no longer kept.
        """
        recent = self._recent
        if self.place >= recent.last:
            return None
        missed = recent.oldest - (self.place + 1)
        if missed > 0:
            raise Overtaken(missed)
        found = recent._kept[self.place + 1 - recent.oldest]
        self.place = found.number
        return found

    async def wait(self, timeout_s: float) -> bool:
        """Wait for news.

        Args:
            timeout_s: Seconds to wait at most.

        Returns:
            Whether there is something new; False after the timeout.
        """
        self._news.clear()
        if self.ended or self.place < self._recent.last:
            return True
        try:
            async with asyncio.timeout(timeout_s):
                await self._news.wait()
        except TimeoutError:
            return False
        return True

    def _wake(self) -> None:
        self._news.set()


__all__ = ["KEPT_BYTES_MAX", "EventReader", "Kept", "Overtaken", "RecentEvents"]
