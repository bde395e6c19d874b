"""All ways that a transaction can go, searched: see `search.py`. More: `python -m bench.search`."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest

from replank.testing.journal import MemoryJournal
from tests.simulation.planted import planted
from tests.simulation.rules import Broken
from tests.simulation.search import ALL_PHASES, JOURNAL_MOVES, search
from tests.simulation.world import simulated


@pytest.fixture(autouse=True)
def _simulated() -> Iterator[None]:
    gc.collect()
    gc.disable()  # a run leaves circles: by hand, it costs a tenth
    try:
        with simulated():
            yield
    finally:
        gc.enable()


@pytest.mark.timeout(600)  # tens of thousands of runs: slow on a busy machine
@pytest.mark.parametrize(("modules", "faults"), [(1, 2), (2, 1), (3, 1)])
def test_no_fault_leaves_one_module_committed_and_another_not(modules: int, faults: int) -> None:
    found = search(modules, faults)
    states, runs = len(found.states), found.runs
    print(f"{modules} modules, {faults} faults: {states} states, {runs} runs")  # noqa: T201 - asked for
    assert found.phases == ALL_PHASES
    assert found.journal <= JOURNAL_MOVES
    assert faults < 2 or found.journal == JOURNAL_MOVES
    assert {"committed", "rolled_back", "rejected", "cancelled"} == set(found.outcomes)
    assert found.crashes > 20


def test_the_search_finds_modules_that_are_swapped_one_by_one() -> None:
    with planted("modules are swapped one by one"), pytest.raises(Broken, match="half of r2"):
        search(2, 0)


_commit = MemoryJournal._commit


def commit_one_by_one(self: Any, tx_id: str, modules: Any, snapshots: Any) -> None:
    """Make each module's commit a write of its own, between which the process may be killed."""
    for place, module in enumerate(modules):
        self.disk.reloads[tx_id].state = "prepared"
        if place:
            self._hook("between")
        _commit(self, tx_id, (module,), snapshots)


def test_the_search_finds_commit_records_that_are_not_one() -> None:
    with mock.patch.object(MemoryJournal, "_commit", commit_one_by_one), pytest.raises(Broken):
        search(2, 1)
