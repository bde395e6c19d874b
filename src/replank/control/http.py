"""The few steps that every request takes: read the body within a limit, write one answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Final

import msgspec

from replank.control.guard import Refused
from replank.control.wire import Facts

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

JSON: Final = (b"content-type", b"application/json")
NDJSON: Final = (b"content-type", b"application/x-ndjson")
NO_STORE: Final = (b"cache-control", b"no-store")


class ClientGone(Exception):
    """The client went away before its request was complete."""


async def read_body(
    headers: Iterable[tuple[bytes, bytes]], receive: Receive, max_bytes: int
) -> bytes:
    """Return a request's body.

    Args:
        headers: The request's headers.
        receive: The ASGI channel.
        max_bytes: The longest body that is taken.

    Raises:
        Refused: It is too long; nothing more is read then.
        ClientGone: It never came.
    """
    for name, value in headers:
        # A length that is no number was refused by the server's parser already.
        if name == b"content-length" and value.isdigit() and int(value) > max_bytes:
            raise _too_long(max_bytes)
    message = await receive()
    body: bytes = message.get("body", b"")
    more = message.get("more_body", False)
    parts = [body]
    length = len(body)
    while more or message["type"] == "http.disconnect":
        if message["type"] == "http.disconnect":
            raise ClientGone
        if length > max_bytes:
            raise _too_long(max_bytes)
        message = await receive()
        part = message.get("body", b"")
        length += len(part)
        parts.append(part)
        more = message.get("more_body", False)
    if length > max_bytes:
        raise _too_long(max_bytes)
    return body if len(parts) == 1 else b"".join(parts)


def _too_long(max_bytes: int) -> Refused:
    return Refused(413, f"the body is longer than {max_bytes} bytes")


async def answer(send: Send, status: int, body: bytes, *more: tuple[bytes, bytes]) -> None:
    """Send one whole JSON answer.

    Args:
        send: The ASGI channel.
        status: HTTP status.
        body: JSON.
        more: More headers.
    """
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": status, "headers": [JSON, length, *more]})
    await send({"type": "http.response.body", "body": body})


async def answer_error(send: Send, status: int, facts: Facts, *more: tuple[bytes, bytes]) -> None:
    """Send an error as JSON.

    Args:
        send: The ASGI channel.
        status: HTTP status.
        facts: What the client may read.
        more: More headers.
    """
    if status == 503:  # noqa: PLR2004 - service unavailable
        more = (*more, (b"retry-after", b"1"))
    elif status == 401:  # noqa: PLR2004 - unauthorized
        more = (*more, (b"www-authenticate", b"Bearer"))
    elif status == 413:  # noqa: PLR2004 - the rest of the body is not read
        more = (*more, (b"connection", b"close"))
    await answer(send, status, msgspec.json.encode(facts), *more)


async def answer_refusal(send: Send, refused: Refused) -> None:
    """Send why a request was refused.

    Args:
        send: The ASGI channel.
        refused: The verdict.
    """
    await answer_error(send, refused.status, Facts(error=refused.text, kind="Refused"))


__all__ = [
    "JSON",
    "NDJSON",
    "NO_STORE",
    "ClientGone",
    "Receive",
    "Scope",
    "Send",
    "answer",
    "answer_error",
    "answer_refusal",
    "read_body",
]
