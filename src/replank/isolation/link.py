"""The link between host and worker: requests and answers in both directions over one socket.

A frame is a length of four bytes, then MessagePack of (kind, number, name, body); the body is what
`values.pack` made. Either end may ask while it is being asked: a call in the worker calls another
module of the host before it is answered itself.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import socket
import struct
from collections.abc import Callable, Coroutine
from typing import Any, Final, Protocol

import msgspec

from replank.isolation.values import Told, raised

_log: Final = logging.getLogger("replank.isolation")
_LENGTH: Final = struct.Struct("<I")
_BUFFER_BYTES: Final = 1 << 20
BODY_BYTES_MAX: Final = 0xFFFF_0000
"""The longest body: what a length of four bytes can say, less the frame's own fields."""

ASK, ANSWER, FAIL, TELL, CANCEL = range(5)

Frame = tuple[int, int, str, bytes]
_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Frame).decode


class LinkEnded(ConnectionError):
    """The process at the other end is gone."""


class Served(Protocol):
    """Who is at this end."""

    def serve(self, number: int, name: str, body: bytes) -> Coroutine[Any, Any, bytes] | bytes:
        """Answer a request: at once, or by a coroutine whose answer is sent when it has ended."""

    def tell(self, name: str, body: bytes) -> None:
        """Take a note that wants no answer."""

    def failed(self, error: BaseException) -> bytes:
        """Return an exception as the body of an answer."""

    def stuck(self, name: str) -> None:
        """Note that a request goes on at the other end although it was cancelled."""

    def ended(self) -> None:
        """Note that the other end is gone."""


