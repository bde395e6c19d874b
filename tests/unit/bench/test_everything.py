"""All proofs in one command: what it counts, how it bounds itself, and what replays a failure."""

from __future__ import annotations

import argparse
import gc
import json
import math
import shlex
import sys

import pytest
from bench import everything, faults, simulate, simulation


def options(seconds: float | None, seed: int = 1) -> argparse.Namespace:
    return argparse.Namespace(seconds=seconds, seed=seed)


def test_without_a_limit_everything_is_done_in_order() -> None:
    assert list(faults.in_time(range(5), options(None))) == [0, 1, 2, 3, 4]


def test_with_a_limit_the_seed_says_the_order_and_nothing_is_lost() -> None:
    first, again, other = (list(faults.in_time(range(50), options(60, s))) for s in (1, 1, 2))
    assert first == again != other
    assert sorted(first) == list(range(50))


def test_past_the_limit_nothing_more_is_begun() -> None:
    assert list(faults.in_time(range(5), options(-1.0))) == []


def test_the_shares_are_all_of_the_time_and_each_part_has_the_seed() -> None:
    parts = everything.parts(77, 10, 20)
    assert math.isclose(sum(part.share for part in parts), 1)
    assert all("77" in part.command for part in parts)


def test_counts_are_added_up_and_every_failure_has_its_command() -> None:
    total = everything.summary(
        {
            "matrix": {"trials": 10, "replay": ["python -m bench.faults --cell x"]},
            "kills": {"kills": 4, "replay": []},
            "disk errors": {"trials": 5},
            "simulation": {"runs": 30, "crashes": 6, "histories": 70, "replay": []},
            "schedules": {"error": "exit 1 and no line", "replay": ["python -m bench.simulate"]},
        }
    )
    assert total == {
        "trials": 15,
        "schedules": 30,
        "crashes": 10,
        "histories": 70,
        "failed": 2,
        "replay": ["python -m bench.faults --cell x", "python -m bench.simulate"],
    }


def test_a_cell_is_replayed_by_its_name_as_a_shell_reads_it() -> None:
    command = faults.replay_of("drain:pause:internal:raises at call 3:1", 9)
    assert shlex.split(command)[-1] == "drain:pause:internal:raises at call 3:1"
    assert "--seed 9" in command


def test_simulated_lives_tell_how_many_histories_they_checked(monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["x", "--runs", "3", "--seed", "5", "--jobs", "1"])
    try:
        assert simulation.main() == 0
    finally:  # it keeps the collector out, in a process that is not its own here
        gc.enable()
        gc.unfreeze()
    row = json.loads(capsys.readouterr().out)
    assert row["runs"] == 3
    assert row["histories"] >= 3
    assert row["replay"] == []


def test_a_schedule_that_differs_is_told_with_its_command(monkeypatch, capsys) -> None:
    def run(seed: int, _kind: object) -> None:
        assert seed != 12, "planted"

    monkeypatch.setattr(simulate, "run", run)
    monkeypatch.setattr(sys, "argv", ["x", "20", "10"])
    assert simulate.main() == 1
    row = json.loads(capsys.readouterr().out)
    assert row["schedules"] == 3
    assert row["replay"] == ["python -m bench.simulate 1 12 --mode windowed"]


def test_a_part_that_prints_no_line_is_a_failure_that_can_be_replayed(monkeypatch) -> None:
    part = everything.Part("broken", ("no_such_bench",), 1.0)
    row = everything.ran(part, 1.0)
    assert row["error"] == "exit 1 and no line"
    assert row["replay"] == ["python -m bench.no_such_bench --seconds 1.0"]


@pytest.mark.parametrize("name", ["faults", "simulation", "simulate"])
def test_every_part_is_a_command_that_there_is(name: str) -> None:
    assert name in {part.command[0] for part in everything.parts(1, 1, 1)}
