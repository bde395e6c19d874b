"""Everything that README and docs show is run, and what they point to is there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

import replank
from tests.docs import api_page, phase_picture
from tests.docs.config_page import PAGE, page
from tests.docs.pages import ROOT, PageRun, blocks, matches, pages
from tests.docs.phase_table import PAGES as TABLE_PAGES
from tests.docs.phase_table import holds_table, with_table

PAGES = [pytest.param(path, id=str(path.relative_to(ROOT))) for path in pages()]


@pytest.mark.parametrize("path", PAGES)
def test_what_a_page_shows_runs_as_it_says(path: Path, tmp_path: Path) -> None:
    with PageRun(tmp_path) as run:
        for block in blocks(path):
            run.do(block)


@pytest.mark.parametrize("path", PAGES)
def test_every_link_of_a_page_leads_somewhere(path: Path) -> None:
    missing = [link for link in links(path.read_text("utf-8")) if not leads(path, link)]
    assert not missing


def links(text: str) -> list[str]:
    """Return where a page points to, but not what looks like it in its code blocks."""
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "``", prose))


def leads(page: Path, link: str) -> bool:
    """Whether there is the file, and in it the heading."""
    if "://" in link:
        return True
    name, _, anchor = link.partition("#")
    target = (page.parent / name).resolve() if name else page
    return target.exists() and (not anchor or anchor in anchors(target.read_text("utf-8")))


def anchors(text: str) -> set[str]:
    """Return the names by which the headings of a page are linked."""
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[\s]+", "-", re.sub(r"[^\w\s-]", "", one).strip().lower()) for one in titles}


def test_a_link_that_leads_nowhere_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# One, two `three`\n[a](page.md#one-two-three) [b](#four) [c](gone.md) `[d](x)`\n"
    )
    found = links(page.read_text())
    assert [one for one in found if not leads(page, one)] == ["#four", "gone.md"]


@pytest.mark.parametrize("path", PAGES)
def test_every_toml_block_is_toml(path: Path) -> None:
    for block in blocks(path):
        if block.language == "toml":
            tomllib.loads(block.text)


def test_the_readme_has_exactly_two_commands_that_set_themselves_up() -> None:
    lines = (ROOT / "README.md").read_text("utf-8").splitlines()
    commands = [line for line in lines if line.startswith("python3 -m venv ")]
    assert len(commands) == 2
    assert commands[0].endswith("replank demo")
    assert "pytest" in commands[1]


def test_the_configuration_page_is_that_of_the_code() -> None:
    assert PAGE.read_text("utf-8") == page(), "run: python -m tests.docs.config_page"


def test_the_page_of_the_python_api_is_that_of_the_docstrings() -> None:
    assert api_page.PAGE.read_text("utf-8") == api_page.page(), "run: python -m tests.docs.api_page"


def test_every_public_name_is_on_the_page_of_the_python_api() -> None:
    text = api_page.PAGE.read_text("utf-8")
    elsewhere = {"Config", "ReplankError", "__version__"}  # a page, a list, and no word
    assert [name for name in replank.__all__ if f"### `{name}`" not in text] == sorted(elsewhere)


def test_every_phase_and_every_outcome_is_among_the_words() -> None:
    text = (ROOT / "docs" / "reference" / "glossary.md").read_text("utf-8")
    assert [word for word in (*replank.Phase, *replank.Outcome) if f"**{word}**" not in text] == []


def test_the_picture_of_the_phases_is_that_of_the_code() -> None:
    drawn = phase_picture.PICTURE.read_text("utf-8")
    assert drawn == phase_picture.picture(), "run: python -m tests.docs.phase_picture"
    assert ET.fromstring(drawn).tag.endswith("svg")
    for path in phase_picture.PAGES:
        assert "images/phases.svg" in path.read_text("utf-8")


@pytest.mark.parametrize("path", TABLE_PAGES, ids=lambda path: path.name)
def test_the_table_of_phases_is_that_of_the_code(path: Path) -> None:
    assert holds_table(path)
    text = path.read_text("utf-8")
    assert with_table(text) == text, "run: python -m tests.docs.phase_table"


def test_every_command_has_its_line_in_the_reference() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "replank", "--help"],
        env=os.environ | {"NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    # a command is the first word of its line, whatever frame stands around it
    listed = done.stdout.split("Commands", 1)[1]
    commands = re.findall(r"^\W*([a-z]+)  ", listed, re.MULTILINE)
    assert {"run", "reload", "demo"} <= set(commands)
    text = (ROOT / "docs" / "reference" / "cli.md").read_text("utf-8")
    missing = [name for name in commands if f"replank {name}" not in text]
    assert not missing


@pytest.mark.parametrize("name", ["dev.txt", "run.txt", "docs.txt", "optional.txt"])
def test_the_pinned_requirements_name_no_index_and_hash_every_file(name: str) -> None:
    text = (ROOT / "requirements" / name).read_text("utf-8")
    assert not re.search(r"https?://|--(extra-)?index-url|--find-links|-f ", text)
    pins = re.findall(r"^[\w.-]+==", text, re.MULTILINE)
    assert len(pins) >= 10
    for entry in re.split(r"\n(?=\S)", text.strip()):
        assert "--hash=sha256:" in entry, entry


def test_the_pinned_requirements_hold_all_that_the_project_names() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    named = project["project"]["dependencies"]
    groups = project["dependency-groups"]
    optional = [one for one in groups["optional"] if isinstance(one, str)]
    for file, wanted in (
        ("run.txt", named),
        ("dev.txt", named + groups["dev"]),
        ("docs.txt", groups["docs"]),
        ("optional.txt", optional + groups["browser"]),
    ):
        text = (ROOT / "requirements" / file).read_text("utf-8")
        pinned = set(re.findall(r"^([\w.-]+)==", text, re.MULTILINE))
        assert {re.split(r"[<>=~ ;\[]", one)[0] for one in wanted} <= pinned


def test_output_is_compared_with_gaps() -> None:
    assert matches("a…c", "a b\nc")
    assert matches("", "")
    assert not matches("a…c", "a b")
    assert not matches("", "x")


def test_a_page_with_a_wrong_output_is_found(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.md"
    wrong.write_text("<!-- run -->\n```console\n$ echo one\ntwo\n```\n")
    with PageRun(tmp_path) as run, pytest.raises(AssertionError, match="echo one printed"):
        run.do(next(iter(blocks(wrong))))


def test_a_page_with_a_wrong_exit_code_is_found(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.md"
    wrong.write_text("<!-- run: 3 -->\n```console\n$ false\n```\n")
    with PageRun(tmp_path) as run, pytest.raises(AssertionError, match="ended with 1"):
        run.do(next(iter(blocks(wrong))))
