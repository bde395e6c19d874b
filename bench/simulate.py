"""Run many seeded schedules of a table's reload: `python -m bench.simulate 50000 [FIRST]`.

Every second seed of `--mode both` is a lazy one. `--processes 2` shares them out; a seed that shows
a difference from a plain dict is printed with its traceback, and `simulate 1 SEED` replays it.
Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import time
import traceback

from tests.simulation.schedules import LazySchedule, Schedule, run

KINDS = {"windowed": (Schedule,), "lazy": (LazySchedule,), "both": (Schedule, LazySchedule)}


def broken(seeds: range, mode: str, seconds: float = math.inf) -> tuple[int, int | None]:
    """Run these seeds; return how many were, and the first that shows a difference, or None."""
    kinds, ends = KINDS[mode], time.perf_counter() + seconds
    for done, seed in enumerate(seeds, 1):
        try:
            run(seed, kinds[seed % len(kinds)])
        except Exception:
            traceback.print_exc()
            return done, seed
        if time.perf_counter() > ends:
            return done, None
    return len(seeds), None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int, nargs="?", default=50_000)
    parser.add_argument("first", type=int, nargs="?", default=0)
    parser.add_argument("--mode", choices=list(KINDS), default="windowed")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=math.inf, help="at most")
    options = parser.parse_args()
    seeds = range(options.first, options.first + options.count)
    begin = time.perf_counter()
    if options.processes == 1:
        found = [broken(seeds, options.mode, options.seconds)]
    else:
        size = -(-len(seeds) // options.processes)
        size += size % 2  # each part begins with the same kind
        parts = [seeds[at : at + size] for at in range(0, len(seeds), size)]
        with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
            found = pool.starmap(broken, [(one, options.mode, options.seconds) for one in parts])
    bad = [seed for _, seed in found if seed is not None]
    line = {
        "schedules": sum(done for done, _ in found),
        "first": options.first,
        "mode": options.mode,
        "broken": bad,
        "replay": [f"python -m bench.simulate 1 {seed} --mode {options.mode}" for seed in bad],
        "seconds": round(time.perf_counter() - begin, 1),
        "load": [round(value, 2) for value in os.getloadavg()],
    }
    print(json.dumps(line))
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
