"""How busy a machine is with other work: read from the kernel, so Linux only; elsewhere nothing."""

from __future__ import annotations

import os
import resource
from pathlib import Path
from time import perf_counter

_STAT = Path("/proc/stat")
_IDLE, _IOWAIT, _COUNTED = 3, 4, 8  # guest time is within user time already
TELLING_S = 0.5
"""The kernel counts in hundredths of a second."""


def busy_s(text: str, ticks_per_s: int) -> float:
    """Return the seconds that all cores together have worked since the machine started.

    Args:
        text: What /proc/stat holds.
        ticks_per_s: The kernel's unit.
    """
    ticks = [int(one) for one in text.splitlines()[0].split()[1 : _COUNTED + 1]]
    return (sum(ticks) - ticks[_IDLE] - ticks[_IOWAIT]) / ticks_per_s


def _machine_s() -> float | None:
    if not _STAT.exists():
        return None
    return busy_s(_STAT.read_text(), os.sysconf("SC_CLK_TCK"))


def _own_s() -> float:
    """Return the seconds of this process and of its children that have ended."""
    spent = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in spent)


def others_cores(machine_s: float, own_s: float, seconds: float) -> float | None:
    """Return how many cores work that is not ours kept busy; None when that was too short to tell.

    Args:
        machine_s: What all cores have worked.
        own_s: What of it was ours.
        seconds: How long that took.
    """
    if seconds < TELLING_S:
        return None
    return round(max(0.0, (machine_s - own_s) / seconds), 2)


class Load:
    """What others did on this machine since this was made.

    A benchmark's own work is in the load average too; what is told here is what the rest took.
    """

    def __init__(self) -> None:
        self._average = os.getloadavg()[0]
        self._machine, self._own, self._began = _machine_s(), _own_s(), perf_counter()

    def facts(self) -> dict[str, float]:
        """Return the load average at the begin, and the cores that other work kept busy."""
        facts = {"load_before": round(self._average, 2)}
        machine = _machine_s()
        if machine is not None and self._machine is not None:
            own, seconds = _own_s() - self._own, perf_counter() - self._began
            others = others_cores(machine - self._machine, own, seconds)
            if others is not None:
                facts["others_cores"] = others
        return facts
