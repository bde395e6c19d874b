"""The table of the peers, and where one of them is better: from the rows alone."""

from __future__ import annotations

from collections.abc import Sequence

from bench.lines import Row

COLUMNS = {
    "failed_good": "failed",
    "mixed": "met two versions",
    "old_after_new": "old after new",
    "state": "state kept",
    "longest_quiet_ms": "longest wait before, ms",
    "longest_good_ms": "longest wait, ms",
    "new_code_ms": "to new code, ms",
    "failed_bad": "failed after a bad version",
    "answered_by_bad": "answered by it",
    "mixed_bad": "met it halfway",
}
OURS = "Replank"


def table(rows: Sequence[Row]) -> str:
    """Return the rows as Markdown; a peer that was skipped has its reason below."""
    lines = [
        "| | " + " | ".join(COLUMNS.values()) + " |",
        "|---" * (len(COLUMNS) + 1) + "|",
    ]
    for row in rows:
        if "skipped" in row:
            continue
        cells = {**row, "state": "no" if row["lost_state"] else "yes"}
        shown = ["never" if cells[key] is None else str(cells[key]) for key in COLUMNS]
        name = f"{row['peer']} {row['version'].removeprefix('OTP ')}"
        name += f", Python {row['on_python']}" if "on_python" in row else ""
        lines.append(f"| {name} | " + " | ".join(shown) + " |")
    skipped = [f"\nSkipped: {r['peer']}: {r['skipped']}." for r in rows if "skipped" in r]
    return "\n".join([*lines, *skipped])


def better(rows: Sequence[Row]) -> str:
    """Return a list of the columns in which some peer did better than Replank.

    Args:
        rows: With one of Replank's own.
    """
    measured = [row for row in rows if "skipped" not in row]
    own = next((row for row in measured if row["peer"] == OURS), None)
    if own is None:
        return "Replank itself was not measured in that run."
    lines = []
    for key, name in COLUMNS.items():
        if key in ("state", "longest_quiet_ms"):
            continue
        ahead = [row for row in measured if _value(row, key) < _value(own, key)]
        if ahead:
            shown = ", ".join(
                f"{row['peer']} {_said(row, key)}" for row in sorted(ahead, key=lambda r: r[key])
            )
            lines.append(f"- *{name}*: Replank {_said(own, key)}; {shown}.")
    return "\n".join(lines) or "In no column of that run."


def _value(row: Row, key: str) -> float:
    found = row[key]
    return float("inf") if found is None else float(found)


def _said(row: Row, key: str) -> str:
    return "never" if row[key] is None else str(row[key])
