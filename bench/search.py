"""Search all ways that one transaction can go: `python -m bench.search --modules 3 --faults 2`.

Prints one JSON line: how many states were reached, and by how many runs of the real coordinator.
"""

from __future__ import annotations

import argparse
import gc
import json
import time


def main() -> int:
    from tests.simulation.search import ALL_PHASES, JOURNAL_MOVES, search
    from tests.simulation.world import simulated

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--modules", type=int, default=3)
    parser.add_argument("--faults", type=int, default=2)
    options = parser.parse_args()
    began = time.perf_counter()
    gc.freeze()
    with simulated():
        found = search(options.modules, options.faults)
    line = {
        "modules": options.modules,
        "faults_max": options.faults,
        "runs": found.runs,
        "crashes": found.crashes,
        "states": len(found.states),
        "moves": len(found.moves),
        "all_phases": found.phases == ALL_PHASES,
        "all_journal_moves": found.journal == JOURNAL_MOVES,
        "outcomes": dict(sorted(found.outcomes.items())),
        "seconds": round(time.perf_counter() - began, 1),
    }
    print(json.dumps(line))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
