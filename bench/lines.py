"""The JSON lines that the cases print: read, flattened, shown as a table."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

Row = dict[str, Any]

WIDTH_MAX = 100


def rows_of(text: str) -> list[Row]:
    """Return the JSON objects among the lines of an output, in order."""
    found = []
    for line in text.splitlines():
        if line.startswith("{"):
            try:
                found.append(json.loads(line))
            except json.JSONDecodeError:
                continue
    return found


def flat(row: Row, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the leaves of a row: `pause.median_ms`, 1.2."""
    for key, value in row.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        elif isinstance(value, list):
            yield f"{prefix}{key}", " ".join(map(str, value))
        else:
            yield f"{prefix}{key}", value


SIZES = frozenset({"records", "modules", "writes_per_s", "senders", "rate"})
"""Whole numbers that a case was asked for; every other one is counted or measured."""


def numbers(row: Row) -> dict[str, float]:
    """Return the leaves that are measured: fractions, and the interpreter's steps."""
    return {
        key: float(value)
        for key, value in flat(row)
        if isinstance(value, float) or (key.endswith("_steps") and isinstance(value, int))
    }


def label(row: Row) -> str:
    """Return what tells a row from its neighbours: its short texts and its sizes."""
    names = (
        f"{key}={value}" if key in SIZES else str(value)
        for key, value in flat(row)
        if key in SIZES or (isinstance(value, str) and len(value) < 40)
    )
    return " ".join(names)


def table(rows: Iterable[Row]) -> str:
    """Return rows as text; those with the same leaves stand together."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        one = dict(flat(row))
        groups.setdefault(tuple(one), []).append(one)
    return "\n\n".join(map(_group, groups.values())) or "(nothing)"


def _group(rows: list[Row]) -> str:
    """One line a row where that fits, else one line a leaf."""
    across = [list(rows[0]), *([str(value) for value in one.values()] for one in rows)]
    for cells in (across, [list(column) for column in zip(*across, strict=True)]):
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        if sum(widths) + 2 * len(widths) <= WIDTH_MAX:
            break
    return "\n".join(_line(one, widths) for one in cells)


def _line(cells: list[str], widths: list[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
