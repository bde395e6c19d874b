"""What uvicorn's HTTP protocol needs on top: who the peer is, and who stopped waiting."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import sys
from typing import TYPE_CHECKING, Any, Final

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
TASK_KEY: Final = "replank.task"
"""Where the application leaves the task that runs a call, in the request's scope."""


class TcpProtocol(Base):
    """Take a call out of the queue when its client has gone."""

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


__all__ = ["TASK_KEY", "SocketProtocol", "TcpProtocol", "may_be_withdrawn", "peer_uid"]
