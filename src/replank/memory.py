"""What memory this process has, and how to have it in large pages before it is copied.

A fork copies one entry of the page table for every 4 KiB, while nothing else runs: 20 to 35 ms for
320 MB. Where 2 MiB lie in one large page there is one entry for all of it: 2 to 6 ms. So before a
fork the memory is gathered into large pages, beside the traffic: whoever touches a part that is
being moved waits for that part alone (1 to 6 ms, measured with Linux 6.18 on two cores). A page
that is written while the child lives is split again, so it is done before each fork.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import mmap
import os
import sys
from collections.abc import Iterator
from typing import Final

from replank.threads import in_thread

GATHER_FROM_BYTES: Final = 96 * 1024 * 1024
"""Below it a fork takes some milliseconds as it is."""

_PAGE_BYTES: Final = mmap.PAGESIZE
_LARGE_BYTES: Final = 2 * 1024 * 1024
_FULL: Final = 0.95
"""How much of a part must be in memory: gathering fills up the rest."""
_MADV_COLLAPSE: Final = 25  # Linux 6.1, include/uapi/asm-generic/mman-common.h
_NEVER: Final = (errno.EINVAL, errno.ENOSYS, errno.EPERM)
"""What a kernel answers that cannot do it at all."""

_libc: Final = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
_impossible: list[int] = []
"""Why it is not tried again, as an `errno`."""


def resident_bytes() -> int:
    """Return the memory the process has in RAM, in bytes; 0 where the system does not say."""
    return _pages(1) * _PAGE_BYTES


def data_bytes() -> int:
    """Return what counts against a limit of memory, in bytes; 0 where the system does not say."""
    return _pages(5) * _PAGE_BYTES


def _pages(field: int) -> int:
    try:
        # Read while calls wait, and in fresh forks, where a file object alone would write to two
        # hundred pages: it would cost more than the reading.
        statm = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return int(os.read(statm, 256).split()[field])
        finally:
            os.close(statm)
    except (OSError, ValueError, IndexError):
        return 0


async def gather_pages() -> None:
    """Have the memory in large pages where the kernel can: the fork that follows is short."""
    if _libc is None or _impossible or resident_bytes() < GATHER_FROM_BYTES:
        return
    if not getattr(asyncio.get_running_loop(), "runs_alone", False):
        await in_thread(gather_now)


def gather_now() -> int:
    """Do as `gather_pages`; blocks the calling thread alone.

    Returns:
        How many bytes lie in large pages for certain.
    """
    gathered = 0
    for start, end in _parts():
        first = -(-start // _LARGE_BYTES) * _LARGE_BYTES
        for at in range(first, end - _LARGE_BYTES + 1, _LARGE_BYTES):
            refused = _collapse(at)
            if refused in _NEVER:
                _impossible.append(refused)
                return gathered
            # Otherwise no large page is free, or the part is gone by now: the next may do.
            gathered += 0 if refused else _LARGE_BYTES
    return gathered


def _collapse(at: int) -> int:
    """Move one part into a large page; returns 0, or the `errno`."""
    assert _libc is not None, "only Linux has large pages"
    if _libc.madvise(ctypes.c_void_p(at), ctypes.c_size_t(_LARGE_BYTES), _MADV_COLLAPSE) == 0:
        return 0
    return ctypes.get_errno()


def _parts() -> Iterator[tuple[int, int]]:
    """Yield where memory of our own lies that is in use, and not yet in large pages."""
    try:
        with open("/proc/self/smaps", "rb") as file:  # noqa: PTH123 - no path of anybody's
            lines = file.read().splitlines()
    except OSError:
        return
    start = end = resident = 0
    private = False
    for line in lines:
        words = line.split()
        if not words[0].endswith(b":"):
            start, end = (int(one, 16) for one in words[0].split(b"-"))
            own = len(words) < 6 or words[5] == b"[heap]"  # noqa: PLR2004 - the sixth is its file
            private = own and words[1].startswith(b"rw-p") and end - start >= _LARGE_BYTES
        elif words[0] == b"Rss:":
            resident = int(words[1]) * 1024
        elif words[0] == b"AnonHugePages:":
            large = int(words[1]) * 1024
            if private and resident > _FULL * (end - start) and large < resident - _LARGE_BYTES:
                yield start, end


__all__ = ["GATHER_FROM_BYTES", "data_bytes", "gather_now", "gather_pages", "resident_bytes"]
