"""The host's side of the nursery: ask for workers, learn how they ended, end them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from typing import Final

import msgspec

from replank.errors import InternalError, UsageError
from replank.isolation.nursery_child import Birth, Born, Ended, Said
from replank.threads import in_thread

_BOOT: Final = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[2]); "
    "from replank.isolation.nursery_child import main; main(int(sys.argv[1]))"
)
_START_TIMEOUT_S: Final = 30.0
_STOP_TIMEOUT_S: Final = 2.0
_MESSAGE_BYTES: Final = 1 << 17
_FAULT_BYTES: Final = 64 * 1024


class Process:
    """One worker's process.

    Args:
        pid: Its number.
        link: The host's end of its socket pair.
        fault: Where its interpreter writes where it stood when it crashed.
    """

    def __init__(self, pid: int, link: socket.socket, fault: int) -> None:
        self.pid = pid
        self.link = link
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        """Its exit status; a negative one is the number of the signal."""
        self._fault = fault
        # By this it can be killed and nothing else: a number may be given to another process.
        self._fd = os.pidfd_open(pid)

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send it a signal, if it still lives."""
        if self._fd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._fd, number)

    def last_words(self) -> str:
        """Return where it stood when it crashed; "" when it was killed or left by itself."""
        if self._fault < 0:
            return ""
        return os.pread(self._fault, _FAULT_BYTES, 0).decode("utf-8", "replace")

    def resident_bytes(self) -> int:
        """Return the memory that it takes just now, shared pages included; 0 when it is gone."""
        try:
            with open(f"/proc/{self.pid}/statm", "rb") as file:  # noqa: PTH123 - each second
                return int(file.read().split()[1]) * _PAGE_BYTES
        except (OSError, IndexError):
            return 0

    def cpu_s(self) -> float:
        """Return the CPU time that it has used, in seconds; 0 when it is gone."""
        try:
            with open(f"/proc/{self.pid}/stat", "rb") as file:  # noqa: PTH123 - each second
                fields = file.read().rpartition(b")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / _TICKS if len(fields) > 12 else 0.0  # noqa: PLR2004

    def close(self) -> None:
        """Let its descriptors go; it has ended."""
        for fd in (self._fd, self._fault):
            if fd >= 0:
                os.close(fd)
        self._fd = self._fault = -1


_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_TICKS: Final = os.sysconf("SC_CLK_TCK")


class Nursery:
    """Starts workers; one for each host, started when the first is asked for."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._sock: socket.socket | None = None
        self._starting = asyncio.Lock()
        self._births: dict[int, asyncio.Future[int]] = {}
        self._workers: dict[int, Process] = {}
        self._early: dict[int, int] = {}
        self._last = 0

    async def start(self) -> None:
        """Have the nursery ready, so that the first worker need not wait for it.

        Raises:
            UsageError: This system has no workers.
            InternalError: It does not start.
        """
        if sys.platform != "linux":
            raise UsageError(
                'isolation = "process" needs Linux',
                found=sys.platform,
                do='take isolation out of the configuration, or say "none"',
            )
        async with self._starting:
            if self._child is not None and self._child.poll() is None and self._sock is not None:
                return
            self._gone()
            if self._child is not None:  # it has ended, or is about to
                await in_thread(_bury, self._child)
            self._child, sock = await in_thread(_spawn)
            self._sock = sock
            asyncio.get_running_loop().add_reader(sock.fileno(), self._listen)

    async def worker(self, data_bytes_max: int | None = None) -> Process:
        """Start a worker.

        Args:
            data_bytes_max: Hard limit of its private memory.

        Raises:
            InternalError: The nursery does not answer.
        """
        await self.start()
        assert self._sock is not None, "it has just been started"
        ours, theirs = socket.socketpair()
        fault = os.memfd_create("replank-fault")
        self._last += 1
        number = self._last
        born = self._births[number] = asyncio.get_running_loop().create_future()
        wanted = Birth(
            number,
            os.getcwd(),  # noqa: PTH109 - a string is what goes over the wire
            tuple(entry or os.getcwd() for entry in sys.path),  # noqa: PTH109 - as above
            tuple(sys.argv),
            data_bytes_max,
        )
        try:
            with theirs:
                body = msgspec.msgpack.encode(wanted)
                socket.send_fds(self._sock, [body], [theirs.fileno(), fault])
            async with asyncio.timeout(_START_TIMEOUT_S):
                pid = await born
            process = Process(pid, ours, fault)
        except BaseException as error:
            ours.close()
            os.close(fault)
            if isinstance(error, OSError | TimeoutError):
                raise InternalError(
                    "no process can be started for an isolated module",
                    found=f"{type(error).__name__}: {error}",
                    do="check the machine's memory and process limits",
                ) from error
            raise
        finally:
            self._births.pop(number, None)
        if pid in self._early:
            process.ended.set_result(self._early.pop(pid))
        else:
            self._workers[pid] = process
        return process

    async def close(self) -> None:
        """End the nursery and every worker that is left."""
        async with self._starting:
            for process in self._workers.values():
                process.kill()
            child, self._child = self._child, None
            if self._sock is not None:
                asyncio.get_running_loop().remove_reader(self._sock.fileno())
                self._sock.close()
                self._sock = None
            if child is not None:
                await in_thread(_bury, child)
            self._gone()

    def _listen(self) -> None:
        assert self._sock is not None, "it is read only while it is open"
        try:
            while data := self._sock.recv(_MESSAGE_BYTES):
                self._take(msgspec.msgpack.decode(data, type=Said))
        except BlockingIOError:
            return
        except OSError:
            pass
        self._gone()

    def _take(self, said: Said) -> None:
        if isinstance(said, Born):
            born = self._births.get(said.number)
            if born is not None and not born.done():
                born.set_result(said.pid)
            return
        assert isinstance(said, Ended), "there are two things to say"
        process = self._workers.pop(said.pid, None)
        if process is None:
            self._early[said.pid] = said.status
        elif not process.ended.done():
            process.ended.set_result(said.status)

    def _gone(self) -> None:
        """Note that the nursery has ended, and with it every worker."""
        if self._sock is not None:
            asyncio.get_running_loop().remove_reader(self._sock.fileno())
            self._sock.close()
            self._sock = None
        workers, self._workers = self._workers, {}
        for process in workers.values():
            process.kill()
            if not process.ended.done():
                process.ended.set_result(-signal.SIGKILL)
        for born in self._births.values():
            if not born.done():
                born.set_exception(OSError("the nursery has ended"))


def _spawn() -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Start the nursery's process; blocking, for a worker thread."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    flags: list[str] = getattr(subprocess, "_args_from_interpreter_flags", list)()
    path = json.dumps([entry or os.getcwd() for entry in sys.path])  # noqa: PTH109 - a string
    try:
        with theirs:
            child = subprocess.Popen(
                [sys.executable, *flags, "-c", _BOOT, str(theirs.fileno()), path],
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                # Ctrl-C in a terminal is the host's to handle: it drains first.
                start_new_session=True,
            )
    except OSError as error:
        ours.close()
        raise InternalError(
            "the process that starts isolated modules cannot be started",
            found=str(error),
            do="check the machine's memory and process limits",
        ) from error
    ours.setblocking(False)
    return child, ours


def _bury(child: subprocess.Popen[bytes]) -> None:
    try:
        child.wait(_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


__all__ = ["Nursery", "Process"]
