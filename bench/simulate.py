"""Run many seeded schedules: `python -m bench.simulate 50000 [FIRST]`; prints one JSON line."""

from __future__ import annotations

import argparse
import json
import math
import time
import traceback

from tests.simulation.schedules import run


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int, nargs="?", default=50_000)
    parser.add_argument("first", type=int, nargs="?", default=0, help="the first seed")
    parser.add_argument("--seconds", type=float, default=math.inf, help="at most")
    options = parser.parse_args()
    began, done, replay = time.perf_counter(), 0, []
    for seed in range(options.first, options.first + options.count):
        done += 1
        try:
            run(seed)
        except Exception:
            traceback.print_exc()
            replay.append(f"python -m bench.simulate 1 {seed}")
            break
        if time.perf_counter() > began + options.seconds:
            break
    facts = {"schedules": done, "first": options.first, "differences": len(replay)}
    seconds = round(time.perf_counter() - began, 1)
    print(json.dumps({**facts, "replay": replay, "seconds": seconds}))
    return 1 if replay else 0


if __name__ == "__main__":
    raise SystemExit(main())
