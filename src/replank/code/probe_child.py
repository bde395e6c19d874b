"""The probe's server: a warm process that forks a child for each candidate and survives them all.

It is our own fork server because the one of `multiprocessing` imports the host's `__main__` again.
It runs one thread and one loop over a selector, holds nothing of the host but one end of a socket
pair, and ends when that socket closes or the host is gone.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import selectors
import signal
import socket
import sys
import warnings
from collections.abc import Callable
from time import monotonic
from typing import Final

import msgspec

from replank.code.probe_examine import WHERE_SIGNAL, examine_and_exit, installed_folders
from replank.code.probe_wire import (
    FRAME_BYTES_MAX,
    Cancel,
    Examine,
    Examined,
    Frames,
    Preload,
    Ready,
    ToHost,
    ToServer,
    frame,
)

_CHUNK_BYTES: Final = 256 * 1024
_FAULT_BYTES_MAX: Final = 64 * 1024
_WHERE_GRACE_S: Final = 1.0
"""How long a child at its deadline may take to write where it stands and die of it."""
_HOST_ALIVE_S: Final = 5.0
"""How often the server looks whether its host still lives, in seconds."""


class _Child:
    """One examination under way."""

    def __init__(self, request: Examine, pid: int, fds: dict[int, str]) -> None:
        self.request = request
        self.pid = pid
        self.fds = fds
        self.begun = monotonic()
        self.deadline = self.begun + request.limits.seconds
        self.timed_out = False
        self.kept: dict[str, bytearray] = {"report": bytearray(), "output": bytearray()}
        self.kept["fault"] = bytearray()

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


class ProbeServer:
    """Takes requests from the host, forks, watches and reports.

    Args:
        host: The server's end of the socket pair.
    """

    def __init__(self, host: socket.socket) -> None:
        self._host = host
        self._parent = os.getppid()
        self._frames = Frames()
        self._children: dict[int, _Child] = {}
        self._selector = selectors.DefaultSelector()
        self._woken, self._waker = socket.socketpair()
        for one in (self._woken, self._waker):
            one.setblocking(False)

    def run(self) -> None:
        """Serve until the host closes its end or is gone."""
        self._selector.register(self._host, selectors.EVENT_READ, self._on_request)
        self._selector.register(self._woken, selectors.EVENT_READ, self._on_wake)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        installed_folders()
        gc.collect()
        gc.freeze()
        self._send(Ready(os.getpid()))
        try:
            while os.getppid() == self._parent:
                for key, _ in self._selector.select(self._patience()):
                    on_ready: Callable[[], None] = key.data
                    on_ready()
                self._reap()
                self._end_overdue()
        except (EOFError, ConnectionError):
            pass
        finally:
            for child in self._children.values():
                child.kill()

    def _send(self, message: ToHost) -> None:
        self._host.sendall(frame(message))

    def _patience(self) -> float:
        now = monotonic()
        waits = [child.deadline - now for child in self._children.values()]
        return max(0.0, min([_HOST_ALIVE_S, *waits]))

    def _on_request(self) -> None:
        data = self._host.recv(_CHUNK_BYTES)
        if not data:
            raise EOFError
        for body in self._frames.feed(data):
            request: ToServer = msgspec.msgpack.decode(body, type=ToServer)
            if isinstance(request, Examine):
                self._fork(request)
            elif isinstance(request, Preload):
                _preload(request.names)
            else:
                self._cancel(request)

    def _on_wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._woken.recv(4096):
                pass

    def _cancel(self, request: Cancel) -> None:
        for child in self._children.values():
            if child.request.id == request.id:
                child.kill()

    def _fork(self, request: Examine) -> None:
        report, output, fault = os.pipe(), os.pipe(), os.pipe()
        with warnings.catch_warnings():
            # A preloaded library may run threads of its own in C; those that matter to us cannot.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            self._shed((report[0], output[0], fault[0]))
            examine_and_exit(request, report[1], output[1], fault[1])
        for _, write_end in (report, output, fault):
            os.close(write_end)
        child = _Child(request, pid, {report[0]: "report", output[0]: "output", fault[0]: "fault"})
        self._children[pid] = child
        for fd, what in child.fds.items():
            os.set_blocking(fd, False)
            self._selector.register(fd, selectors.EVENT_READ, self._reader(child, fd, what))

    def _shed(self, read_ends: tuple[int, ...]) -> None:
        """Close, in a new child, all that belongs to the server and to other children."""
        for fd in read_ends:
            os.close(fd)
        for child in self._children.values():
            for fd in child.fds:
                os.close(fd)
        self._children.clear()
        self._selector.close()
        for one in (self._host, self._woken, self._waker):
            one.close()

    def _reader(self, child: _Child, fd: int, what: str) -> Callable[[], None]:
        def read() -> None:
            # An event of this round may concern a child that ended earlier in it.
            if fd in child.fds and not self._read(child, fd, what):
                self._close(child, fd)

        return read

    def _read(self, child: _Child, fd: int, what: str) -> bool:
        """Read once; returns False at the end of the stream."""
        try:
            data = os.read(fd, _CHUNK_BYTES)
        except BlockingIOError:
            return True
        child.take(what, data)
        return bool(data)

    def _close(self, child: _Child, fd: int) -> None:
        self._selector.unregister(fd)
        del child.fds[fd]
        os.close(fd)

    def _end_overdue(self) -> None:
        now = monotonic()
        for child in self._children.values():
            if child.deadline > now:
                continue
            if child.timed_out:
                child.kill()
                child.deadline = now + _HOST_ALIVE_S
            else:
                child.where()

    def _reap(self) -> None:
        for pid, child in list(self._children.items()):
            status = _end_status(child)
            if status is not None:
                del self._children[pid]
                self._finish(child, status)

    def _finish(self, child: _Child, status: int) -> None:
        for fd, what in list(child.fds.items()):
            self._drain(child, fd, what)
            self._close(child, fd)
        self._send(
            Examined(
                id=child.request.id,
                report=bytes(child.kept["report"]) if status == 0 else b"",
                status=status,
                timed_out=child.timed_out,
                output=child.kept["output"].decode("utf-8", "replace"),
                fault=child.kept["fault"].decode("utf-8", "replace"),
                seconds=monotonic() - child.begun,
            )
        )

    def _drain(self, child: _Child, fd: int, what: str) -> None:
        """Read what is left; a daemon that still holds the pipe cannot make us wait."""
        while True:
            try:
                data = os.read(fd, _CHUNK_BYTES)
            except BlockingIOError:
                return
            if not data:
                return
            child.take(what, data)


def _end_status(child: _Child) -> int | None:
    """Reap a child that has ended, and end what it started; None while it runs."""
    can_look = hasattr(os, "waitid")  # not on macOS before Python 3.13
    if can_look:
        if os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            return None
        # While it is not reaped its group's number cannot be given to another's.
        child.kill()
    ended, status = os.waitpid(child.pid, os.WNOHANG)
    if not ended:
        return None
    if not can_look:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(status)


def _preload(names: tuple[str, ...]) -> None:
    for name in names:
        # It was imported in a child a moment ago; what fails here is imported by children again.
        with contextlib.suppress(BaseException):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()


def main(fd: int) -> None:
    """Run the server.

    Args:
        fd: Number of the inherited end of the socket pair.
    """
    ProbeServer(socket.socket(fileno=fd)).run()
    # No atexit handlers or destructors of preloaded libraries: nothing here is worth keeping.
    os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]))

__all__ = ["ProbeServer", "main"]
