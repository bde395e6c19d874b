"""kill -9 at any thing that goes to the disk: the last committed versions and state come back."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.crash_lives import Facts
from tests.faults.crashes import Nursery, Said, problems

SEED = int(os.environ.get("REPLANK_SEED", "20240229"))
KILLS = 16
"""Of some 220; `python -m bench.faults --crash` kills at every single one."""


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with Nursery() as nursery:
        yield nursery


def test_killed_at_any_operation_the_last_committed_versions_and_state_come_back(
    nursery: Nursery, tmp_path: Path
) -> None:
    operations = nursery.count(tmp_path / "counted")
    assert len(operations) > 150
    chance = random.Random(SEED)
    for at in sorted(chance.sample(range(1, len(operations) + 1), KILLS)):
        when = chance.choice(("before", "half", "after"))
        found = nursery.crash(tmp_path / f"{at}", at, when)
        assert not found, (
            f"killed {when} {operations[at - 1]}: {found}; "
            f"replay: python -m bench.faults --kill {at}:{when}"
        )


def test_killed_from_outside_at_any_moment_they_come_back(nursery: Nursery, tmp_path: Path) -> None:
    chance = random.Random(SEED)
    for kill_after in sorted(chance.sample(range(2, 28), 5)):
        found = nursery.crash(tmp_path / f"{kill_after}", kill_after=kill_after)
        assert not found, f"killed after {kill_after} lines: {found}, seed {SEED}"


DONE = ["start 1 1", "calls 2", "stop", "start again"]
RIGHT = Facts(
    labels={"alpha": "1", "beta": "1"},
    amounts={"alpha": 2, "beta": 2},
    history=[("r1", "committed", ["alpha", "beta"])],
    next_reload="committed",
    amounts_after={"alpha": 3, "beta": 3},
)


def wrong(**changed: object) -> list[str]:
    """Return what the checker says of facts that are right but for these."""
    facts = {name: getattr(RIGHT, name) for name in RIGHT.__struct_fields__} | changed
    return problems(Said([*DONE, "reload alpha 2"], DONE), Facts(**facts))


def test_the_checker_finds_what_it_looks_for() -> None:
    assert wrong() == []
    assert wrong(labels={"alpha": "2", "beta": "1"}) == []
    assert wrong(labels={"alpha": "1", "beta": "2"})
    assert wrong(amounts={"alpha": 3, "beta": 2})
    assert wrong(amounts_after={"alpha": 2, "beta": 3})
    assert wrong(history=[])
    assert wrong(consistent=False)
    assert wrong(litter=[".making-x"])
    assert wrong(next_reload="rejected")
    assert wrong(error="SchemaError")
