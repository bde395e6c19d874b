"""All proofs with one seed, within a time: started by `bench.faults --everything`.

Each part is a command of its own and gets its share of the seconds; the seed says what a part that
cannot do all of it does. Ends with one JSON line: what was run, and each failure with the command
that replays it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from bench.lines import Row, rows_of

GRACE_S = 60.0
"""What one trial, and the start and end of a part, may take beyond the part's share."""


@dataclass(frozen=True)
class Part:
    """One kind of proof, and its share of the time."""

    name: str
    command: tuple[str, ...]
    share: float


def parts(seed: int, runs: int, schedules: int) -> tuple[Part, ...]:
    """Return what is run.

    Args:
        seed: Of all of it.
        runs: Lives of a simulated host, at most.
        schedules: Of one table's reload, at most.
    """
    seeded = ("--seed", str(seed))
    return (
        Part("matrix", ("faults", "--json", *seeded), 0.30),
        Part("kills", ("faults", "--json", "--crash", *seeded), 0.20),
        Part("disk errors", ("faults", "--json", *seeded, "--io"), 0.10),
        Part("simulation", ("simulation", "--runs", str(runs), *seeded), 0.30),
        Part("schedules", ("simulate", str(schedules), str(seed), "--mode", "both"), 0.10),
    )


def ran(part: Part, seconds: float) -> Row:
    """Run one part; returns the line that it printed, or why there is none.

    Args:
        part: Which.
        seconds: Its share.
    """
    command = ["-m", f"bench.{part.command[0]}", *part.command[1:], "--seconds", f"{seconds:.1f}"]
    replay = f"python {' '.join(command)}"
    try:
        done = subprocess.run(
            [sys.executable, "-P", *command],
            stdout=subprocess.PIPE,
            text=True,
            check=False,
            timeout=seconds + GRACE_S,
        )
    except subprocess.TimeoutExpired:
        return {"error": f"did not end within {seconds + GRACE_S:.0f} s", "replay": [replay]}
    rows = rows_of(done.stdout)
    if not rows:
        return {"error": f"exit {done.returncode} and no line", "replay": [replay]}
    return rows[-1]


def everything(options: argparse.Namespace) -> int:
    """Run all parts and print what they came to; returns the exit status."""
    began, found = perf_counter(), {}
    for part in parts(options.seed, options.runs, options.schedules):
        print(f"{part.name} ...", file=sys.stderr, flush=True)
        found[part.name] = ran(part, options.seconds * part.share)
        print(json.dumps({"part": part.name, **found[part.name]}), flush=True)
    total = summary(found)
    seconds = round(perf_counter() - began, 1)
    print(json.dumps({"part": "all", "seed": options.seed, **total, "seconds": seconds}))
    for command in total["replay"]:
        print(f"replay: {command}", file=sys.stderr)
    return 1 if total["failed"] else 0


def summary(found: dict[str, Row]) -> dict[str, Any]:
    """Return the counts of all parts together.

    Args:
        found: The line of each part.
    """
    simulated = found.get("simulation", {})
    replay = [command for row in found.values() for command in row.get("replay", ())]
    return {
        "trials": sum(found.get(name, {}).get("trials", 0) for name in ("matrix", "disk errors")),
        "schedules": found.get("schedules", {}).get("schedules", 0) + simulated.get("runs", 0),
        "crashes": found.get("kills", {}).get("kills", 0) + simulated.get("crashes", 0),
        "histories": simulated.get("histories", 0),
        "failed": len(replay),
        "replay": replay,
    }
