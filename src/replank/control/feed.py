"""`GET /control/events`: what happens in the host, as server-sent events.

Each event has an id, so that a reader that comes back with `Last-Event-ID` goes on where it was.
Between events a comment line says that the host is there. Nothing is queued for a reader: it has a
place among the events that are kept, and one that is overtaken is told so in a last event.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Final

import msgspec
from starlette.responses import StreamingResponse

from replank.control import wire
from replank.control.guard import Refused
from replank.instrumentation.recent import EventReader, Kept, Overtaken, RecentEvents

HEARTBEAT: Final = b": the host is there\n\n"
_AGAIN: Final = "read faster, or come back with Last-Event-ID"
_WANTED: Final = frozenset({"follow", "last", "types"})


class EventFeed:
    """Let readers follow the events, as many as the limit allows.

    Args:
        recent: The host's events.
        heartbeat_s: Seconds of silence after which a comment line is sent.
        readers_max: How many may follow at once.
    """

    def __init__(self, recent: RecentEvents, *, heartbeat_s: float, readers_max: int) -> None:
        self._recent = recent
        self._heartbeat_s = heartbeat_s
        self._readers_max = readers_max
        self.readers = 0
        """How many follow now."""

    def answer(self, query: Mapping[str, str], last_event_id: str | None) -> StreamingResponse:
        """Answer a request for events.

        Args:
            query: `follow` (0: end after what is kept), `last` (begin with so many that are kept)
                and `types` (only these, separated by commas).
            last_event_id: The id that the reader saw last, if it comes back.

        Raises:
            Refused: The request is wrong, or too many follow already.
        """
        follow, types = _read_query(query)
        if follow and self.readers >= self._readers_max:
            raise Refused(429, f"{self._readers_max} readers follow the events already")
        place, gap = self._place(query, last_event_id, follow=follow)
        return StreamingResponse(
            self._lines(place, gap, types, follow=follow),
            media_type="text/event-stream",
            headers={"cache-control": "no-store", "x-accel-buffering": "no"},
        )

    def close(self) -> None:
        """Send every reader its last event: the host stops."""
        self._recent.close()

    def _place(
        self, query: Mapping[str, str], last_event_id: str | None, *, follow: bool
    ) -> tuple[int, wire.Gap | None]:
        """Return after which event to begin, and what a reader that comes back has missed."""
        recent = self._recent
        if last_event_id:
            origin, _, text = last_event_id.partition("-")
            known = origin == recent.origin and text.isascii() and text.isdigit()
            number = min(int(text[:18]), recent.last) if known else 0
            missed = recent.oldest - (number + 1)
            if known and missed <= 0:
                return number, None
            # An id of another life of the host: nobody knows how many were missed.
            gap = wire.Gap(missed=missed if known else None)
            return recent.oldest - 1, gap
        if follow and "last" not in query:
            return recent.last, None
        return max(recent.oldest - 1, recent.last - _read_last(query)), None

    async def _lines(
        self, place: int, gap: wire.Gap | None, types: frozenset[str], *, follow: bool
    ) -> AsyncIterator[bytes]:
        self.readers += 1
        try:
            # At once: a reader that waits for the answer's head waits for no event.
            yield HEARTBEAT if gap is None else _note(gap)
            with self._recent.reader(place) as reader:
                async for part in self._follow(reader, types, follow=follow):
                    yield part
        except Overtaken as overtaken:
            yield _note(wire.Overtaken(missed=overtaken.missed, do=_AGAIN))
        finally:
            self.readers -= 1

    async def _follow(
        self, reader: EventReader, types: frozenset[str], *, follow: bool
    ) -> AsyncIterator[bytes]:
        clock = asyncio.get_running_loop().time
        spoken = clock()
        while True:
            while (event := reader.next()) is not None:
                if not types or event.kind in types:
                    yield self._block(event)
                    spoken = clock()
            if reader.ended:
                yield _note(wire.Closed(reason="the host stops"))
                return
            if not follow:
                return
            # News that the reader does not want is no sign of life for it.
            left_s = spoken + self._heartbeat_s - clock()
            if left_s <= 0 or not await reader.wait(left_s):
                yield HEARTBEAT
                spoken = clock()

    def _block(self, event: Kept) -> bytes:
        head = f"id: {self._recent.origin}-{event.number}\nevent: {event.kind}\ndata: "
        return head.encode() + event.data + b"\n\n"


def _note(note: wire.Gap | wire.Overtaken | wire.Closed) -> bytes:
    """Return what the feed itself has to say; it has no id, for it is no event of the host."""
    return f"event: {type(note).__name__}\ndata: ".encode() + msgspec.json.encode(note) + b"\n\n"


def _read_query(query: Mapping[str, str]) -> tuple[bool, frozenset[str]]:
    unknown = set(query) - _WANTED
    if unknown:
        raise Refused(422, f"unknown parameter; known are {', '.join(sorted(_WANTED))}")
    follow = query.get("follow", "1")
    if follow not in {"0", "1"}:
        raise Refused(422, "follow must be 0 or 1")
    types = frozenset(one for one in query.get("types", "").split(",") if one)
    if not types <= wire.EVENT_TYPES:
        raise Refused(422, f"types must be some of {', '.join(sorted(wire.EVENT_TYPES))}")
    return follow == "1", types


def _read_last(query: Mapping[str, str]) -> int:
    text = query.get("last", str(wire.EVENTS_LAST_MAX))
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 9 else -1  # noqa: PLR2004 - digits enough
    if not 0 <= number <= wire.EVENTS_LAST_MAX:
        raise Refused(422, f"last must be a whole number from 0 to {wire.EVENTS_LAST_MAX}")
    return number


__all__ = ["HEARTBEAT", "EventFeed"]
