"""What `Table` and records cost while no reload runs: `python -m bench.steady [--rounds N]`.

One JSON line an operation: nanoseconds beside a plain dict or an object with plain attributes, and
their ratio, the least of many rounds in turns. The loop around an operation, some 8 ns, is in both.
Seconds are the thread's own, so other programs take no part of them but the caches.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from dataclasses import dataclass
from timeit import Timer
from typing import Any

from replank.record import Record
from replank.table import Table

ITEMS = 1_000
CALLS = 20_000


class Plain:
    """An object as any class makes it."""

    def __init__(self, a: int) -> None:
        self.a = a


class Own(Record):
    """A record."""

    a: int


@dataclass(slots=True)
class Slots:
    """A record that is a dataclass."""

    a: int


def compare(statement: str, plain: Any, ours: Any, rounds: int) -> dict[str, float]:
    """Return the nanoseconds of a statement on both, and their ratio.

    Args:
        statement: About `x`.
        plain: The one x.
        ours: The other.
        rounds: How often each has its turn.
    """
    timers = [Timer(statement, globals={"x": x}, timer=time.thread_time) for x in (plain, ours)]
    least = [float("inf"), float("inf")]
    for _ in range(rounds):
        for which, timer in enumerate(timers):
            least[which] = min(least[which], timer.timeit(CALLS))
    nanoseconds = [one / CALLS * 1e9 for one in least]
    return {
        "plain_ns": round(nanoseconds[0], 1),
        "ours_ns": round(nanoseconds[1], 1),
        "ratio": round(nanoseconds[1] / nanoseconds[0], 2),
    }


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Measure tables and records at rest")
    parser.add_argument("--rounds", type=int, default=60)
    rounds = parser.parse_args().rounds
    items = {f"k{number}": number for number in range(ITEMS)}
    pairs: list[tuple[str, str, Any, Any]] = [
        ("table", statement, items, Table(items))
        for statement in ("x['k7']", "x['k7'] = 1", "x.get('k7')", "'k7' in x")
    ]
    for kind, record in (("Record", Own(1)), ("dataclass", Slots(1))):
        pairs += [(kind, statement, Plain(1), record) for statement in ("x.a", "x.a = 2")]
    for kind, statement, plain, ours in pairs:
        line = {"case": kind, "does": statement, **compare(statement, plain, ours, rounds)}
        print(json.dumps({**line, "python": platform.python_version()}))
    print(json.dumps({"case": "machine", "load": os.getloadavg()}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
