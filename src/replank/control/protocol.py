"""What uvicorn's HTTP protocol needs on top: who the peer is, and who stopped waiting."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import sys
from typing import TYPE_CHECKING, Any, Final

from replank.control.patience import refuse
from replank.traffic.gate import Gate
from replank.traffic.messages import Inbox

if TYPE_CHECKING:
    from uvicorn.protocols.http.h11_impl import H11Protocol as Base
else:
    try:
        from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol as Base
    except ImportError:  # httptools is several times faster; h11 always comes with uvicorn
        from uvicorn.protocols.http.h11_impl import H11Protocol as Base

_SYSTEM: Final = str(sys.platform)  # a plain string: all branches are type-checked
HEAD_BYTES_MAX: Final = 64 * 1024
"""Bytes of one request's line and headers."""
_END: Final = b"\r\n\r\n"
_HEAD_END: Final = HEAD_BYTES_MAX + len(_END)
_TOO_LONG: Final = f"the head of the request is longer than {HEAD_BYTES_MAX} bytes"
TASK_KEY: Final = "replank.task"
"""Where the application leaves the task that runs a call, in the request's scope."""


class TcpProtocol(Base):
    """Bound a request's head, and take a call out of the queue when its client has gone."""

    _head_bytes = 0
    """Of a head that has not ended yet."""

    def data_received(self, data: bytes) -> None:
        """Refuse a head without end: the parser itself would keep all of it."""
        if len(data) > HEAD_BYTES_MAX and not self._in_request() and _END not in data[:_HEAD_END]:
            refuse(self, 431, _TOO_LONG)
            return
        super().data_received(data)
        if self.scope is not None and (self.cycle is None or self.cycle.scope is not self.scope):
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES_MAX:
                refuse(self, 431, _TOO_LONG)
        elif self._head_bytes:
            self._head_bytes = 0

    def _in_request(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def connection_lost(self, exc: Exception | None) -> None:
        """Give up what the client can no longer receive."""
        cycle = self.cycle
        super().connection_lost(exc)
        if cycle is not None and not cycle.response_complete:
            scope: dict[str, Any] = cycle.scope  # type: ignore[assignment]
            task: asyncio.Task[Any] | None = scope.get(TASK_KEY)
            # A call that has entered runs to its end: cutting it would leave half a change.
            if task is not None and may_be_withdrawn(task):
                task.cancel("the client has gone")


class SocketProtocol(TcpProtocol):
    """Refuse a peer that is another user."""

    def connection_made(self, transport: Any) -> None:
        """Look at the peer before reading a byte from it."""
        peer = peer_uid(transport.get_extra_info("socket"))
        if peer is not None and peer not in (os.getuid(), 0):
            transport.abort()
            return
        super().connection_made(transport)


def peer_uid(connection: Any) -> int | None:
    """Return the user at the other end of a Unix socket, or None where the system cannot say.

    Args:
        connection: The connected socket.
    """
    try:
        if _SYSTEM == "linux":
            raw = connection.getsockopt(
                socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")
            )
            return int(struct.unpack("3i", raw)[1])
        if _SYSTEM == "darwin":
            raw = connection.getsockopt(0, 1, 76)  # SOL_LOCAL, LOCAL_PEERCRED: struct xucred
            return int(struct.unpack_from("2I", raw)[1])
    except OSError:
        return -1  # cannot be told although it should: nobody's friend
    return None


def may_be_withdrawn(task: asyncio.Task[Any]) -> bool:
    """Tell whether a task's call or message still waits, so that nothing of it was executed.

    A call waits at a closed gate, a message for room in a full queue.

    The suspended coroutines of the task say so themselves; calls pay nothing for the question.

    Args:
        task: A task that is suspended.
    """
    awaited: Any = task.get_coro()
    while awaited is not None:
        if getattr(awaited, "cr_code", None) is Gate.wait.__code__:
            frame = awaited.cr_frame
            waiting = frame.f_locals.get("waiting") if frame is not None else None
            # With a chain it is a nested call: the outer one has entered and must end by itself.
            return waiting is not None and waiting.chain is None
        if getattr(awaited, "cr_code", None) is Inbox.put.__code__:
            return True
        awaited = getattr(awaited, "cr_await", None)
    return False


__all__ = [
    "HEAD_BYTES_MAX",
    "TASK_KEY",
    "SocketProtocol",
    "TcpProtocol",
    "may_be_withdrawn",
    "peer_uid",
]
