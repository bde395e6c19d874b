"""Write the table of phases into README and docs from the table in the code.

`python -m tests.docs.phase_table`
"""

from __future__ import annotations

import re
from pathlib import Path

from replank.coordinator.phases import PHASES
from tests.docs.pages import ROOT

PAGES = (ROOT / "README.md", ROOT / "docs" / "explanation" / "phases.md")

_TABLE = re.compile(r"(<!-- phases: [^\n]* -->\n).*?(\n<!-- end of phases -->)", re.DOTALL)


def table() -> str:
    """Return the table, drawn from `PHASES`."""
    rows = [
        "| phase | while the old version serves | while calls wait | when it fails |",
        "|---|---|---|---|",
    ]
    rows += [
        f"| **{spec.phase.capitalize()}** | {spec.window or '-'} | {spec.pause or '-'} | {spec.undo} |"
        for spec in PHASES
    ]
    return "\n".join(rows)


def with_table(text: str) -> str:
    """Return a page's text with the table as it must be."""
    return _TABLE.sub(lambda found: f"{found[1]}{table()}{found[2]}", text)


def holds_table(page: Path) -> bool:
    """Whether a page has a place for the table."""
    return _TABLE.search(page.read_text("utf-8")) is not None


if __name__ == "__main__":
    for path in PAGES:
        path.write_text(with_table(path.read_text("utf-8")), "utf-8")
