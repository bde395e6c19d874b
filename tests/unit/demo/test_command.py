"""The demo's commands: what they print, and how they end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from replank.demo import command
from replank.demo.accounting import Tally
from replank.demo.processes import DemoFailed
from replank.demo.story import DemoResult
from tests.unit.demo.test_story import played, verdict


def run(monkeypatch: pytest.MonkeyPatch, outcome: Any, *arguments: str) -> Result:
    """Run `demo` with a play that ends in a given way."""

    async def play(folder: Path, show: object, *, seconds: float, port: int) -> DemoResult:
        assert folder.is_dir()
        if isinstance(outcome, BaseException):
            raise outcome
        assert isinstance(outcome, DemoResult)
        return outcome

    monkeypatch.setattr("replank.demo.play.play", play)
    app = typer.Typer()
    app.command()(command.demo)
    return CliRunner().invoke(app, list(arguments))


GOOD = DemoResult(verdict=verdict(), played=played())
BAD = DemoResult(verdict=verdict(calls=Tally(sent=10, answered=9, lost=1)), played=played())


def test_a_demo_without_loss_ends_with_exit_code_0(monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(monkeypatch, GOOD)
    assert result.exit_code == 0
    assert "Nothing was lost" in result.output


def test_a_demo_with_a_loss_ends_with_exit_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(monkeypatch, BAD)
    assert result.exit_code == 1
    assert "NOT as promised" in result.output


def test_json_is_one_object_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(monkeypatch, BAD, "--json")
    assert result.exit_code == 1
    assert json.loads(result.output)["lost"] == 1


def test_a_folder_that_is_not_empty_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "precious.txt").touch()
    result = run(monkeypatch, GOOD, "--keep", str(tmp_path))
    assert result.exit_code == 2
    assert "must be empty or new" in result.output
    assert (tmp_path / "precious.txt").exists()


def test_a_kept_folder_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    kept = tmp_path / "new"
    assert run(monkeypatch, GOOD, "--keep", str(kept)).exit_code == 0
    assert kept.is_dir()


def test_a_demo_that_cannot_be_played_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    error = DemoFailed("the host ended at once", found="port in use", do="take another")
    result = run(monkeypatch, error)
    assert result.exit_code == 1
    assert "port in use" in result.output


def test_with_json_also_a_failure_is_one_object(monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(monkeypatch, DemoFailed("the host ended at once"), "--json")
    facts = json.loads(result.output)
    assert (facts["ok"], facts["error"]["message"]) == (False, "the host ended at once")


def test_an_interrupted_demo_ends_with_exit_code_130(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, KeyboardInterrupt()).exit_code == 130


@pytest.mark.parametrize("arguments", [("--seconds", "1"), ("--port", "-1"), ("--nonsense",)])
def test_wrong_options_end_with_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    assert run(monkeypatch, GOOD, *arguments).exit_code == 2
