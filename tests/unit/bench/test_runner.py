"""The command that runs the benchmarks: what it prints, and that it ends in time."""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import sys
from pathlib import Path

import bench.__main__ as door
import pytest
from bench import plots, runner
from bench.cases import CASES, LONGER, Case
from bench.lines import label, numbers, table
from bench.load import busy_s, others_cores
from bench.pythons import NoPython, environment, find

ROOT = Path(__file__).parents[3]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Cases of our own, in place of the measuring ones."""
    (tmp_path / "bench").mkdir()
    monkeypatch.setattr(runner, "ROOT", tmp_path)
    monkeypatch.setenv("PYTHONPATH", "")
    return tmp_path / "bench"


def one(name: str) -> Case:
    return Case(name, "a case of these tests", share_s=30)


def test_each_line_of_a_case_gets_the_load_beside_it(folder: Path) -> None:
    (folder / "good.py").write_text("print('words')\nprint('{\"ms\": 1.5}')\n")
    result = runner.run(one("good"), quick=True, left_s=30)
    assert (result.failed, result.left_out) == ("", "")
    (row,) = result.rows
    assert row["bench"] == "good"
    assert row["ms"] == 1.5
    assert row["load_before"] >= 0


def test_a_case_that_fails_is_told_with_its_last_words(folder: Path) -> None:
    (folder / "bad.py").write_text("raise SystemExit('no such disk')\n")
    assert runner.run(one("bad"), quick=True, left_s=30).failed == "exit 1: no such disk"


def test_a_case_without_a_line_has_failed(folder: Path) -> None:
    (folder / "silent.py").write_text("print('all is well')\n")
    assert runner.run(one("silent"), quick=True, left_s=30).failed == "printed no JSON line"


def test_a_case_past_its_time_is_ended_with_its_children_and_keeps_its_rows(folder: Path) -> None:
    os.mkfifo(folder / "alive")
    reader = os.open(folder / "alive", os.O_RDONLY | os.O_NONBLOCK)
    (folder / "long.py").write_text(
        "import subprocess, sys, time\n"
        f"child = \"alive = open({str(folder / 'alive')!r}, 'w'); print('x', file=alive, flush=True)"
        '; import time; time.sleep(60)"\n'
        "subprocess.Popen([sys.executable, '-c', child])\n"
        "print('{}', flush=True)\ntime.sleep(60)\n"
    )
    result = runner.run(one("long"), quick=True, left_s=3)
    assert "before it was done" in result.left_out
    assert not result.failed
    assert len(result.rows) == 1
    os.set_blocking(reader, True)
    with os.fdopen(reader) as stream:
        assert stream.read() == "x\n"  # it lived, and its end of the pipe is closed


def test_without_time_left_a_case_is_left_out_and_named(folder: Path, capsys) -> None:
    result = runner.run(one("late"), quick=True, left_s=0.2)
    assert result.left_out == "no time was left"
    assert door.ending([result], quick=True) == 0
    assert "alone: python -m bench --quick late" in capsys.readouterr().err


def test_a_failed_case_is_named_at_the_end_and_the_exit_status_is_1(capsys) -> None:
    assert door.ending([runner.Result(one("x"), failed="exit 3: why")], quick=True) == 1
    assert "failed: x: exit 3: why" in capsys.readouterr().err


def test_every_case_is_a_module_of_the_folder() -> None:
    for case in CASES:
        found = list((ROOT / "bench").glob(f"{case.name}.py"))
        found += (ROOT / "bench" / case.name).glob("__main__.py")
        assert len(found) == 1, case.name


def test_the_command_runs_a_case_end_to_end_with_json_lines_and_a_table(capsys) -> None:
    assert door.main(["--quick", "instructions"]) == 0
    printed = capsys.readouterr().out
    rows = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    assert rows[0]["bench"] == rows[-1]["bench"] == "machine"
    calls = [row for row in rows if row["bench"] == "instructions"]
    assert {row["method"] for row in calls} >= {"atomic", "suspending", "plain"}
    # the guard of the hot path: the same count on every machine, under any load
    assert max(row["gate_steps"] for row in calls if row["method"] == "atomic") <= 20
    assert max(row["gate_steps"] for row in calls) <= 100
    assert "instructions: the interpreter's steps" in printed


def test_the_long_form_is_of_those_that_have_one_and_takes_as_long_as_it_takes(capsys) -> None:
    assert [case.name for case in door.chosen([], quick=False, long=True)] == list(LONGER)
    assert door.chosen(["soak"], quick=False, long=True)[0].full == ("--reloads", "2000")
    assert math.isinf(door.limit_of(door.options_of(["--long"])))
    assert door.main(["--long", "reload"]) == 2
    assert "no case reload; there are simulation, search" in capsys.readouterr().err


def test_an_unknown_case_is_refused_with_those_that_there_are(capsys) -> None:
    assert door.main(["pauze"]) == 2
    assert "no case pauze; there are call_cost, " in capsys.readouterr().err


def test_what_a_machine_did_is_its_busy_time_without_idle_and_waiting_for_disks() -> None:
    assert busy_s("cpu  100 20 30 9000 800 7 3 40 100 100\ncpu0 1 1\n", 100) == 2.0


def test_the_load_of_others_is_what_the_machine_worked_without_us() -> None:
    assert others_cores(3.0, 1.0, 2.0) == 1.0
    assert others_cores(1.0, 1.01, 2.0) == 0.0  # two clocks never agree wholly
    assert others_cores(0.01, 0.0, 0.001) is None  # one tick of the kernel is not ten cores


def test_rows_of_other_sizes_have_other_names_and_counts_are_no_measure() -> None:
    small = {"case": "size", "records": 10, "writes": 7, "pause": {"ms": 1.0}}
    assert label(small) == "size records=10"
    assert label({**small, "records": 20}) != label(small)
    assert numbers(small) == {"pause.ms": 1.0}
    assert numbers({"gate_steps": 5, "ok": True}) == {"gate_steps": 5.0}


def test_a_table_shows_rows_with_the_same_keys_together() -> None:
    shown = table([{"a": 1, "b": "x"}, {"a": 22, "b": "y"}]).splitlines()
    assert [line.split() for line in shown] == [["a", "b"], ["1", "x"], ["22", "y"]]


def test_a_picture_has_a_line_for_each_number_sorted_along_the_axis() -> None:
    rows = [
        {"bench": "pause", "case": "size", "records": count, "pause_ms": ms, "longest_wait_ms": 9}
        for count, ms in ((100, 2.0), (10, 1.0))
    ]
    rows.append({"bench": "pause", "case": "writes", "records": 5, "pause_ms": 7.0})
    picture = plots.PICTURES[0]
    assert plots.points(picture, rows) == [
        ("longest_wait_ms", 10.0, 9.0),
        ("longest_wait_ms", 100.0, 9.0),
        ("pause_ms", 10.0, 1.0),
        ("pause_ms", 100.0, 2.0),
    ]


def test_what_is_drawn_is_svg_and_png(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="extra `bench`")
    rows = [{"bench": "pause", "case": "size", "records": 10, "pause_ms": 1.0}]
    drawn = plots.draw(rows, tmp_path / "new")
    assert {path.name for path in drawn} == {"pause-by-size.svg", "pause-by-size.png"}
    assert "<svg" in drawn[0].read_text()


def test_a_python_that_is_not_here_is_skipped_with_the_reason() -> None:
    with pytest.raises(NoPython, match="not installed"):
        environment("python3.99")


def test_plots_without_matplotlib_are_refused_before_anything_is_measured(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr(door, "find_spec", lambda _name: None)
    with pytest.raises(SystemExit, match=r"pip install 'replank\[bench\]'"):
        door.main(["--plot", "x"])


class Read(Exception):
    """The case has read its arguments."""


WITH_SWITCHES = [case for case in CASES if case.name not in {"messages", "verify"}]


@pytest.mark.parametrize("case", WITH_SWITCHES, ids=lambda case: case.name)
def test_a_case_takes_the_arguments_that_it_is_run_with(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    def parse(parser: argparse.ArgumentParser, arguments: object = None) -> None:
        real(parser, arguments)
        raise Read

    real = argparse.ArgumentParser.parse_args
    folder = (ROOT / "bench" / case.name).is_dir()
    module = importlib.import_module(f"bench.{case.name}{'.__main__' if folder else ''}")
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse)
    for arguments in filter(None, (case.quick, case.full, LONGER.get(case.name))):
        monkeypatch.setattr(sys, "argv", [case.name, *arguments])
        with pytest.raises(Read):
            module.main()


def test_a_python_that_only_pyenv_keeps_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shims, kept = tmp_path / "shims", tmp_path / "versions" / "3.99.1" / "bin"
    for folder, code in ((shims, 127), (kept, 0)):
        folder.mkdir(parents=True)
        (folder / "python3.99").write_text(f"#!/bin/sh\nexit {code}\n")
        (folder / "python3.99").chmod(0o755)
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    monkeypatch.setenv("PATH", f"{shims}{os.pathsep}{os.environ['PATH']}")
    assert find("python3.99") == str(kept / "python3.99")
    (kept / "python3.99").unlink()
    assert find("python3.99") is None
