"""Run many seeded simulations of a whole host: `python -m bench.simulation --runs 20000 --seed 1`.

Each run is a real host, startup, scheduler, coordinator, drain, gates, inboxes, tasks and
persistence on a simulated loop, disk and author; the seed chooses modules, traffic, reloads,
faults, cancellations and crashes. A seed that breaks a rule is printed, and replays by itself:
`python -m bench.simulation --runs 1 --seed N`. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import multiprocessing
import os
import time
import traceback
from collections import Counter
from typing import Any

COLLECT_EVERY = 25
CHUNK = 250
COUNTED = ("steps", "lives", "histories", "crashes", "calls", "messages")


def run_chunk(seeds: range) -> dict[str, Any]:
    """Run some seeds; return the counts and the first few failures."""
    from tests.simulation.clients import run
    from tests.simulation.world import simulated

    gc.freeze()
    gc.disable()
    totals: Counter[str] = Counter()
    failures: list[tuple[int, str]] = []
    with simulated():
        for seed in seeds:
            try:
                result = run(seed)
            except Exception:
                failures.append((seed, traceback.format_exc(limit=-3)))
            else:
                totals.update(result.outcomes)
                for name in COUNTED:
                    totals[name] += getattr(result, name)
            if seed % COLLECT_EVERY == 0:
                gc.collect()
    return {"totals": totals, "failures": failures, "runs": len(seeds)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seconds", type=float, default=math.inf, help="at most")
    options = parser.parse_args()
    began, last = time.perf_counter(), options.seed + options.runs
    size = CHUNK if math.isinf(options.seconds) else COLLECT_EVERY
    chunks = [range(one, min(one + size, last)) for one in range(options.seed, last, size)]
    totals: Counter[str] = Counter()
    failures: list[tuple[int, str]] = []
    ends, runs = began + options.seconds, 0
    if options.jobs == 1 or len(chunks) == 1:
        results = map(run_chunk, chunks)
    else:
        pool = multiprocessing.get_context("spawn").Pool(options.jobs)
        results = pool.imap_unordered(run_chunk, chunks)
    for result in results:
        totals.update(result["totals"])
        failures += result["failures"]
        runs += result["runs"]
        if time.perf_counter() > ends:
            break
    for seed, text in sorted(failures)[:5]:
        print(f"seed {seed}:\n{text}")
    print(
        json.dumps(
            {
                "runs": runs,
                "runs_asked": options.runs,
                "first_seed": options.seed,
                "broken": len(failures),
                "broken_seeds": sorted(seed for seed, _ in failures)[:20],
                "replay": [
                    f"python -m bench.simulation --runs 1 --seed {seed}"
                    for seed, _ in sorted(failures)[:20]
                ],
                "seconds": round(time.perf_counter() - began, 1),
                "jobs": options.jobs,
                **dict(sorted(totals.items())),
            }
        )
    )
    return 1 if failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
