"""`POST /modules/NAME/METHOD`: calls and messages over HTTP, as thin as they can be.

Several thousand of these run each second on one core, so they go past the router: path, guard,
body, arguments, call, answer.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterable
from functools import partial
from typing import Any, Final

from replank.control import wire
from replank.control.arguments import Arguments, ReaderCache
from replank.control.guard import Guard, Refused
from replank.control.http import (
    NDJSON,
    ClientGone,
    Receive,
    Scope,
    Send,
    answer,
    answer_error,
    answer_refusal,
    read_body,
)
from replank.control.protocol import TASK_KEY
from replank.definition import CallKind
from replank.instrumentation.log import logger
from replank.traffic.calls import chain_var
from replank.traffic.moves import Resumed

PREFIX: Final = "/modules/"
_MESSAGES: Final = "messages"
_ACCEPTED: Final = b'{"accepted":true}'


class CallsApp:
    """The ASGI application of the module routes.

    Args:
        host: The host: `call`, `send`, `definition`, `names`, and handles by name.
        guard: Who may come in.
        max_body_bytes: The longest body that is taken.
    """

    def __init__(self, host: Any, guard: Guard, max_body_bytes: int) -> None:
        self._host = host
        self._guard = guard
        self._max_body_bytes = max_body_bytes
        self._readers = ReaderCache(host)
        self.note = self._readers.note
        """To be told of every event of the host."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        # The connection's context may carry the chain of whichever call last woke it up.
        chain_var.set(None)
        module = None
        try:
            module, name, message = _route(scope)
            self._guard.admit(scope["headers"], control=False)
            reader = self._readers.reader(module, name)
            body = await read_body(scope["headers"], receive, self._max_body_bytes)
            scope[TASK_KEY] = asyncio.current_task()
            # The reader again: another generation may serve since the body began to arrive, and
            # yet another when a call that has to wait enters.
            read = partial(self._read, module, name, body)
            if message:
                await self._host.send(module, name, *read())
                await answer(send, 202, _ACCEPTED)
            elif reader.call.kind is CallKind.STREAM:
                await self._host.opened(module)
                await self._stream(module, name, *read(), send)
            else:
                result = await self._host.call_with(module, name, read)
                await self._answer(send, module, name, result)
        except Refused as refused:
            await answer_refusal(send, refused)
        except ClientGone:
            return
        except asyncio.CancelledError:
            # The client has gone, or the server stops: there is nobody to answer, or no time.
            raise
        except BaseException as error:
            if not isinstance(error, Exception) and not _from_module(error):
                raise
            await self._fail(send, module, error)

    def _read(self, module: str, name: str, body: bytes) -> Arguments:
        return self._readers.reader(module, name).read(body)

    async def _answer(self, send: Send, module: str, name: str, result: Any) -> None:
        try:
            body = wire.encode(result)
        except (TypeError, ValueError, RecursionError) as error:
            facts = wire.Facts(
                error=f"the answer of {module}.{name} has no JSON form: {error}", kind="NotJson"
            )
            await answer_error(send, 500, facts)
            return
        await answer(send, 200, body)

    async def _stream(
        self,
        module: str,
        name: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        send: Send,
    ) -> None:
        """Answer with one JSON value a line; an error after the first line is the last line.

        A stream that goes on in another version says so in a line of its own, `Resumed`.
        """
        stream = getattr(self._host[module], name)(*args, **kwargs)
        started, told = False, 0
        try:
            async for item in stream:
                text = wire.encode(item) + b"\n"
                moves = getattr(stream, "resumed", ())
                if len(moves) > told:
                    text = _resumed(moves[told:]) + text
                    told = len(moves)
                if not started:
                    started = True
                    await _start_stream(send)
                await send({"type": "http.response.body", "body": text, "more_body": True})
        except Exception as error:
            if not started:
                raise
            self._note(module, error)
            facts = wire.facts_of(error, public=self._guard.public)
            last = wire.line(wire.Failure(status=wire.status_of(error), facts=facts))
            await send({"type": "http.response.body", "body": last, "more_body": True})
        finally:
            close = getattr(stream, "aclose", None)
            if close is not None:
                await close()
        if not started:
            await _start_stream(send)
        await send({"type": "http.response.body", "body": b""})

    async def _fail(self, send: Send, module: str | None, error: BaseException) -> None:
        status = wire.status_of(error)
        if status == 500:  # noqa: PLR2004 - the module's own exception
            self._note(module, error)
        await answer_error(send, status, wire.facts_of(error, public=self._guard.public))

    def _note(self, module: str | None, error: BaseException) -> None:
        # What modules raise is an answer, not an accident of the host; who looks for it finds it.
        logger.debug("%s raised %s: %s", module, type(error).__name__, error, exc_info=error)


def _resumed(moves: Iterable[Resumed]) -> bytes:
    return b"".join(wire.line(wire.Resumed(**dataclasses.asdict(one))) for one in moves)


async def _start_stream(send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [NDJSON]})


def _route(scope: Scope) -> tuple[str, str, bool]:
    """Return module, call, and whether it is a message."""
    parts = scope["path"][len(PREFIX) :].split("/")
    message = len(parts) == 3 and parts[1] == _MESSAGES  # noqa: PLR2004 - NAME/messages/METHOD
    if (not message and len(parts) != 2) or not all(parts):  # noqa: PLR2004 - NAME/METHOD
        raise Refused(
            404, "calls are at /modules/NAME/METHOD, messages at /modules/NAME/messages/METHOD"
        )
    if scope["method"] != "POST":
        raise Refused(405, "calls and messages are sent with POST")
    return parts[0], parts[-1], message


def _from_module(error: BaseException) -> bool:
    """Tell what a module must not do to its host (`sys.exit` in a call) from a real interrupt."""
    return isinstance(error, SystemExit)


__all__ = ["PREFIX", "CallsApp"]
