"""Run every benchmark: `python -m bench`, `--quick` for the ones that say something in a minute.

Each case runs in a process of its own and prints one JSON line a result; then all of them are shown
as tables, with the load of the machine before and after. A case that fails is named at the end, and
the exit status is 1. `--plot FOLDER` draws the pause against the size of the state.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from bench.lines import Row, rows_of, table

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Case:
    """One benchmark: its module in this folder, and how it is run."""

    name: str
    what: str
    quick: tuple[str, ...] | None = ()
    full: tuple[str, ...] = ()
    limit_s: float = 600


_FEW = ("--records", "100000", "--repeats", "1", "--seconds", "1")

CASES = (
    Case("call_cost", "a call through an open gate, beside a bare await"),
    Case("reload", "a reload of a small state under 5,000 calls a second", ("--reloads", "20")),
    Case("state", "tables copied, migrated and taken back while they serve", ("--quick",)),
    Case("snapshots", "a large state on the disk while it serves", _FEW),
    Case("messages", "messages a second, in memory and on disk", None),
    Case("transactions", "several modules at once", None),
    Case("watch", "from saving a file to new code", None),
    Case("simulation", "seeded lives of a host", ("--runs", "200"), ("--runs", "2000")),
    Case("search", "every state of the two-phase commit", ("--modules", "2"), ("--modules", "3")),
    Case("faults", "a fault in each phase", None, ("--json",)),
    Case("verify", "bad edits caught, good ones taken", None),
    Case("soak", "reloads of every outcome, and what stays behind", None, ("--reloads", "400")),
    Case("peers", "what people use today, on one timetable", None),
)


def run(case: Case, *, quick: bool) -> tuple[list[Row], str]:
    """Run one case; returns its rows and why it failed, if it did."""
    arguments = (case.quick or ()) if quick else case.full
    command = [sys.executable, "-m", f"bench.{case.name}", *arguments]
    try:
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=case.limit_s, check=False
        )
    except subprocess.TimeoutExpired:
        return [], f"did not end within {case.limit_s:g} s"
    rows = rows_of(done.stdout)
    if done.returncode:
        return rows, f"exit {done.returncode}: {(done.stderr or done.stdout).strip()[-300:]}"
    return rows, "" if rows else "printed no JSON line"


def chosen(names: list[str], *, quick: bool) -> list[Case]:
    """Return the cases to run: those named, else all that the mode has and this checkout holds."""
    known = {case.name: case for case in CASES}
    unknown = [name for name in names if name not in known]
    if unknown:
        sys.exit(f"no case {', '.join(unknown)}; there are {', '.join(known)}")
    if names:
        return [known[name] for name in names]
    here = [case for case in CASES if any((ROOT / "bench").glob(f"{case.name}*"))]
    return [case for case in here if not quick or case.quick is not None]


def plot(rows: list[Row], folder: Path) -> Path | None:
    """Draw the pause against the number of records; None when the rows hold none."""
    import matplotlib.pyplot as plt

    points: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        pause = row.get("pause_ms", row.get("pause_median_ms"))
        if isinstance(pause, dict):
            pause = pause.get("median", pause.get("median_ms"))
        if "records" in row and isinstance(pause, int | float):
            way = str(row.get("way", row.get("mode", row.get("case", "pause"))))
            points.setdefault(way, []).append((row["records"], pause))
    if not points:
        return None
    figure, axes = plt.subplots(figsize=(7, 4))
    for way, line in sorted(points.items()):
        axes.plot(*zip(*sorted(line), strict=True), marker="o", label=way)
    axes.set(xscale="log", yscale="log", xlabel="records", ylabel="pause, ms")
    axes.legend()
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / "pause.svg", bbox_inches="tight")
    return folder / "pause.svg"


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", help="names of cases; all when none is given")
    parser.add_argument("--quick", action="store_true", help="under a minute")
    parser.add_argument("--list", action="store_true", help="name the cases and stop")
    parser.add_argument("--plot", type=Path, metavar="FOLDER", help="draw; needs matplotlib")
    options = parser.parse_args()
    if options.list:
        print("\n".join(f"{case.name:14}{case.what}" for case in CASES))
        return
    machine = f"Python {platform.python_version()}, {platform.system()}, {os.cpu_count()} cores"
    print(f"{machine}, load average {os.getloadavg()[0]:.2f}", flush=True)
    results: list[tuple[Case, list[Row]]] = []
    failed: list[str] = []
    for case in chosen(options.cases, quick=options.quick):
        load, began = os.getloadavg()[0], time.monotonic()
        print(f"{case.name}: {case.what} ...", file=sys.stderr, flush=True)
        rows, why = run(case, quick=options.quick)
        for row in rows:
            print(
                json.dumps({"bench": case.name, "load_before": round(load, 2), **row}), flush=True
            )
        if why:
            failed.append(f"{case.name}: {why}")
        results.append((case, rows))
        print(f"  {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    for case, rows in results:
        print(f"\n{case.name}: {case.what}\n\n{table(rows)}")
    print(f"\n{machine}, load average {os.getloadavg()[0]:.2f}")
    if options.plot:
        drawn = plot([row for _, rows in results for row in rows], options.plot)
        print(f"drawn: {drawn}" if drawn else "nothing to draw: run the case state")
    if failed:
        sys.exit("failed:\n" + "\n".join(failed))


if __name__ == "__main__":
    main()
