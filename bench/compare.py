"""Compare two checkouts: `python -m bench.compare OLD [NEW] --case call_cost --rounds 7`.

The two take turns, old then new, new then old, so that a machine that becomes busier slows both
alike. Printed is the ratio new / old of every measured number: the geometric mean over the rounds
with its 95 % interval (bootstrap over rounds). An interval that holds 1 shows no difference; the
exit status is 1 when some interval lies wholly above `--fail-above`.
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

from bench.lines import label, numbers, rows_of

RESAMPLES = 2_000


def measure(checkout: Path, case: str, arguments: list[str]) -> dict[str, float]:
    """Run one case of one checkout; returns its numbers by row and name."""
    done = subprocess.run(
        [sys.executable, "-m", f"bench.{case}", *arguments],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": f"{checkout / 'src'}{os.pathsep}{checkout}"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{checkout}: bench.{case} failed: {done.stderr.strip()[-400:]}")
    return {
        f"{label(row)}: {name}": value
        for row in rows_of(done.stdout)
        for name, value in numbers(row).items()
        if value > 0 and not name.startswith("load")
    }


def ratio(pairs: list[tuple[float, float]], rng: random.Random) -> tuple[float, float, float]:
    """Return the geometric mean of new / old and its 95 % interval, over paired rounds."""
    logs = [math.log(new / old) for old, new in pairs]
    means = sorted(
        sum(rng.choice(logs) for _ in logs) / len(logs) for _ in range(RESAMPLES if logs[1:] else 1)
    )
    low, high = means[int(len(means) * 0.025)], means[int(len(means) * 0.975)]
    return math.exp(sum(logs) / len(logs)), math.exp(low), math.exp(high)


def main() -> None:
    """Take turns and print the ratios, one JSON line each."""
    parser = argparse.ArgumentParser(prog="bench.compare", description=__doc__.splitlines()[0])
    parser.add_argument("old", type=Path, help="a checkout")
    parser.add_argument("new", type=Path, nargs="?", default=Path(__file__).parents[1])
    parser.add_argument("--case", default="call_cost")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--fail-above", type=float, default=math.inf, metavar="RATIO")
    parser.add_argument("arguments", nargs="*", help="of the case, after --")
    options = parser.parse_args()
    rounds: list[tuple[dict[str, float], dict[str, float]]] = []
    for number in range(options.rounds):
        seen = {}
        for checkout in (options.old, options.new)[:: 1 if number % 2 == 0 else -1]:
            seen[checkout] = measure(checkout.resolve(), options.case, options.arguments)
        rounds.append((seen[options.old], seen[options.new]))
    rng = random.Random(0)
    slower = []
    for name in rounds[0][0]:
        pairs = [(old[name], new[name]) for old, new in rounds if name in old and name in new]
        if not pairs:
            continue
        mean, low, high = ratio(pairs, rng)
        row = {
            "what": name,
            "new_to_old": round(mean, 3),
            "interval": [round(low, 3), round(high, 3)],
        }
        print(
            json.dumps({**row, "rounds": len(pairs), "load_1min": os.getloadavg()[0]}), flush=True
        )
        if low > options.fail_above:
            slower.append(name)
    if slower:
        sys.exit(f"slower than {options.fail_above} times: {'; '.join(slower)}")


if __name__ == "__main__":
    main()
