"""Which edits are caught where, and which are taken: `python -m bench.verify`; prints the table.

Each edit of `tests/corpus` is tried on a host under load. "failed" and "lost" are what the callers
noticed: they must be 0 for every edit, good or bad. Milliseconds are from the request to the
report, on this machine, beside the load; most of it is the probe's child process, in which no call
waits.

`--isolated` runs the edited module in a process of its own: what is caught, and where, is the same.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import tempfile
from pathlib import Path

from tests.corpus.edits import BAD, GOOD, Edit
from tests.corpus.trial import Verdict, try_edits


async def verdicts(*, isolated: bool) -> list[Verdict]:
    found: list[Verdict] = []
    for _, edits in itertools.groupby(BAD, key=lambda edit: edit.kind):
        found += await tried(list(edits), isolated=isolated)
    return found + await tried(list(GOOD), isolated=isolated)


async def tried(edits: list[Edit], *, isolated: bool) -> list[Verdict]:
    with tempfile.TemporaryDirectory(prefix="replank-verify-") as folder:
        return await try_edits(edits, Path(folder), isolated=isolated)


def table(found: list[Verdict]) -> str:
    width = max(len(one.edit.name) for one in found)
    head = f"{'kind':<10}{'edit':<{width + 2}}{'outcome':<13}{'phase':<10}{'error':<17}"
    lines = [head + f"{'answered':>9}{'failed':>8}{'lost':>6}{'ms':>7}"]
    for one in found:
        left = f"{one.edit.kind:<10}{one.edit.name:<{width + 2}}{one.outcome:<13}"
        right = f"{one.answered:>9}{one.failed:>8}{one.lost:>6}{one.seconds * 1e3:>7.0f}"
        mark = "" if one.as_expected else f"   UNEXPECTED: {one.message}"
        lines.append(f"{left}{one.phase:<10}{one.error:<17}{right}{mark}")
    return "\n".join(lines)


def summary(found: list[Verdict]) -> dict[str, int]:
    bad = [one for one in found if one.edit.phase]
    good = [one for one in found if not one.edit.phase]
    return {
        "bad": len(bad),
        "caught_as_named": sum(one.as_expected for one in bad),
        "good": len(good),
        "taken": sum(one.as_expected for one in good),
        "calls_answered": sum(one.answered for one in found),
        "calls_failed": sum(one.failed for one in found),
        "lost": sum(one.lost for one in found),
    }


def main() -> int:
    found = asyncio.run(verdicts(isolated="--isolated" in sys.argv[1:]))
    if "--json" not in sys.argv[1:]:
        print(table(found))
    print(json.dumps(summary(found)))
    return 0 if all(one.as_expected for one in found) else 1


if __name__ == "__main__":
    raise SystemExit(main())
