"""One child of the probe as its server sees it: what it examines, and what it has written."""

from __future__ import annotations

import contextlib
import os
import signal
from time import monotonic
from typing import Final

from replank.code.probe_examine import WHERE_SIGNAL
from replank.code.probe_wire import FRAME_BYTES_MAX, Examine, frame, split_verdict

_FAULT_BYTES_MAX: Final = 64 * 1024
_WHERE_GRACE_S: Final = 1.0
"""How long a child at its deadline may take to write where it stands and die of it."""
_SHARED_S: Final = 0.1
"""How long others wait for a child that examines, and how long one may take that is not its first;
then each gets a child of its own."""
_ORDER_BYTES_MAX: Final = 32 * 1024
"""What a pipe takes at once for certain."""
_CHUNK_BYTES: Final = 256 * 1024


class Child:
    """A process that examines one candidate, and then others while each has left no trace.

    Args:
        request: The first candidate.
        pid: Its process.
        fds: What it writes, by the descriptor where that is read.
        orders: Where it reads of the candidates that follow; closed, it leaves.
    """

    def __init__(self, request: Examine, pid: int, fds: dict[int, str], orders: int) -> None:
        self.request = request
        self.pid = pid
        self.fds = fds
        self.orders: int | None = orders
        self.used = False
        """Whether another candidate was examined in it before this one."""
        self.answered = False
        """Whether what it has found of its candidate was told: it is leaving."""
        self.timed_out = False
        self.begun = monotonic()
        self.shares_until = self.begun + _SHARED_S
        self.deadline = self.begun + request.limits.seconds
        self.kept: dict[str, bytearray] = {what: bytearray() for what in fds.values()}

    def may_take(self, request: Examine, now: float) -> bool:
        """Tell whether a candidate may wait for this child: it will soon be free, if ever."""
        at_work = self.orders is not None and now < self.shares_until
        return at_work and _needs(self.request) == _needs(request) and request.tests is None

    def hand(self, request: Examine) -> bool:
        """Have it examine one more candidate; returns False when it cannot."""
        order = frame(request)
        if self.orders is None or len(order) > _ORDER_BYTES_MAX:
            return False
        with contextlib.suppress(OSError):
            os.write(self.orders, order)
            self.request, self.used = request, True
            self.begun = monotonic()
            self.shares_until = self.begun + _SHARED_S
            self.deadline = self.begun + min(_SHARED_S, request.limits.seconds)
            return True
        return False

    def dismiss(self) -> None:
        """Have it leave when it has done what it does."""
        if self.orders is not None:
            os.close(self.orders)
            self.orders = None

    def take(self, what: str, data: bytes) -> None:
        """Keep what the child wrote, within bounds; the rest is read and dropped."""
        kept = self.kept[what]
        kept += data
        if what == "output":
            # The last words are those that explain an end.
            del kept[: -self.request.limits.output_bytes or None]
        elif what == "fault":
            if self.request.tests is None:
                del kept[_FAULT_BYTES_MAX:]
            else:  # the name of the test that runs, and where it stands, come last
                del kept[:-_FAULT_BYTES_MAX]
        elif len(kept) > FRAME_BYTES_MAX:
            kept.clear()
            self.kill()

    def drain(self, fd: int) -> None:
        """Read what is left; a daemon that still holds the pipe cannot make us wait."""
        while True:
            try:
                data = os.read(fd, _CHUNK_BYTES)
            except BlockingIOError:
                return
            if not data:
                return
            self.take(self.fds[fd], data)

    def is_free(self) -> bool:
        """Tell whether it has found its candidate well, and waits for the next."""
        found = split_verdict(self.kept["report"])
        return found is not None and found.waits

    def report(self) -> bytes:
        """Return what it has found of its candidate; empty when it did not get that far."""
        found = split_verdict(self.kept["report"])
        return b"" if found is None else found.report

    def where(self) -> None:
        """End a child that is overdue by a signal under which it first writes where it stands."""
        self.timed_out = True
        self.deadline = monotonic() + _WHERE_GRACE_S
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, WHERE_SIGNAL)

    def kill(self) -> None:
        """Kill the child and whatever it has started in its session's process group."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            # Before its own `setsid` the child is in our group still.
            os.kill(self.pid, signal.SIGKILL)

    def ended(self) -> int | None:
        """Reap it if it has ended, and end what it started; returns how, None while it runs."""
        can_look = hasattr(os, "waitid")  # not on macOS before Python 3.13
        if can_look:
            if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                return None
            # While it is not reaped its group's number cannot be given to another's.
            self.kill()
        ended, status = os.waitpid(self.pid, os.WNOHANG)
        if not ended:
            return None
        if not can_look:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
        return os.waitstatus_to_exitcode(status)


def _needs(request: Examine) -> tuple[object, ...]:
    """Return what a child is made for, and cannot change."""
    return request.cwd, request.sys_path, request.argv, request.tests


__all__ = ["Child"]
