"""The nursery: a warm process that forks the workers, and says how each of them ended.

A worker is a fork of a small process that has imported what every worker needs and nothing else:
no thread, no socket of the host, no module. That costs milliseconds where a new interpreter costs
a quarter of a second. The nursery runs no code of any module. It ends when the host does, and its
workers with it: they ask the kernel to be killed when their parent is gone.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import io
import os
import selectors
import signal
import socket
import sys
import warnings
from typing import Any, Final

import msgspec

from replank.isolation.worker import live

_PR_SET_PDEATHSIG: Final = 1
_MESSAGE_BYTES: Final = 1 << 17
_HOST_ALIVE_S: Final = 5.0
"""How often it looks whether its host still lives, in seconds."""


class Birth(msgspec.Struct, frozen=True):
    """What the host asks for: a worker with this end of a socket pair, and a place for faults."""

    number: int
    cwd: str
    sys_path: tuple[str, ...]
    argv: tuple[str, ...]
    data_bytes_max: int | None = None
    """Hard limit of the worker's private memory."""


class Born(msgspec.Struct, frozen=True, tag=True):
    """A worker began."""

    number: int
    pid: int


class Ended(msgspec.Struct, frozen=True, tag=True):
    """A worker ended; a negative status is the number of the signal."""

    pid: int
    status: int


Said = Born | Ended


class NurseryServer:
    """Forks workers on request and reaps them.

    Args:
        host: The nursery's end of the socket pair.
    """

    def __init__(self, host: socket.socket) -> None:
        self._host = host
        self._parent = os.getppid()
        self._workers: set[int] = set()
        self._selector = selectors.DefaultSelector()
        self._woken, self._waker = socket.socketpair()
        for one in (self._woken, self._waker):
            one.setblocking(False)

    def run(self) -> None:
        """Serve until the host closes its end or is gone."""
        self._selector.register(self._host, selectors.EVENT_READ)
        self._selector.register(self._woken, selectors.EVENT_READ)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        gc.collect()
        gc.freeze()
        try:
            while os.getppid() == self._parent:
                for key, _ in self._selector.select(_HOST_ALIVE_S):
                    if key.fileobj is self._host:
                        self._take()
                with contextlib.suppress(BlockingIOError):
                    while self._woken.recv(4096):
                        pass
                self._reap()
        except (EOFError, ConnectionError):
            pass
        finally:
            for pid in self._workers:
                _kill_group(pid)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)  # before its own `setsid` it is in our group

    def _take(self) -> None:
        data, fds, _, _ = socket.recv_fds(self._host, _MESSAGE_BYTES, 2)
        if not data:
            raise EOFError
        link, fault = fds
        wanted = msgspec.msgpack.decode(data, type=Birth)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            self._become(wanted, link, fault)
        os.close(link)
        os.close(fault)
        self._workers.add(pid)
        self._say(Born(wanted.number, pid))

    def _become(self, wanted: Birth, link: int, fault: int) -> Any:
        """Be a worker; never returns."""
        status = 1
        try:
            os.setsid()
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._selector.close()
            for one in (self._host, self._woken, self._waker):
                one.close()
            gc.unfreeze()
            for stream in (sys.stdout, sys.stderr):  # it may be killed at any moment
                if isinstance(stream, io.TextIOWrapper):
                    stream.reconfigure(line_buffering=True)
            os.chdir(wanted.cwd)
            sys.path[:] = wanted.sys_path
            sys.argv[:] = wanted.argv
            live(socket.socket(fileno=link), fault, wanted.data_bytes_max)
            status = 0
        finally:
            # Nothing may unwind into the loop of the nursery, of which this is a copy.
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(Exception):
                    stream.flush()
            os._exit(status)

    def _reap(self) -> None:
        for pid in list(self._workers):
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                continue
            # While it is not reaped its group's number cannot be given to another's: what it has
            # started ends with it.
            _kill_group(pid)
            _, status = os.waitpid(pid, 0)
            self._workers.discard(pid)
            self._say(Ended(pid, os.waitstatus_to_exitcode(status)))

    def _say(self, message: Said) -> None:
        self._host.send(msgspec.msgpack.encode(message))


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def main(fd: int) -> None:
    """Run the nursery.

    Args:
        fd: Number of the inherited end of the socket pair.
    """
    NurseryServer(socket.socket(fileno=fd)).run()
    os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]))

__all__ = ["Birth", "Born", "Ended", "NurseryServer", "Said", "main"]
