"""What was measured, on the pages: `python -m bench --write docs/benchmarks.md`.

A page has places, from `<!-- measured: NAME -->` to `<!-- end of measured -->`; what stands between
is written by `bench/sections.py` from the JSON lines alone. The lines are kept beside the page
(`benchmarks.jsonl`): a run of some cases renews those and leaves the others, and the tests hold
every page against them. `--from FILE` writes what an earlier run has printed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path

from bench.lines import Row, rows_of
from bench.pythons import NOT_INSTALLED
from bench.sections import SECTIONS, Section

_PLACE = re.compile(
    r"(<!-- measured: (?P<name>[\w-]+) -->\n).*?(<!-- end of measured -->)", re.DOTALL
)
NOT_KEPT = frozenset({"machine"})
"""Rows that say nothing that the others do not say of themselves."""


class NoPlace(Exception):
    """A page that nothing can be written to, and why."""


def lines_of(page: Path) -> Path:
    """Return where the lines of a page are kept.

    Args:
        page: As docs/benchmarks.md.
    """
    return page.with_suffix(".jsonl")


def read(path: Path) -> list[Row]:
    """Return the JSON lines of a file; none when there is no such file."""
    return rows_of(path.read_text("utf-8")) if path.exists() else []


def merged(old: Iterable[Row], new: Iterable[Row]) -> list[Row]:
    """Return the old rows with those of the cases that were measured anew in their place.

    Args:
        old: From earlier runs.
        new: Of the last one; a case that only says why it was not measured replaces no numbers.
    """
    new = [row for row in new if row.get("bench") not in NOT_KEPT]
    run = {row.get("bench") for row in new}
    measured = {_key(row) for row in new if not _empty(row)}
    kept = [
        row
        for row in old
        if _key(row) not in measured and not (_empty(row) and row.get("bench") in run)
    ]
    return sorted([*kept, *new], key=_order)


def _key(row: Row) -> tuple[str, str]:
    """Tell which rows are measured together: those of one case on one kind of Python."""
    return str(row.get("bench", "")), ".".join(str(row.get("python", "")).split(".")[:2])


def _empty(row: Row) -> bool:
    return any(key in row for key in ("failed_why", "left_out")) or (
        "skipped" in row and "peer" not in row and "isolation" not in row
    )


def _order(row: Row) -> tuple[str, list[int]]:
    bench, python = _key(row)
    return bench, [int(part) for part in python.split(".") if part.isdigit()]


def written(text: str, rows: list[Row]) -> str:
    """Return a page's text with all its places written.

    Args:
        text: The page as it is.
        rows: Everything that is kept.
    """

    def place(found: re.Match[str]) -> str:
        return f"{found[1]}{shown(SECTIONS[found['name']], rows)}\n{found[3]}"

    return _PLACE.sub(place, text)


def shown(section: Section, rows: list[Row]) -> str:
    """Return what stands in one place.

    Args:
        section: Which.
        rows: Everything that is kept.
    """
    own = [row for row in rows if row.get("bench") in section.benches]
    good = [row for row in own if not _empty(row)]
    parts = [_text(section, good) if good else "Not measured yet."]
    for row in filter(_empty, own):
        if row.get("skipped") == NOT_INSTALLED:
            continue  # told by the run; a page of all Pythons that are not here says nothing
        why = row.get("failed_why") or row.get("left_out") or row.get("skipped")
        parts.append(f"`{row['bench']}`, Python {row.get('python', '?')}: {why}.")
    return "\n\n".join(parts)


def _text(section: Section, rows: list[Row]) -> str:
    """Have a section written; lines of an older bench must not lose what was measured today."""
    try:
        return section.write(rows)
    except KeyError as missing:
        benches = " ".join(section.benches)
        return f"The lines lack {missing}: measure it again, `python -m bench {benches}`."


def places(text: str) -> list[str]:
    """Return the names of a page's places, in order."""
    return [found["name"] for found in _PLACE.finditer(text)]


def ready(page: Path) -> None:
    """See that a page can be written, before a quarter of an hour and not after it.

    Args:
        page: As docs/benchmarks.md.

    Raises:
        NoPlace: It is not there, has no place, or one that nobody writes.
    """
    names = places(page.read_text("utf-8")) if page.exists() else []
    if not names:
        raise NoPlace(f"{page} has no place '<!-- measured: NAME -->'")
    unknown = [name for name in names if name not in SECTIONS]
    if unknown:
        known = ", ".join(SECTIONS)
        raise NoPlace(f"{page}: nobody writes {', '.join(unknown)}; there are {known}")


def write(page: Path, new: Iterable[Row]) -> list[Path]:
    """Keep what was measured, and write the page and all below its folder that show it.

    Args:
        page: As docs/benchmarks.md.
        new: What the last run printed.

    Returns:
        The pages that were written.

    Raises:
        NoPlace: The page has no place, or one that nobody writes.
    """
    ready(page)
    rows, done = merged(read(lines_of(page)), new), []
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    lines_of(page).write_text(lines, "utf-8")  # first: they cannot be had again
    for path in sorted(page.parent.rglob("*.md")):
        text = path.read_text("utf-8")
        if places(text):
            path.write_text(written(text, rows), "utf-8")
            done.append(path)
    return done
