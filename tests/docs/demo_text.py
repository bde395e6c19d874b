"""Write what `replank demo` says into the README: `python -m tests.docs.demo_text` plays it, 20 s.

What was played is kept in docs/images/demo.json, and the text is what the demo's own printer makes
of it, so that a test can hold the README against both. `--kept` plays nothing.
"""

from __future__ import annotations

import asyncio
import re
import sys
import tempfile
from pathlib import Path

import msgspec
from rich.console import Console

from replank.demo.play import play
from replank.demo.show import Silent, print_result
from replank.demo.story import DemoResult
from tests.docs.pages import ROOT

README = ROOT / "README.md"
KEPT = ROOT / "docs" / "images" / "demo.json"
WIDTH = 80
SECONDS = 20.0

_PLACE = re.compile(
    r"(<!-- demo: [^\n]* -->\n```text\n).*?(\n```\n<!-- end of demo -->)", re.DOTALL
)


def told(result: DemoResult) -> str:
    """Return what the demo prints at its end, as on a terminal without colours."""
    console = Console(width=WIDTH, color_system=None, force_terminal=False)
    with console.capture() as captured:
        print_result(console, result)
    lines = (line.rstrip() for line in captured.get().strip().splitlines())
    return "\n".join(lines)


def kept() -> DemoResult:
    """Return what was played last."""
    return msgspec.json.decode(KEPT.read_bytes(), type=DemoResult)


def with_text(page: str, result: DemoResult) -> str:
    """Return a page's text with what the demo said."""
    assert _PLACE.search(page), "the page has no place for it"
    return _PLACE.sub(lambda found: f"{found[1]}{told(result)}{found[2]}", page)


def played() -> DemoResult:
    """Play the demo as the command does."""
    with tempfile.TemporaryDirectory() as folder:
        result = asyncio.run(play(Path(folder), Silent(), seconds=SECONDS, port=0))
    return DemoResult(verdict=result.verdict, played=result.played)


if __name__ == "__main__":
    if "--kept" not in sys.argv:
        KEPT.write_bytes(msgspec.json.format(msgspec.json.encode(played())) + b"\n")
    README.write_text(with_text(README.read_text("utf-8"), kept()), "utf-8")
