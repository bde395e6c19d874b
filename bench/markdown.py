"""Markdown from rows: tables, numbers as people read them, and how and when they came about."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bench.lines import Row

NOTHING = "-"
_MANY = 100
_SOME = 10


def grid(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table.

    Args:
        head: Of the columns.
        rows: Their cells; None is shown as nothing.
    """
    lines = [head, ["---"] * len(head), *([cell(one) for one in row] for row in rows)]
    shown = ["| " + " | ".join(one) + " |" for one in lines]
    shown[1] = "|---" * len(head) + "|"
    return "\n".join(shown)


def cell(value: object) -> str:
    """Return one value as text; numbers with as many digits as can be trusted."""
    if value is None:
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return number(value)
    return str(value)


def number(value: float) -> str:
    """Return a measured number: two digits below ten, none above a hundred."""
    size = abs(value)
    if size >= _MANY:
        return f"{value:,.0f}"
    if size >= _SOME:
        return f"{value:.1f}"
    if size >= 1:
        return f"{value:.2f}".removesuffix("0")
    return f"{value:.2g}"


def slashed(*values: float | None, unit: str = "") -> str:
    """Return some numbers as "1.2 / 3.4 ms"."""
    text = " / ".join(cell(None if one is None else float(one)) for one in values)
    return f"{text} {unit}" if unit else text


def came_about(rows: Sequence[Row]) -> str:
    """Return when, where and under which load rows were measured, as one line of text.

    Args:
        rows: At least one, as `runner.run` returns them.
    """
    dates = _both_ends(str(row["date"]) for row in rows if row.get("date"))
    pythons = ", ".join(_once(str(row["python"]) for row in rows if row.get("python")))
    machines = "; ".join(_once(str(row["machine"]) for row in rows if row.get("machine")))
    facts = [dates, f"Python {pythons}" if pythons else "", machines, _load(rows)]
    if any(row.get("mode") == "quick" for row in rows):
        facts.append("a quick run")
    return "Measured " + "; ".join(filter(None, facts)) + "."


def _load(rows: Sequence[Row]) -> str:
    loads = sorted(float(row["load_before"]) for row in rows if "load_before" in row)
    others = sorted(float(row["others_cores"]) for row in rows if "others_cores" in row)
    if not loads:
        return ""
    text = f"load average before it {_span(loads)}"
    return text + (f", other work kept {_span(others)} cores busy" if others else "")


def _span(values: Sequence[float]) -> str:
    return " to ".join(_once(f"{one:.1f}" for one in (values[0], values[-1])))


def _both_ends(values: Iterable[str]) -> str:
    found = sorted(values)
    return " to ".join(_once([found[0], found[-1]])) if found else ""


def _once(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))


def aim(text: str, *, reached: bool) -> str:
    """Return what was aimed at and whether it was reached; a miss is to be seen."""
    return f"- {text}: {'reached' if reached else '**missed**'}."
