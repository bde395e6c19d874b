"""Whether a process that has examined one candidate may examine the next.

A child of the probe costs more than what is examined in it: the fork, a thousand pages copied, the
end. So a candidate that has left nothing behind is followed by one that waits, in the same process.
What counts as nothing is written here, and it is strict: whoever is in doubt gets a child of its
own, and so does every candidate for which a process that was used before is not certainly as good
as a fresh one.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from dataclasses import dataclass, replace

from replank.memory import data_bytes

_MEMORY_LEFT_MAX = 32 * 1024 * 1024
"""How much more memory a candidate may leave to the next: the limit of that one begins there."""


@dataclass(frozen=True, slots=True)
class Ground:
    """What a process was like at one moment, beside what `Surroundings` and `patches` look at."""

    modules: frozenset[str]
    threads: int
    tasks: int
    descriptor: int
    memory_bytes: int
    has_children: bool
    settings: tuple[object, ...]

    @classmethod
    def now(cls) -> Ground:
        """Read it."""
        return cls(
            modules=frozenset(sys.modules),
            threads=threading.active_count(),
            tasks=_tasks(),
            descriptor=_lowest_free(),
            memory_bytes=data_bytes(),
            has_children=_has_children(),
            settings=(
                sys.getrecursionlimit(),
                sys.getswitchinterval(),
                sys.gettrace(),
                sys.getprofile(),
                sys.stdout,
                sys.stderr,
                gc.isenabled(),
                gc.get_threshold(),
                signal.getitimer(signal.ITIMER_REAL),
                signal.getitimer(signal.ITIMER_VIRTUAL),
                signal.getitimer(signal.ITIMER_PROF),
            ),
        )

    def is_as_it_was(self) -> bool:
        """Tell whether nothing of it has changed since."""
        now = Ground.now()
        kept_bytes = now.memory_bytes - self.memory_bytes
        same = replace(now, memory_bytes=self.memory_bytes) == self
        return same and kept_bytes <= _MEMORY_LEFT_MAX


def _tasks() -> int:
    """Return how many threads the system counts: a library may have begun some of its own."""
    try:
        return os.stat("/proc/self/task").st_nlink  # noqa: PTH116 - a path object costs pages
    except OSError:
        return 0


def _lowest_free() -> int:
    """Return the number that the next open file gets."""
    number = os.dup(0)
    os.close(number)
    return number


def _has_children() -> bool:
    """Tell whether it has started a process that is there still, or that nobody has waited for."""
    try:
        if hasattr(os, "waitid"):  # not on macOS before Python 3.13
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        else:
            os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return False
    return True


__all__ = ["Ground"]
