"""Compare two checkouts: `python -m bench.compare OLD [NEW] --case call_cost --rounds 7`.

The two take turns, old then new, new then old, so that a machine that becomes busier slows both
alike. Both are measured by the bench of the checkout where this runs, in its quick form unless
arguments are given. Printed is the ratio new / old of every measured number: the geometric mean
over the rounds with its 95 % interval (bootstrap over rounds). An interval that holds 1 shows no
difference; the exit status is 1 when some interval lies wholly above `--fail-above`, 2 when
nothing could be compared.

It ends after `--seconds`: with fewer rounds than asked for when the machine is busy; it says so.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import subprocess
import sys
from pathlib import Path
from time import perf_counter

from bench.cases import CASES
from bench.lines import label, numbers, rows_of

HERE = Path(__file__).parents[1]
RESAMPLES = 2_000
ROUNDS_MIN = 3
"""Fewer tell no interval."""

Numbers = dict[str, float]


class NotCompared(Exception):
    """A case that did not run in some checkout, and why."""


def measure(checkout: Path, case: str, arguments: list[str], limit_s: float) -> Numbers:
    """Run one case of one checkout; returns its numbers by row and name.

    Args:
        checkout: Whose `src` is measured.
        case: Name of a module in `bench`.
        arguments: Of the case.
        limit_s: Seconds it may take.

    Raises:
        NotCompared: It failed, or took too long.
    """
    paths = f"{checkout / 'src'}{os.pathsep}{HERE}"
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", f"bench.{case}", *arguments],
            env={**os.environ, "PYTHONPATH": paths},
            capture_output=True,
            text=True,
            check=False,
            timeout=limit_s,
        )
    except subprocess.TimeoutExpired:
        raise NotCompared(f"{checkout}: bench.{case} took longer than {limit_s:.0f} s") from None
    if done.returncode:
        raise NotCompared(f"{checkout}: bench.{case} failed: {done.stderr.strip()[-400:]}")
    return {
        f"{label(row)}: {name}": value
        for row in rows_of(done.stdout)
        for name, value in numbers(row).items()
        if value > 0 and not name.startswith("load")
    }


def turns(
    old: Path, new: Path, case: str, arguments: list[str], rounds: int, limit_s: float
) -> list[tuple[Numbers, Numbers]]:
    """Measure both in turns until the rounds or the time are used up.

    Args:
        old: A checkout.
        new: Another.
        case: Name of a module in `bench`.
        arguments: Of the case.
        rounds: How many are wanted.
        limit_s: Seconds for all of them.

    Raises:
        NotCompared: Not even one round was done.
    """
    ends, done = perf_counter() + limit_s, []
    for number in range(rounds):
        began = perf_counter()
        seen = []
        try:
            for checkout in (old, new)[:: 1 if number % 2 == 0 else -1]:
                left_s = max(ends - perf_counter(), 0.1)
                seen.append(measure(checkout, case, arguments, left_s))
        except NotCompared as error:
            if not done:
                raise
            print(f"round {number + 1}: {error}", file=sys.stderr)
            break
        done.append((seen[0], seen[1]) if number % 2 == 0 else (seen[1], seen[0]))
        now = perf_counter()
        if number + 1 < rounds and ends - now < now - began:
            break  # another would not end in time
    return done


def ratio(pairs: list[tuple[float, float]], rng: random.Random) -> tuple[float, float, float]:
    """Return the geometric mean of new / old and its 95 % interval, over paired rounds."""
    logs = [math.log(new / old) for old, new in pairs]
    means = sorted(
        sum(rng.choice(logs) for _ in logs) / len(logs) for _ in range(RESAMPLES if logs[1:] else 1)
    )
    low, high = means[int(len(means) * 0.025)], means[int(len(means) * 0.975)]
    return math.exp(sum(logs) / len(logs)), math.exp(low), math.exp(high)


def compared(rounds: list[tuple[Numbers, Numbers]]) -> list[dict[str, object]]:
    """Return a row for each number that both have."""
    rng, rows = random.Random(0), []
    for name in rounds[0][0]:
        pairs = [(old[name], new[name]) for old, new in rounds if name in old and name in new]
        if not pairs:
            continue
        mean, low, high = ratio(pairs, rng)
        interval = [round(low, 3), round(high, 3)] if len(pairs) >= ROUNDS_MIN else None
        facts = {"what": name, "new_to_old": round(mean, 3), "interval": interval}
        rows.append({**facts, "rounds": len(pairs), "load_1min": round(os.getloadavg()[0], 2)})
    return rows


def options_of(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="bench.compare", description=__doc__.splitlines()[0])
    parser.add_argument("old", type=Path, help="a checkout")
    parser.add_argument("new", type=Path, nargs="?", default=HERE)
    parser.add_argument("--case", default="call_cost")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=300, help="for all of it")
    parser.add_argument("--fail-above", type=float, default=math.inf, metavar="RATIO")
    parser.epilog = "What stands after -- is for the case."
    given = list(sys.argv[1:] if arguments is None else arguments)
    cut = given.index("--") if "--" in given else len(given)  # argparse minds two optional lists
    options = parser.parse_args(given[:cut])
    options.arguments = given[cut + 1 :]
    return options


def main(arguments: list[str] | None = None) -> int:
    """Take turns and print the ratios, one JSON line each; returns the exit status."""
    options = options_of(arguments)
    quick = {case.name: list(case.quick or ()) for case in CASES}
    try:
        rounds = turns(
            options.old.resolve(),
            options.new.resolve(),
            options.case,
            options.arguments or quick.get(options.case, []),
            options.rounds,
            options.seconds,
        )
    except NotCompared as error:
        print(error, file=sys.stderr)
        return 2
    rows = compared(rounds)
    for row in rows:
        print(json.dumps(row), flush=True)
    if len(rounds) < options.rounds:
        few = "" if len(rounds) >= ROUNDS_MIN else f"; an interval wants {ROUNDS_MIN}"
        print(
            f"{len(rounds)} of {options.rounds} rounds in {options.seconds:g} s{few}",
            file=sys.stderr,
        )
    slower = [
        row["what"] for row in rows if row["interval"] and row["interval"][0] > options.fail_above
    ]
    if slower:
        print(f"slower than {options.fail_above} times: {'; '.join(slower)}", file=sys.stderr)
    return 1 if slower else 0 if rows else 2


if __name__ == "__main__":
    raise SystemExit(main())
