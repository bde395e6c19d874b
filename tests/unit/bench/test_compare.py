"""Two checkouts measured in turns: `bench/compare.py`, with cases that need no measuring."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from bench import compare


@pytest.fixture
def checkouts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Two checkouts whose `speed` module says how slow they are, and a case that tells it."""
    for name, value in (("old", 10.0), ("new", 20.0)):
        (tmp_path / name / "src").mkdir(parents=True)
        (tmp_path / name / "src" / "speed.py").write_text(f"MS = {value}\n")
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "told.py").write_text(
        "import json, speed\nprint(json.dumps({'case': 'told', 'ms': speed.MS}))\n"
    )
    (tmp_path / "bench" / "hangs.py").write_text("import time\ntime.sleep(60)\n")
    monkeypatch.setattr(compare, "HERE", tmp_path)
    return tmp_path / "old", tmp_path / "new"


def rows(capsys: pytest.CaptureFixture[str]) -> list[dict]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_the_ratio_is_new_over_old_whichever_went_first(checkouts, capsys) -> None:
    code = compare.main([*map(str, checkouts), "--case", "told", "--rounds", "3"])
    (row,) = rows(capsys)
    assert code == 0
    assert row["what"] == "told: ms"
    assert row["new_to_old"] == 2.0
    assert row["interval"] == [2.0, 2.0]
    assert row["rounds"] == 3


def test_a_checkout_that_is_surely_slower_ends_with_1(checkouts, capsys) -> None:
    arguments = [*map(str, checkouts), "--case", "told", "--rounds", "3"]
    assert compare.main([*arguments, "--fail-above", "1.5"]) == 1
    assert "told: ms" in capsys.readouterr().err
    assert compare.main([*arguments, "--fail-above", "2.5"]) == 0


def test_two_rounds_tell_no_interval_and_so_nothing_slower(checkouts, capsys) -> None:
    arguments = [*map(str, checkouts), "--case", "told", "--rounds", "2", "--fail-above", "1.5"]
    assert compare.main(arguments) == 0
    assert rows(capsys)[0]["interval"] is None


def test_a_case_that_does_not_end_is_ended_and_nothing_is_compared(checkouts, capsys) -> None:
    arguments = [*map(str, checkouts), "--case", "hangs", "--seconds", "0.2"]
    assert compare.main(arguments) == 2
    assert "took longer than 0 s" in capsys.readouterr().err


def test_what_stands_after_two_dashes_is_for_the_case(checkouts) -> None:
    options = compare.options_of([str(checkouts[0]), "--rounds", "2", "--", "--rounds", "9"])
    assert options.rounds == 2
    assert options.arguments == ["--rounds", "9"]
