"""HTTP over a Unix socket, and how answers are read; standard library only."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterable, Iterator

import msgspec

from replank.control import wire
from replank.errors import InternalError, ReplankError


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        """Connect."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)

    def wait_s(self, timeout_s: float) -> None:
        """Set how long to wait for an answer, in seconds."""
        self.timeout = timeout_s
        if self.sock is not None:
            self.sock.settimeout(timeout_s)


def raise_for_status(response: http.client.HTTPResponse, module: str | None) -> None:
    """Raise what the host answered, if it is an error.

    Args:
        response: Its answer.
        module: The module that was called, if any.

    Raises:
        ReplankError: The host refused, or the module raised.
    """
    if response.status >= http.client.MULTIPLE_CHOICES:  # nothing here redirects
        raise _refusal(response, module)


def _refusal(response: http.client.HTTPResponse, module: str | None) -> ReplankError:
    body = response.read()
    try:
        return wire.error_of(msgspec.json.decode(body, type=wire.Facts), module)
    except msgspec.DecodeError:
        return InternalError(
            f"the host answered {response.status}", found=body[:200].decode(errors="replace")
        )


def is_stream(response: http.client.HTTPResponse) -> bool:
    """Tell whether an answer is one JSON value a line.

    Args:
        response: The answer.
    """
    return response.headers.get_content_type() == "application/x-ndjson"


def feed_items(lines: Iterable[bytes]) -> Iterator[tuple[str | None, wire.FeedItem]]:
    """Yield server-sent events, each with its id; comments say only that the host is there.

    Args:
        lines: The answer, line by line.
    """
    fields: dict[bytes, bytes] = {}
    for raw in lines:
        line = raw.rstrip(b"\r\n")
        if line:
            name, _, value = line.partition(b": ")
            fields[name] = value
        elif b"data" in fields:
            number = fields.get(b"id")
            item = msgspec.json.decode(fields[b"data"], type=wire.FeedItem)
            yield number.decode() if number else None, item
            fields = {}
        else:
            fields = {}


__all__ = ["UnixConnection", "feed_items", "is_stream", "raise_for_status"]
