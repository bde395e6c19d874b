"""The benchmarks that `python -m bench` runs, in this order, and how each is run."""

from __future__ import annotations

from dataclasses import dataclass

QUICK_LIMIT_S = 56.0
"""All of `--quick`; its promise is a minute."""
ALONE_LIMIT_S = 1_800.0
"""One case that was asked for by name."""
FULL_LIMIT_S = 880.0
"""All of a full run; its promise is a quarter of an hour, on two cores."""


@dataclass(frozen=True)
class Case:
    """One benchmark: its module in this folder, and how it is run.

    Args:
        name: The module, and what people call it.
        what: One line for people.
        quick: Arguments of a quick run; None when it has no quick form.
        full: Arguments of a full run.
        share_s: Seconds of a full run that it may take, on each Python: about twice what it
            takes where nothing else runs, so that a busy machine lets none starve the others.
    """

    name: str
    what: str
    quick: tuple[str, ...] | None = ()
    full: tuple[str, ...] = ()
    share_s: float = 60


_CALLS = ("--rounds", "3", "--calls", "2000")
_MANY_CALLS = ("--calls", "10000")
_PAUSES = ("--records", "20000", "--rates", "5000", "--seconds", "0.3")
_AT_ONCE = ("--modules", "1", "8", "--rounds", "2")
_TABLES = ("--quick", "--repeats", "1", "--records", "50000", "--only", "window")
_DISK = ("--records", "20000", "--repeats", "1", "--seconds", "0.3", "--cases", "snapshot")
_FEW_FAULTS = ("--modules", "2", "--faults", "1")
_FEW_FAULTS_OF_THREE = ("--modules", "3", "--faults", "1")
_ALL_FAULTS = ("--everything", "--runs", "2000", "--seconds", "25")

# what says most comes first, for a machine too busy for all of it
CASES = (
    Case("call_cost", "a call through an open gate, beside a bare await", _CALLS, _MANY_CALLS),
    Case("instructions", "the interpreter's steps for such a call: the same on any machine"),
    Case("reload", "a reload of a small state under 5,000 calls a second", ("--reloads", "15")),
    Case(
        "pause", "pause, rollback and memory, by size of the state and by writes", _PAUSES, (), 280
    ),
    Case("transactions", "several modules at once", _AT_ONCE, ("--rounds", "6")),
    Case("startup", "start-up time, memory and install size", ("--rounds", "1")),
    Case("simulation", "seeded lives of a host", ("--runs", "100"), ("--runs", "1000")),
    Case("search", "every state of the two-phase commit", _FEW_FAULTS, _FEW_FAULTS_OF_THREE),
    Case("state", "tables alone, beside copying in the pause", _TABLES, ("--repeats", "1"), 180),
    Case("snapshots", "a large state on the disk while it serves", _DISK, ("--repeats", "1"), 120),
    Case("watch", "from saving a file to new code", ("--saves", "5")),
    Case("messages", "messages a second, in memory and on disk", ("1000",), ("20000",), 90),
    Case("peers", "what people use today, on one timetable", None, (), 180),
    Case("dashboard", "its page in a browser: first paint, memory", None, (), 90),
    Case("verify", "bad edits caught, good ones taken", None, ("--json",)),
    Case(
        "probation",
        "planted faults sent back, and no false alarm",
        None,
        ("--repeats", "2", "--trials", "50"),
        150,
    ),
    Case("broken", "broken candidates, and what calls notice of them", None, ("--times", "2"), 120),
    Case("soak", "reloads of every outcome, and what stays behind", None, ("--reloads", "250"), 90),
    Case("faults", "a fault in each phase", None, _ALL_FAULTS, 150),
)

LONGER = {
    "simulation": ("--runs", "20000"),
    "search": ("--modules", "3", "--faults", "2"),
    "broken": ("--times", "20"),
    "soak": ("--reloads", "2000"),
    "faults": ("--everything", "--runs", "20000", "--seconds", "600"),
}
"""By name, with these arguments, what a quarter of an hour has no room for: `--long`."""
