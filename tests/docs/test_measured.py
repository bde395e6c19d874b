"""What the pages say was measured is what the bench has printed."""

from __future__ import annotations

import pytest
from bench.page import lines_of, places, read, written
from bench.sections import SECTIONS

from tests.docs import demo_text
from tests.docs.pages import ROOT, pages

BENCHMARKS = ROOT / "docs" / "benchmarks.md"
PAGES = [path for path in pages() if places(path.read_text("utf-8"))]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_the_tables_of_a_page_are_those_of_the_lines_beside_it(path) -> None:
    text = path.read_text("utf-8")
    told = "run: python -m bench --write docs/benchmarks.md --from docs/benchmarks.jsonl"
    assert written(text, read(lines_of(BENCHMARKS))) == text, told
    assert "The lines lack" not in text, "the bench tells more than it did: measure that case again"


def test_everything_that_can_be_told_has_its_place_on_the_page() -> None:
    assert sorted(places(BENCHMARKS.read_text("utf-8"))) == sorted(SECTIONS)


def test_what_the_readme_says_of_the_demo_is_what_a_run_of_it_printed() -> None:
    text = demo_text.README.read_text("utf-8")
    told = "run: python -m tests.docs.demo_text --kept"
    assert demo_text.with_text(text, demo_text.kept()) == text, told
    assert demo_text.kept().ok
