"""The probe's server: a warm process that forks children for candidates and survives them all.

Candidates that come at the same time share a child, one after the other, while each is well and
leaves no trace in it (`probe_ground.py`). Whatever else comes of a candidate in a child that was
used before counts for nothing: it is examined once more, in a child of its own. So what is told of
a candidate is what a child of its own has found, or that it is well.

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

from replank.code.loader import Loader
from replank.code.probe_examine import Ends, examine_and_exit, installed_folders
from replank.code.probe_process import Child
from replank.code.probe_wire import (
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
_HOST_ALIVE_S: Final = 5.0
"""How often the server looks whether its host still lives, in seconds."""


class ProbeServer:
    """Takes requests from the host, forks, watches and reports.

    Args:
        host: The server's end of the socket pair.
        lanes: How many children candidates share that come at the same time.
    """

    def __init__(self, host: socket.socket, lanes: int) -> None:
        self._host = host
        self._lanes = lanes
        self._parent = os.getppid()
        self._frames = Frames()
        self._children: dict[int, Child] = {}
        self._waiting: list[Examine] = []
        """What a child that is at work may soon take; those that came first are first."""
        self._looked = 0.0
        """When it was looked at last whether they have to wait any longer."""
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
        Loader()  # what it does once for the process, no child has to do
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
                self._fork_for_waiting()
        except (EOFError, ConnectionError):
            pass
        finally:
            for child in self._children.values():
                child.kill()

    def _send(self, message: ToHost) -> None:
        self._host.sendall(frame(message))

    def _patience(self) -> float:
        now = monotonic()
        times = [child.deadline for child in self._children.values()]
        if self._waiting:  # for children that were sharing when it was looked at last
            shared = [child.shares_until for child in self._children.values()]
            times += [one for one in shared if one > self._looked]
        return max(0.0, min([_HOST_ALIVE_S, *(one - now for one in times)]))

    def _on_request(self) -> None:
        data = self._host.recv(_CHUNK_BYTES)
        if not data:
            raise EOFError
        for body in self._frames.feed(data):
            request: ToServer = msgspec.msgpack.decode(body, type=ToServer)
            if isinstance(request, Examine):
                self._waiting.append(request)
            elif isinstance(request, Preload):
                _preload(request.names)
            else:
                self._cancel(request)

    def _on_wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._woken.recv(4096):
                pass

    def _cancel(self, request: Cancel) -> None:
        self._waiting = [one for one in self._waiting if one.id != request.id]
        for child in self._children.values():
            if child.request.id == request.id:
                child.answered = True
                child.kill()

    def _fork_for_waiting(self) -> None:
        """Fork for who waits, but for those that children at work may soon take."""
        self._looked = now = monotonic()
        for request in list(self._waiting):
            shared = sum(child.may_take(request, now) for child in self._children.values())
            if shared < self._lanes:
                self._waiting.remove(request)
                self._fork(request)

    def _fork(self, request: Examine) -> None:
        report, output, fault, orders = os.pipe(), os.pipe(), os.pipe(), os.pipe()
        with warnings.catch_warnings():
            # A preloaded library may run threads of its own in C; those that matter to us cannot.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            self._shed((report[0], output[0], fault[0], orders[1]))
            examine_and_exit(request, Ends(report[1], output[1], fault[1], orders[0]))
        for end in (report[1], output[1], fault[1], orders[0]):
            os.close(end)
        fds = {report[0]: "report", output[0]: "output", fault[0]: "fault"}
        child = self._children[pid] = Child(request, pid, fds, orders[1])
        for fd in child.fds:
            os.set_blocking(fd, False)
            self._selector.register(fd, selectors.EVENT_READ, self._reader(child, fd))

    def _shed(self, ends: tuple[int, ...]) -> None:
        """Close, in a new child, all that belongs to the server and to other children."""
        for fd in ends:
            os.close(fd)
        for child in self._children.values():
            child.dismiss()
            for fd in child.fds:
                os.close(fd)
        self._children.clear()
        self._waiting.clear()
        self._selector.close()
        for one in (self._host, self._woken, self._waker):
            one.close()

    def _reader(self, child: Child, fd: int) -> Callable[[], None]:
        def read() -> None:
            # An event of this round may concern a child that ended earlier in it.
            if fd not in child.fds:
                return
            if not self._read(child, fd):
                self._close(child, fd)
            elif child.fds[fd] == "report" and child.is_free():
                self._go_on(child)

        return read

    def _read(self, child: Child, fd: int) -> bool:
        """Read once; returns False at the end of the stream."""
        try:
            data = os.read(fd, _CHUNK_BYTES)
        except BlockingIOError:
            return True
        child.take(child.fds[fd], data)
        return bool(data)

    def _close(self, child: Child, fd: int) -> None:
        self._selector.unregister(fd)
        del child.fds[fd]
        os.close(fd)

    def _go_on(self, child: Child) -> None:
        """Answer for a candidate that has left no trace; have its child examine who waits."""
        for fd in list(child.fds):
            child.drain(fd)
        if child.timed_out or child.answered or child.kept["output"] or child.kept["fault"]:
            child.dismiss()  # its end is waited for, and tells the rest
            return
        self._answer(child, child.report(), 0)
        child.kept["report"].clear()
        child.answered = True
        for request in self._waiting:
            if child.may_take(request, monotonic()) and child.hand(request):
                child.answered = False
                self._waiting.remove(request)
                return
        child.dismiss()

    def _end_overdue(self) -> None:
        now = monotonic()
        for child in self._children.values():
            if child.deadline > now:
                continue
            if child.timed_out or child.used:
                child.kill()
                child.deadline = now + _HOST_ALIVE_S
            else:
                child.where()

    def _reap(self) -> None:
        for pid, child in list(self._children.items()):
            status = child.ended()
            if status is not None:
                del self._children[pid]
                self._finish(child, status)

    def _finish(self, child: Child, status: int) -> None:
        child.dismiss()
        for fd in list(child.fds):
            child.drain(fd)
            self._close(child, fd)
        if child.answered:
            return
        if child.used:  # whatever became of it, it may be for what another had done before it
            self._fork(child.request)
        else:
            self._answer(child, child.report() if status == 0 else b"", status)

    def _answer(self, child: Child, report: bytes, status: int) -> None:
        self._send(
            Examined(
                id=child.request.id,
                report=report,
                status=status,
                timed_out=child.timed_out,
                output=child.kept["output"].decode("utf-8", "replace"),
                fault=child.kept["fault"].decode("utf-8", "replace"),
                seconds=monotonic() - child.begun,
            )
        )


def _preload(names: tuple[str, ...]) -> None:
    for name in names:
        # It was imported in a child a moment ago; what fails here is imported by children again.
        with contextlib.suppress(BaseException):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()


def main(fd: int, lanes: int) -> None:
    """Run the server.

    Args:
        fd: Number of the inherited end of the socket pair.
        lanes: How many children candidates share that come at the same time.
    """
    ProbeServer(socket.socket(fileno=fd), lanes).run()
    # No atexit handlers or destructors of preloaded libraries: nothing here is worth keeping.
    os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))

__all__ = ["ProbeServer", "main"]
