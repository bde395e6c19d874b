"""Kill a host at every single thing that it puts on the disk; started by `bench.faults --crash`."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.faults.crashes import Nursery

LANES = 2


def sweep(options: argparse.Namespace) -> int:
    """Run the sweep, or replay one kill, and print its size and result."""
    began = time.perf_counter()
    with Nursery() as nursery:
        folder = Path(tempfile.mkdtemp(prefix="replank-crash-"))
        operations = nursery.count(folder)
        shutil.rmtree(folder)
    kills = [(at, "before") for at in range(1, len(operations) + 1)]
    kills += [(at, "half") for at, what in enumerate(operations, 1) if " write " in what]
    kills += [(at, "after") for at, what in enumerate(operations, 1) if what.endswith("COMMIT")]
    if options.kill:
        at, _, when = options.kill.partition(":")
        kills = [(int(at), when or "before")]
    sizes: Counter[tuple[str, str]] = Counter()
    failures: dict[str, list[str]] = {}
    with ThreadPoolExecutor(LANES) as lanes:
        mine = [(kills[lane::LANES], options) for lane in range(LANES)]
        results = list(lanes.map(_lane, *zip(*mine, strict=True)))
    kills = [kill for done, _ in results for kill in done]
    for _, found in results:
        failures.update(found)
    for at, when in kills:
        sizes[operations[at - 1].split()[1], when] += 1
    for name, found in sorted(failures.items()):
        at = int(name.partition(":")[0])
        print(f"FAILED {name} {operations[at - 1]}", *found, sep="\n    ", file=sys.stderr)
        print(f"    replay: python -m bench.faults --kill {name}", file=sys.stderr)
    seconds = time.perf_counter() - began
    if options.json:
        facts = {"operations": len(operations), "kills": len(kills), "failures": failures}
        facts["replay"] = [f"python -m bench.faults --kill {name}" for name in failures]
        print(json.dumps({**facts, "seconds": round(seconds, 1)}))
    else:
        for (kind, when), count in sorted(sizes.items()):
            print(f"{kind:10}{when:10}{count:5}")
        print(f"{len(kills)} kills at {len(operations)} operations, ", end="")
        print(f"{len(failures)} failed, {seconds:.0f} s")
    return 1 if failures else 0


def _lane(
    kills: list[tuple[int, str]], options: argparse.Namespace
) -> tuple[list[tuple[int, str]], dict[str, list[str]]]:
    """Do some of the kills; returns those that were done, and what went wrong in which."""
    from bench.faults import in_time

    done: list[tuple[int, str]] = []
    failures: dict[str, list[str]] = {}
    with Nursery() as nursery:
        for at, when in in_time(kills, options):
            done.append((at, when))
            folder = Path(tempfile.mkdtemp(prefix="replank-crash-"))
            found = nursery.crash(folder, at, when)
            if found:
                failures[f"{at}:{when}"] = found
            shutil.rmtree(folder, ignore_errors=True)
    return done, failures
