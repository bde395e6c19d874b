"""Work on a copy of the whole process, made in some milliseconds: a forked child.

What a child sees is one moment of everything: state, inbox position, tables in the middle of a
reload. The parent waits only for the fork itself (7 to 10 ms at 300 MB: the kernel copies the page
table, never the memory) and goes on; a page that either of the two writes afterwards is copied.

Rules of the child, because it is a copy of a process with threads, sockets and open databases:
1. It touches nothing that it did not open itself. Every descriptor is pointed at /dev/null first:
   a peer would not see a connection end while a copy of it is open, and a number that is taken
   cannot be closed by an object of the parent that happens to be freed.
2. It only computes: no thread but the forking one exists in it, and a lock that another thread
   held stays held.
3. It ends by `os._exit`, whatever happens: no finalizer, no buffer of the parent is ever flushed
   twice; and it ends with its parent.
4. The collector stays out of both: a full collection writes to every object, and so copies every
   page.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from replank import errors
from replank.errors import InternalError, PhaseTimeout, ReplankError
from replank.threads import in_thread

_FACTS: Final = ("what", "module", "phase", "found", "expected", "serves", "do", "location")
_PR_SET_PDEATHSIG: Final = 1
_NICENESS: Final = 2
"""A child gives way to what serves when there are more to run than processors."""
_READ_BYTES: Final = 1 << 16
_ANSWER: Final = b"a"
_ERROR: Final = b"e"

_libc: Final = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


class ChildDied(InternalError):
    """A forked child ended without an answer: it was killed, or crashed."""


def can_fork() -> bool:
    """Tell whether this process may be copied: on Linux, and not in a simulation."""
    if sys.platform != "linux":
        return False  # elsewhere system libraries do not bear it
    return not getattr(asyncio.get_running_loop(), "runs_alone", False)


class Fork:
    """A child that works on a copy of this moment, and its answer.

    The fork happens when this is constructed, on the event loop's thread.

    Args:
        work: What the child does; it returns the answer. What it raises is raised by `answer`.
        what: What the child is for, for errors.
        keep: Descriptors that the work needs.

    Raises:
        OSError: There is no room for another process.
    """

    def __init__(self, work: Callable[[], bytes], what: str, *, keep: Iterable[int] = ()) -> None:
        self.what = what
        self.pause_s = 0.0
        """How long the fork took, in seconds: for so long nothing else ran."""
        parent = os.getpid()
        self._read, write = os.pipe()
        began = time.perf_counter()
        try:
            with warnings.catch_warnings():
                # Python warns of forks beside threads, for locks; rule 2 is our answer.
                warnings.simplefilter("ignore", DeprecationWarning)
                self.pid = os.fork()
        except BaseException:
            os.close(self._read)
            os.close(write)
            raise
        if self.pid == 0:
            _live(work, parent, write, {write, *keep})
        self.pause_s = time.perf_counter() - began
        os.close(write)
        os.set_blocking(self._read, False)

    async def answer(self, limit_s: float) -> bytes:
        """Return what the work returned; the child is gone on return, whatever happens.

        Args:
            limit_s: Seconds that it may take.

        Raises:
            ChildDied: It was killed or crashed.
            PhaseTimeout: It did not end in time, and was ended.
            ReplankError: The work raised it.
        """
        began = time.perf_counter()
        said = bytearray()
        try:
            async with asyncio.timeout(limit_s):
                await self._listen(said)
        except TimeoutError:
            raise PhaseTimeout(
                f"{self.what} did not end in time and was ended",
                found=f"{time.perf_counter() - began:.0f} s",
                expected=f"at most {limit_s:g} s",
            ) from None
        finally:
            status = await asyncio.shield(self._end(killed=not said))
        return self._understood(bytes(said), status)

    async def _listen(self, said: bytearray) -> None:
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()

        def heard() -> None:
            try:
                part = os.read(self._read, _READ_BYTES)
            except BlockingIOError:
                return
            said.extend(part)
            if not part and not ended.done():
                ended.set_result(None)

        loop.add_reader(self._read, heard)
        try:
            await ended
        except BaseException:
            said.clear()  # half an answer is none, and the child is to be ended
            raise
        finally:
            loop.remove_reader(self._read)

    async def _end(self, *, killed: bool) -> int | None:
        """Make sure that the child is gone; returns how it ended when that is known."""
        os.close(self._read)
        if killed:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        try:
            # In a thread: giving back the memory of a large child takes some milliseconds.
            _, status = await in_thread(os.waitpid, self.pid, 0)
        except ChildProcessError:  # the program waits for every child itself
            return None
        return os.waitstatus_to_exitcode(status)

    def _understood(self, said: bytes, status: int | None) -> bytes:
        kind, rest = said[:1], said[1:]
        if kind == _ANSWER:
            return rest
        if kind == _ERROR:
            raise _error_of(rest)
        raise ChildDied(
            f"{self.what} ended without an answer",
            found="an unknown end" if status is None else f"exit status {status}",
            expected="an answer",
            do="look for the kernel's messages: it may have run out of memory",
        )


def _live(work: Callable[[], bytes], parent: int, pipe: int, keep: set[int]) -> None:
    """Be the child; never returns."""
    try:
        _leave_parent(parent, keep)
        said = _ANSWER + work()
    except BaseException as error:
        said = _ERROR + _facts_of(error)
    try:
        while said:
            said = said[os.write(pipe, said) :]
    finally:
        os._exit(0)


def _leave_parent(parent: int, keep: set[int]) -> None:
    gc.disable()
    gc.freeze()
    signal.set_wakeup_fd(-1)
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, signal.SIG_IGN)  # they are for the host, which lets us finish
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for fd in map(int, os.listdir("/proc/self/fd")):  # noqa: PTH208  # numbers, not paths
        if fd > 2 and fd != nowhere and fd not in keep:  # noqa: PLR2004  # the standard three
            with contextlib.suppress(OSError):  # the listing's own
                os.dup2(nowhere, fd, inheritable=False)
    with contextlib.suppress(OSError):
        os.nice(_NICENESS)


def _facts_of(error: BaseException) -> bytes:
    if not isinstance(error, ReplankError):
        error = InternalError(f"{type(error).__name__}: {error}")
    facts = {"kind": error.kind} | {name: getattr(error, name) for name in _FACTS}
    # A text that was read from a file name may not be UTF-8.
    kept = {name: text and text.encode(errors="replace") for name, text in facts.items()}
    return msgspec.msgpack.encode(kept)


def _error_of(said: bytes) -> ReplankError:
    found = msgspec.msgpack.decode(said, type=dict[str, bytes | None])
    facts = {name: None if text is None else text.decode() for name, text in found.items()}
    cls = getattr(errors, facts.pop("kind") or "", InternalError)
    what = facts.pop("what") or ""
    error: ReplankError = cls(what, **facts)
    return error


__all__ = ["ChildDied", "Fork", "can_fork"]
