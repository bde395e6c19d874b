"""Run every benchmark: `replank bench`, or `python -m bench`; `--quick` for those of a minute.

Each case runs in a process of its own and prints JSON lines; each is shown as a table too, with the
load average before it and the cores that other work kept busy meanwhile (`others_cores`). A quick
run ends within 60 seconds and a full one within a quarter of an hour: what then was not reached is
named, with how to run it alone. A case that fails is named at the end, and the exit status is 1.

`--write docs/benchmarks.md` writes what was measured into the pages; `--from FILE` takes it from
what an earlier run has printed, and measures nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
from dataclasses import replace
from importlib.util import find_spec
from math import inf, isinf
from pathlib import Path
from time import perf_counter

from bench.cases import CASES, FULL_LIMIT_S, LONGER, QUICK_LIMIT_S, Case
from bench.lines import Row, table
from bench.page import NoPlace, read, ready, write
from bench.plots import draw
from bench.pythons import other_pythons
from bench.runner import Result, run

ON_EACH_PYTHON = ("call_cost", "instructions", "reload")


class NoCase(Exception):
    """A name that no case has."""


def chosen(names: list[str], *, quick: bool, long: bool = False) -> list[Case]:
    """Return the cases to run: those named, else all that the mode has.

    Args:
        names: As typed.
        quick: Only those with a quick form.
        long: Only those with a long form, in it.

    Raises:
        NoCase: There is none of that name.
    """
    known = {case.name: case for case in CASES}
    if long:
        known = {name: replace(known[name], full=LONGER[name]) for name in known if name in LONGER}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise NoCase(f"no case {', '.join(unknown)}; there are {', '.join(known)}")
    if names:
        return [known[name] for name in names]
    return [case for case in known.values() if not quick or case.quick is not None]


def measure(cases: list[Case], *, quick: bool, limit_s: float, pythons: bool) -> list[Result]:
    """Run cases one after the other, and tell each as it ends.

    Args:
        cases: Which.
        quick: In their quick form.
        limit_s: Seconds for all of them; infinite when they were named.
        pythons: Those that differ most by interpreter also on the others found here.
    """
    ends = perf_counter() + limit_s
    results = []
    for case in cases:
        print(f"{case.name}: {case.what} ...", file=sys.stderr, flush=True)
        interpreters = [sys.executable]
        if pythons and case.name in ON_EACH_PYTHON:
            found, skipped = other_pythons()
            interpreters += found
            for row in skipped:
                results.append(Result(case, rows=[{"bench": case.name, **row}]))
                print(json.dumps(results[-1].rows[0]), flush=True)
        for python in interpreters:
            left_s = ends - perf_counter()
            result = run(case, quick=quick, python=python, left_s=left_s, alone=isinf(limit_s))
            tell(result)
            results.append(result)
    return results


def tell(result: Result) -> None:
    """Print a result: its JSON lines, and its table."""
    for row in result.rows:
        print(json.dumps(row), flush=True)
    shown = [{key: row[key] for key in row if key not in _SAME} for row in result.rows]
    loads = {key: result.rows[0].get(key) for key in _SAME} if result.rows else {}
    said = ", ".join(f"{key} {value}" for key, value in loads.items() if key != "bench")
    print(f"\n{result.case.name}: {result.case.what} ({said})\n\n{table(shown)}\n", flush=True)


_SAME = ("bench", "date", "mode", "machine", "load_before", "others_cores", "took_s")


def machine() -> Row:
    """Return what every number here depends on."""
    return {
        "bench": "machine",
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cores": os.cpu_count(),
        "load": [round(one, 2) for one in os.getloadavg()],
    }


def options_of(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="replank bench", description=(__doc__ or ""))
    parser.add_argument("cases", nargs="*", help="names of cases; all when none is given")
    parser.add_argument("--quick", action="store_true", help="under a minute")
    parser.add_argument("--long", action="store_true", help="what a full run has no room for")
    parser.add_argument("--list", action="store_true", help="name the cases and stop")
    parser.add_argument(
        "--plot", type=Path, metavar="FOLDER", help="draw SVG and PNG; needs matplotlib"
    )
    parser.add_argument(
        "--one-python", action="store_true", help="call cost on this Python only (quick: always)"
    )
    parser.add_argument(
        "--write", type=Path, metavar="PAGE", help="write what was measured into this page"
    )
    parser.add_argument(
        "--from",
        type=Path,
        action="append",
        dest="earlier",
        metavar="FILE",
        help="what an earlier run printed; nothing is measured",
    )
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run what was asked for; returns the exit status."""
    options = options_of(arguments)
    if options.list:
        print("\n".join(f"{case.name:14}{case.what}" for case in CASES))
        return 0
    if options.plot and find_spec("matplotlib") is None:
        # before a quarter of an hour, not after it
        sys.exit("--plot needs matplotlib: pip install 'replank[bench]'")
    try:
        cases = chosen(options.cases, quick=options.quick, long=options.long)
        if options.write:
            ready(options.write)
        if options.earlier:
            told([row for path in options.earlier for row in read(path)], options)
            return 0
    except (NoCase, NoPlace) as error:
        print(error, file=sys.stderr)
        return 2
    print(json.dumps(machine()), flush=True)
    began = perf_counter()
    results = measure(
        cases,
        quick=options.quick,
        # named cases are waited for; each has a limit of its own
        limit_s=limit_of(options),
        pythons=not (options.quick or options.one_python),
    )
    taken = round(perf_counter() - began, 1)
    print(json.dumps({**machine(), "seconds": taken}))
    told([row for one in results for row in one.lines()], options)
    return ending(results, quick=options.quick)


def limit_of(options: argparse.Namespace) -> float:
    """Return the seconds that a run may take; without an end when its cases were asked for."""
    if options.cases or options.long:
        return inf
    return QUICK_LIMIT_S if options.quick else FULL_LIMIT_S


def told(rows: list[Row], options: argparse.Namespace) -> None:
    """Draw and write what was asked for.

    Args:
        rows: Everything that was measured.
        options: With `plot` and `write`.
    """
    if options.plot:
        drawn = draw(rows, options.plot)
        print("drawn: " + ", ".join(map(str, drawn)) if drawn else "nothing to draw: run pause")
    if options.write:
        print("written: " + ", ".join(map(str, write(options.write, rows))))


def ending(results: list[Result], *, quick: bool) -> int:
    """Name what was left out and what failed; returns the exit status.

    Args:
        results: Of all cases.
        quick: It was a quick run.
    """
    for one in results:
        if one.left_out:
            alone = f"python -m bench {'--quick ' if quick else ''}{one.case.name}"
            print(f"left out: {one.case.name}: {one.left_out}; alone: {alone}", file=sys.stderr)
    if not quick:
        print(f"longer: python -m bench --long: {', '.join(LONGER)}", file=sys.stderr)
    failed = [one for one in results if one.failed]
    for one in failed:
        print(f"failed: {one.case.name}: {one.failed}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    # or what ends this would leave the case that runs, which is in a group of its own, behind
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    raise SystemExit(main())
