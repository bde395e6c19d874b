"""End connections that make no progress: a slow client must not hold a place for ever.

Three waits have a limit: for a request's head, for its body, and for a reader that takes no more
of its answer. They are found by a look at all connections now and then, so that a request pays
nothing for being watched. How long a module takes to answer is its own affair.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import msgspec

from replank.config import HttpConfig
from replank.control.wire import Facts

LOOKS: Final = 4
"""Looks within the shortest limit: a client gets its limit, and at most a quarter more."""


class Stage(enum.StrEnum):
    """What a connection waits for."""

    HEAD = "head"
    BODY = "body"
    READER = "reader"


class _Seen(NamedTuple):
    stage: Stage
    progress: object
    """Compared by identity or value: what is another one has made progress."""
    since: float


class Patience:
    """Know how long each connection of one door has been making no progress.

    Args:
        http: The limits.
    """

    def __init__(self, http: HttpConfig) -> None:
        self._limits = {
            Stage.HEAD: http.head_timeout_s,
            Stage.BODY: http.body_timeout_s,
            Stage.READER: http.reader_timeout_s,
        }
        self._seen: dict[Any, _Seen] = {}
        self.every_s = min(self._limits.values()) / LOOKS
        """Seconds between two looks."""

    def look(self, connections: Iterable[Any], now: float) -> int:
        """End what has made no progress for too long.

        Args:
            connections: Every connection of the door, as uvicorn keeps them.
            now: Seconds that only rise.

        Returns:
            How many were ended.
        """
        seen: dict[Any, _Seen] = {}
        ended = 0
        for connection in list(connections):
            waits = _waits_for(connection)
            if waits is None:
                continue
            stage, progress = waits
            before = self._seen.get(connection)
            if before is None or before.stage is not stage or before.progress != progress:
                seen[connection] = _Seen(stage, progress, now)
            elif now - before.since < self._limits[stage]:
                seen[connection] = before
            else:
                _end(connection, stage, self._limits[stage])
                ended += 1
        self._seen = seen
        return ended


def _waits_for(connection: Any) -> tuple[Stage, object] | None:
    transport, cycle = connection.transport, connection.cycle
    if transport is None or transport.is_closing():
        return None
    if connection.flow is not None and connection.flow.write_paused:
        return Stage.READER, transport.get_write_buffer_size()
    if cycle is None or cycle.response_complete:
        # Between two requests uvicorn has a timer of its own, until the next one begins.
        idle = connection.timeout_keep_alive_task is not None
        return None if idle else (Stage.HEAD, id(cycle))
    if cycle.more_body and not cycle.response_started:
        return Stage.BODY, id(cycle)
    return None


def _end(connection: Any, stage: Stage, limit_s: float) -> None:
    if stage is Stage.READER:
        connection.transport.abort()  # what is left would wait for the same reader
        return
    if stage is Stage.BODY or connection.scope is not None:  # a silent connection hears nothing
        refuse(connection, 408, f"the {stage} of the request did not arrive within {limit_s:g} s")
    connection.transport.close()


_REASONS: Final = {408: "Request Timeout", 431: "Request Header Fields Too Large"}


def refuse(connection: Any, status: int, text: str) -> None:
    """Answer what has not become a request, past the application, and close.

    Args:
        connection: uvicorn's protocol.
        status: HTTP status.
        text: Why.
    """
    body = msgspec.json.encode(Facts(error=text, kind="Refused"))
    head = (
        f"HTTP/1.1 {status} {_REASONS[status]}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    connection.transport.write(head.encode() + body)
    connection.transport.close()


__all__ = ["Patience", "Stage", "refuse"]
