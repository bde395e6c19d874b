"""The fault matrix and the sweeps, whole.

`python -m bench.faults [--seed N] [--everything | --crash | --io | --calls] [--json]`. Without a
choice it runs the matrix: phase x part x fault x number of modules. `--crash` kills a host at every
single thing that it puts on the disk; `--io` has each of them fail instead; `--calls` raises an
error of ours at every single call inside a phase. `--everything` runs the matrix, the kills, the
failing disk and seeded simulations with one seed. `--cell`, `--kill` and `--io NAME` replay one.

With `--seconds` it does as much as fits, in an order that the seed chooses.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shlex
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Coroutine, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from tests.faults import io_errors
from tests.faults.cells import Cell, cells, every_call, run

LIMIT_S = 30.0

T = TypeVar("T")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.faults", description=__doc__)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--crash", action="store_true", help="kill -9 at every operation")
    parser.add_argument("--calls", action="store_true", help="an error of ours at every call")
    parser.add_argument(
        "--io", nargs="?", const="", help="every operation fails; or one, as printed"
    )
    parser.add_argument("--cell", help="one cell of the matrix, as printed")
    parser.add_argument("--kill", help="one crash, as printed")
    parser.add_argument("--everything", action="store_true", help="and seeded simulations too")
    parser.add_argument("--runs", type=int, default=20_000, help="simulated, of everything")
    parser.add_argument("--schedules", type=int, default=20_000, help="of a table, of everything")
    parser.add_argument("--seconds", type=float, help="at most; everything: 300")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    print(f"seed {options.seed}", file=sys.stderr)
    if options.everything:
        from bench.everything import everything

        options.seconds = options.seconds or 300.0
        return everything(options)
    if options.crash or options.kill:
        from bench.crashes import sweep  # it starts processes of its own

        return sweep(options)
    if options.io is not None:
        return io_sweep(options)
    return matrix(options)


def io_sweep(options: argparse.Namespace) -> int:
    """Have every single operation fail, in every way, and print what came of it."""
    began = time.perf_counter()
    operations = asyncio.run(io_errors.count(Path(tempfile.mkdtemp())))
    todo = [
        (at, ("full", "error")[at % 2], lasting, when)
        for at in range(1, len(operations) + 1)
        for lasting, when in io_errors.WAYS
    ]
    if options.io:
        at, error, times, when = options.io.split(":")
        todo = [(int(at), error, times == "lasting", when)]
    failures: dict[str, list[str]] = {}
    todo, done = in_time(todo, options), 0
    for at, error, lasting, when in todo:
        done += 1
        name = f"{at}:{error}:{'lasting' if lasting else 'once'}:{when}"
        folder = Path(tempfile.mkdtemp(prefix="replank-io-"))
        found = trial(io_errors.run(folder, at, error, lasting=lasting, when=when))
        shutil.rmtree(folder, ignore_errors=True)
        if found:
            failures[name] = found
            print(f"FAILED {name} {operations[at - 1]}", *found, sep="\n    ", file=sys.stderr)
            print(f"    replay: python -m bench.faults --io {name}", file=sys.stderr, flush=True)
    seconds = time.perf_counter() - began
    facts = {"operations": len(operations), "trials": done, "failures": failures}
    replay = [f"python -m bench.faults --io {name}" for name in failures]
    if options.json:
        print(json.dumps({**facts, "replay": replay, "seconds": round(seconds, 1)}))
    else:
        print(f"{done} trials at {len(operations)} operations, ", end="")
        print(f"{len(failures)} failed, {seconds:.0f} s")
    return 1 if failures else 0


def matrix(options: argparse.Namespace) -> int:
    """Run the matrix and print its size and result."""
    began = time.perf_counter()
    todo = cells()
    if options.calls:
        todo = asyncio.run(every_call(Path(tempfile.mkdtemp())))
    if options.cell:
        todo = [one for one in todo if str(one) == options.cell] or [Cell.parse(options.cell)]
    sizes: Counter[tuple[str, str, int]] = Counter()
    bad: Counter[tuple[str, str, int]] = Counter()
    failures: dict[str, list[str]] = {}
    for cell in in_time(todo, options):
        key = (f"{cell.phase} in the {cell.where}", cell.fault.partition(":")[0], cell.modules)
        sizes[key] += 1
        found = one(cell, options.seed)
        if found:
            bad[key] += 1
            failures[str(cell)] = found
            tell(cell, found, options.seed)
    seconds = time.perf_counter() - began
    if options.json:
        replay = [replay_of(cell, options.seed) for cell in failures]
        trials = {"trials": sizes.total(), "of": len(todo)}
        facts = {"seed": options.seed, **trials, "failures": failures, "replay": replay}
        print(json.dumps({**facts, "seconds": round(seconds, 1)}))
    else:
        print(table(sizes, bad))
        print(
            f"{sizes.total()} trials, {len(failures)} failed, {seconds:.0f} s, seed {options.seed}"
        )
    return 1 if failures else 0


def in_time(todo: Iterable[T], options: argparse.Namespace) -> Iterator[T]:
    """Yield what there is to do, while there is time; shuffled by the seed when that is limited.

    Args:
        todo: All of it.
        options: With `seconds` and `seed`.
    """
    if options.seconds is None:
        yield from todo
        return
    ends = time.perf_counter() + options.seconds
    order = list(todo)
    random.Random(options.seed).shuffle(order)
    for one in order:
        if time.perf_counter() > ends:
            return
        yield one


def one(cell: Cell, seed: int) -> list[str]:
    """Do one trial in a loop and a folder of its own."""
    folder = Path(tempfile.mkdtemp(prefix="replank-faults-"))
    try:
        return trial(run(cell, folder, seed))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def trial(work: Coroutine[Any, Any, list[str]]) -> list[str]:
    """Do one trial in a loop of its own; one that does not end is a failure too."""
    try:
        return asyncio.run(asyncio.wait_for(work, LIMIT_S))
    except Exception as error:
        return [f"the trial itself failed: {type(error).__name__}: {error}"]


def tell(cell: Cell, found: list[str], seed: int) -> None:
    print(f"FAILED {cell}", *(f"    {line}" for line in found), sep="\n", file=sys.stderr)
    print(f"    replay: {replay_of(cell, seed)}", file=sys.stderr, flush=True)


def replay_of(cell: object, seed: int) -> str:
    return f"python -m bench.faults --seed {seed} --cell {shlex.quote(str(cell))}"


def table(sizes: Counter[tuple[str, str, int]], bad: Counter[tuple[str, str, int]]) -> str:
    """Return the matrix as text: trials a cell, and how many of them failed."""
    faults = list(dict.fromkeys(fault for _, fault, _ in sizes))
    rows = list(dict.fromkeys((part, size) for part, _, size in sizes))
    lines = [f"{'phase':24}{'modules':>8}" + "".join(f"{fault:>13}" for fault in faults)]
    for part, size in rows:
        line = f"{part:24}{size:>8}"
        for fault in faults:
            count, failed = sizes[part, fault, size], bad[part, fault, size]
            result = f"{failed}/{count} BAD" if failed else f"{count} ok" if count else "-"
            line += f"{result:>13}"
        lines.append(line)
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
