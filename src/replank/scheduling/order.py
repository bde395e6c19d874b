"""Which of the waiting requests come first, which become one, and which are not needed any more.

All of it is decided from what the serving generations use of one another; nothing here runs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Protocol, TypeVar

from replank.report import ErrorReport, Outcome, ReloadReport

Uses = Callable[[str], Collection[str]]
"""Returns the modules that a module uses."""


class Wanted(Protocol):
    """What is asked for, as far as the order needs it."""

    id: str
    reason: str
    priority: int

    @property
    def names(self) -> frozenset[str]:
        """The modules."""

    @property
    def reads_source(self) -> bool:
        """Whether it takes what lies on the disk when its turn comes; a way back does not."""


W = TypeVar("W", bound=Wanted)


def superseded(newer: W, waiting: Iterable[W]) -> list[W]:
    """Return the waiting requests that a newer one makes needless.

    Args:
        newer: It reads its sources when its turn comes, and they are the newest.
        waiting: Requests that have not begun.
    """
    if not newer.reads_source:
        return []
    return [one for one in waiting if one.reads_source and one.names <= newer.names]


def circles(waiting: Sequence[W], uses: Uses) -> list[list[W]]:
    """Return the groups that must become one transaction, for their modules use one another.

    Args:
        waiting: Requests that have not begun.
        uses: Says what uses what.
    """
    groups: list[list[W]] = []
    for one in waiting:
        if not one.reads_source:
            continue
        for group in groups:
            if all(_in_circle(one.names, other.names, uses) for other in group):
                group.append(one)
                break
        else:
            groups.append([one])
    return [group for group in groups if len(group) > 1]


def used_first(waiting: Sequence[W], uses: Uses) -> list[W]:
    """Return the requests so that what is used comes before what uses it; else as they came.

    Args:
        waiting: Requests that have not begun, in the order in which they came.
        uses: Says what uses what.
    """
    before: Mapping[int, set[int]] = {
        at: {
            other
            for other, below in enumerate(waiting)
            if other != at
            and one.priority == below.priority
            and _uses_any(one.names, below.names, uses)
        }
        for at, one in enumerate(waiting)
    }
    sorter = TopologicalSorter(before)
    try:
        sorter.prepare()
    except CycleError:  # between requests of several modules: as they came
        return list(waiting)
    ordered: list[W] = []
    ready: list[int] = []
    while sorter.is_active():
        ready = sorted([*ready, *sorter.get_ready()])
        first = ready.pop(0)
        ordered.append(waiting[first])
        sorter.done(first)
    return ordered


def superseded_report(older: Wanted, newer: Wanted) -> ReloadReport:
    """Return the answer to a request that a newer one has made needless.

    Args:
        older: The request that is answered.
        newer: The one that has taken its place.
    """
    names = ", ".join(sorted(older.names))
    error = ErrorReport(
        phase="prepare",
        module=names if len(older.names) == 1 else None,
        kind="Superseded",
        message=f"a newer request for {names} has taken its place before it began",
        found=f"request {newer.id} ({newer.reason}), which reads the newest source",
        do=f"look at the outcome of {newer.id}; to have every request done: when_busy = queue",
    )
    return ReloadReport(
        id=older.id,
        outcome=Outcome.SUPERSEDED,
        modules=(),
        reason=older.reason,
        error=error,
        superseded_by=newer.id,
    )


def busy_report(asked: Wanted, busy: Iterable[Wanted]) -> ReloadReport:
    """Return the answer to a request that does not want to wait for its modules.

    Args:
        asked: The request that is answered.
        busy: Those that hold its modules, or wait for them.
    """
    names = ", ".join(sorted(asked.names))
    held = "; ".join(f"{one.id} ({one.reason}) of {', '.join(sorted(one.names))}" for one in busy)
    error = ErrorReport(
        phase="prepare",
        module=names if len(asked.names) == 1 else None,
        kind="Busy",
        message=f"{names} is being reloaded already, or is tied to a module that is",
        found=held,
        expected="no reload of it, of what it uses, or of what uses it",
        do="ask again when that has ended, or let it wait: when_busy = newest or queue",
    )
    return ReloadReport(
        id=asked.id, outcome=Outcome.REJECTED, modules=(), reason=asked.reason, error=error
    )


def _in_circle(first: frozenset[str], second: frozenset[str], uses: Uses) -> bool:
    return _reaches(first, second, uses) and _reaches(second, first, uses)


def _uses_any(first: frozenset[str], second: frozenset[str], uses: Uses) -> bool:
    if first & second:
        return False  # the same module: as they came
    return _reaches(first, second, uses)


def _reaches(start: frozenset[str], goal: frozenset[str], uses: Uses) -> bool:
    """Tell whether a module of one set uses one of the other, over others too."""
    seen: set[str] = set()
    left = list(start)
    while left:
        for used in uses(left.pop()):
            if used in goal:
                return True
            if used not in seen:
                seen.add(used)
                left.append(used)
    return False


__all__ = [
    "Uses",
    "Wanted",
    "busy_report",
    "circles",
    "superseded",
    "superseded_report",
    "used_first",
]
