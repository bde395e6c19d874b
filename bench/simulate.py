"""Run many seeded schedules: `python -m bench.simulate 50000 [FIRST]`; prints one JSON line."""

from __future__ import annotations

import json
import sys
import time
import traceback

from tests.simulation.schedules import run


def main() -> int:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 50_000
    first = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    begin = time.perf_counter()
    for seed in range(first, first + count):
        try:
            run(seed)
        except Exception as error:
            traceback.print_exc()
            print(json.dumps({"seed": seed, "error": repr(error)}))
            return 1
    seconds = time.perf_counter() - begin
    print(json.dumps({"schedules": count, "first": first, "differences": 0, "seconds": seconds}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