class Link(asyncio.Protocol):
    """One end of the link.

    Args:
        served: Who answers what the other end asks.
        where: Who is at the other end, for notes on exceptions.
        read: Unpacks what it says.
    """

    def __init__(self, served: Served, where: str, read: Callable[[bytes], Any]) -> None:
        self.where = where
        self.closed = False
        self._served = served
        self._read = read
        self._transport: asyncio.Transport
        self._buffer = bytearray()
        self._needed = 0
        """How much of it makes the next frame whole."""
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        self._running: dict[int, asyncio.Task[None]] = {}
        self.contexts: dict[int, contextvars.Context] = {}
        """In which what a request asks for in turn is run, by its number."""
        self._last = 0

    @classmethod
    async def over(
        cls, sock: socket.socket, served: Served, where: str, read: Callable[[bytes], Any]
    ) -> Link:
        """Open a link over a connected socket.

        Args:
            sock: The socket.
            served: Who answers what the other end asks.
            where: Who is at the other end.
            read: Unpacks what it says.
        """
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            sock.setsockopt(socket.SOL_SOCKET, option, _BUFFER_BYTES)
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        _, link = await loop.connect_accepted_socket(lambda: cls(served, where, read), sock)
        return link

    # -- asking -----------------------------------------------------------------------------------

    async def ask(
        self,
        name: str,
        body: bytes,
        context: contextvars.Context | None = None,
        patience_s: float | None = None,
    ) -> bytes:
        """Ask the other end, and return the body of its answer.

        When the caller is cancelled the other end is told, and what it does is awaited: a call
        that nobody waits for any more is in flight until it has ended there.

        Args:
            name: What is asked.
            body: What goes with it.
            context: Kept while it is answered, for what it asks for in turn.
            patience_s: Seconds that it may go on after the caller was cancelled; for ever when
                left out.

        Raises:
            LinkEnded: The other end is gone; what it has done of it is not known.
            BaseException: What the other end raised.
        """
        if self.closed:
            raise LinkEnded(self.where)
        self._last += 1
        number = self._last
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[bytes] = loop.create_future()
        self._waiting[number] = answer
        if context is not None:
            self.contexts[number] = context
        self._send(ASK, number, name, body)
        try:
            return await answer
        except asyncio.CancelledError:
            if answer.cancelled() and not self.closed:
                await self._cancelled(number, name, patience_s)
            raise
        finally:
            self._waiting.pop(number, None)
            if context is not None:
                self.contexts.pop(number, None)

    async def _cancelled(self, number: int, name: str, patience_s: float | None) -> None:
        """Cancel a request at the other end, and return when it has ended there."""
        loop = asyncio.get_running_loop()
        self._waiting[number] = ended = loop.create_future()
        self._send(CANCEL, number, "", b"")
        last = None if patience_s is None else loop.time() + patience_s
        while not ended.done():
            left_s = None if last is None else max(0.0, last - loop.time())
            try:
                await asyncio.wait((ended,), timeout=left_s)
            except asyncio.CancelledError:  # once is enough; the task stays marked as cancelled
                continue
            if not ended.done() and last is not None and loop.time() >= last:
                self._served.stuck(name)
                return
        if not ended.cancelled():
            ended.exception()

    def tell(self, name: str, body: bytes) -> None:
        """Tell the other end something; it is taken in order with all that is asked.

        Args:
            name: What is told.
            body: What goes with it.
        """
        if not self.closed:
            self._send(TELL, 0, name, body)

    def close(self) -> None:
        """Hang up; what is awaited fails."""
        if not self.closed:
            self._end()
        self._transport.close()

    # -- the protocol -----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Take what has arrived: whole frames, and the beginning of one."""
        if self._buffer:
            self._buffer += data
            if len(self._buffer) < self._needed:
                return  # a large frame is put together once, not at every piece
            data = bytes(self._buffer)
        view, at, end = memoryview(data), 0, len(data)
        self._needed = _LENGTH.size
        while end - at >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(data, at)
            self._needed = _LENGTH.size + length
            if end - at < self._needed:
                break
            self._take(_decode(view[at + _LENGTH.size : at + self._needed]))
            at += self._needed
            self._needed = _LENGTH.size
        self._buffer = bytearray(view[at:])

    def connection_lost(self, exc: Exception | None) -> None:
        """Note the end."""
        del exc
        if not self.closed:
            self._end()

    # -- inside -----------------------------------------------------------------------------------

    def _send(self, kind: int, number: int, name: str, body: bytes) -> None:
        frame = _encode((kind, number, name, body))
        self._transport.write(_LENGTH.pack(len(frame)) + frame)

    def _take(self, frame: Frame) -> None:
        kind, number, name, body = frame
        if kind in (ANSWER, FAIL):
            answer = self._waiting.get(number)
            if answer is None or answer.done():
                return
            if kind == ANSWER:
                answer.set_result(body)
            else:
                answer.set_exception(raised(Told(*self._read(body)), self.where, self._read))
        elif kind == ASK:
            self._serve(number, name, body)
        elif kind == TELL:
            try:
                self._served.tell(name, body)
            except Exception:  # nobody waits for it; the link must go on
                _log.exception("a note %s of %s could not be taken", name, self.where)
        elif (task := self._running.get(number)) is not None:
            task.cancel()

    def _serve(self, number: int, name: str, body: bytes) -> None:
        try:
            answer = self._served.serve(number, name, body)
        except BaseException as error:  # a module may raise anything; it is told, and no more
            self._fail(number, error)
            return
        if isinstance(answer, bytes):
            self._send(ANSWER, number, "", answer)
            return
        task = asyncio.get_running_loop().create_task(self._answer(number, answer))
        self._running[number] = task

        def ended(task: asyncio.Task[None]) -> None:
            self._running.pop(number, None)
            if task.cancelled():  # before its first step: it has told nobody
                answer.close()
                self._fail(number, asyncio.CancelledError())

        task.add_done_callback(ended)

    async def _answer(self, number: int, work: Coroutine[Any, Any, bytes]) -> None:
        try:
            body = await work
        except BaseException as error:
            self._fail(number, error)
            return
        if not self.closed:
            self._send(ANSWER, number, "", body)

    def _fail(self, number: int, error: BaseException) -> None:
        if not self.closed:
            self._send(FAIL, number, "", self._served.failed(error))

    def _end(self) -> None:
        self.closed = True
        waiting, self._waiting = self._waiting, {}
        for one in waiting.values():
            if not one.done():
                one.set_exception(LinkEnded(self.where))
                one.exception()  # seen: who waited may have given up
        for task in list(self._running.values()):
            task.cancel()
        self._served.ended()


__all__ = ["BODY_BYTES_MAX", "Link", "LinkEnded", "Served"]
