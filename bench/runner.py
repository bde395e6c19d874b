"""Run one case in a process of its own, within its time, and end whatever it started."""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter

from bench.cases import ALONE_LIMIT_S, Case
from bench.lines import Row, rows_of
from bench.load import Load

ROOT = Path(__file__).parents[1]
ENOUGH_S = 1.0
"""With less than this left a case is not begun."""


@dataclass
class Result:
    """What came of one case.

    Args:
        case: Which.
        rows: What it printed, each with the load beside it.
        failed: Why it failed; empty when it did not.
        left_out: Why it did not run, or not to its end; empty when it did.
        seconds: It took.
    """

    case: Case
    rows: list[Row] = field(default_factory=list)
    failed: str = ""
    left_out: str = ""
    seconds: float = 0.0

    def lines(self) -> list[Row]:
        """Return the rows, and one that says why there are not more."""
        if not self.failed and not self.left_out:
            return self.rows
        why = {"failed_why": self.failed} if self.failed else {"left_out": self.left_out}
        python = {"python": self.rows[0]["python"]} if self.rows else {}
        return [*self.rows, {"bench": self.case.name, **python, **why}]


def run(
    case: Case, *, quick: bool, python: str = sys.executable, left_s: float, alone: bool = False
) -> Result:
    """Run one case.

    Args:
        case: Which.
        quick: As in a quick run.
        python: The interpreter.
        left_s: Seconds that are left for all that is still to come.
        alone: It was asked for by name, so that it need not leave time to others.
    """
    own_s = ALONE_LIMIT_S if alone else case.share_s
    limit_s = min(own_s, left_s)
    if limit_s < ENOUGH_S:
        return Result(case, left_out="no time was left")
    arguments = (case.quick or ()) if quick else case.full
    # -P: a folder "bench" where the user stands is not ours
    command = [python, "-P", "-m", f"bench.{case.name}", *arguments]
    load, began = Load(), perf_counter()
    code, output, errors = _ended(command, limit_s)
    result = Result(case, seconds=round(perf_counter() - began, 1))
    facts = {**made_by(case, quick=quick), **load.facts(), "took_s": result.seconds}
    result.rows = [{**facts, **row} for row in rows_of(output)]
    if code is None:
        said = f"ended after {limit_s:.0f} s, before it was done"
        if alone:  # nobody else wanted the time
            result.failed = said
        else:
            result.left_out = said
    elif code:
        result.failed = f"exit {code}: {(errors or output).strip()[-300:]}"
    elif not result.rows:
        result.failed = "printed no JSON line"
    return result


def made_by(case: Case, *, quick: bool) -> Row:
    """Return what every line of a case begins with: what, when and where it was measured.

    Args:
        case: Which.
        quick: As in a quick run.
    """
    return {
        "bench": case.name,
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "mode": "quick" if quick else "full",
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        # a case that runs on another Python says so itself
        "python": platform.python_version(),
    }


def _ended(command: list[str], limit_s: float) -> tuple[int | None, str, str]:
    """Run to the end or the limit; returns the exit code, None at the limit, and what it printed.

    Output goes to files: what a child of the case still holds open must keep nobody waiting.
    """
    paths = [str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH", "")]
    if not (ROOT / "src").is_dir():  # installed: replank is found without help
        paths = paths[1:]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command,
            env=environment,
            stdout=output,
            stderr=errors,
            start_new_session=True,
        )
        try:
            code: int | None = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            _end_group(process)
        texts = []
        for stream in (output, errors):
            stream.seek(0)
            texts.append(stream.read().decode(errors="replace"))
    return code, *texts


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End a case and every process that it left behind."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
