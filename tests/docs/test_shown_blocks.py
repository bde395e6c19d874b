"""What a page shows and nobody runs is held against the code all the same."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import click
import pytest

from replank.cli.app import app
from replank.config import parse_config
from tests.docs.api_page import PAGE as WRITTEN_FROM_DOCSTRINGS
from tests.docs.demo_text import README
from tests.docs.pages import ROOT, Block, blocks, pages

SHOWN = [
    pytest.param(page, block, id=f"{page.relative_to(ROOT)}:{block.line}")
    for page in pages()
    if page != WRITTEN_FROM_DOCSTRINGS
    for block in blocks(page)
    if not block.mark
    # what the README says of the demo is written from a run: test_measured.py
    and (page, block.language) != (README, "text")
]


class NotHeld(Exception):
    """A block that nothing holds against the code."""


def hold(block: Block) -> None:
    """Hold a block that is not run against the code, by what it is.

    Raises:
        NotHeld: It is nothing that can be.
    """
    commands = [line.removeprefix("$ ") for line in block.lines if "replank " in line[:10]]
    if block.language == "toml":
        parse_config(block.text, Path("replank.toml"))
    elif block.language == "json":
        for line in block.lines:
            json.loads(line)
    elif commands and block.language in {"", "sh", "console"}:
        for line in commands:
            understood(shlex.split(line, comments=True))
    else:
        raise NotHeld("run it, or say why not: <!-- shown: WHY -->")


def understood(words: list[str]) -> None:
    """Have the command line read a command, with every option, without doing it."""
    assert words.pop(0) == "replank"
    command: click.Command = app
    context = click.Context(command, info_name="replank")
    while isinstance(command, click.Group):
        name, found, words = command.resolve_command(context, words)
        assert found is not None
        command = found
        if not isinstance(command, click.Group):
            command.make_context(name, words, parent=context)
        context = click.Context(command, info_name=name, parent=context)


@pytest.mark.parametrize(("page", "block"), SHOWN)
def test_what_is_only_shown_is_as_the_code_has_it(page: Path, block: Block) -> None:
    hold(block)


@pytest.mark.parametrize(
    ("language", "line", "said"),
    [
        ("sh", "replank reload ledger --att 22:30", "No such option"),
        ("sh", "replank relaod ledger", "No such command"),
        ("toml", "[schedule]\nquiet_ours = []", "quiet_ours"),
        ("json", "{", "Expecting"),
        ("python", "step(1, 2)", "run it, or say why not"),
    ],
)
def test_a_block_that_is_wrong_is_found(language: str, line: str, said: str) -> None:
    with pytest.raises(Exception, match=re.escape(said)):
        hold(Block(language, 1, lines=line.splitlines()))
