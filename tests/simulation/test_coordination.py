"""Whole hosts under seeds: see `world.py`. More of the same: `python -m bench.simulation`."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from tests.simulation.clients import run
from tests.simulation.planted import BUGS, planted
from tests.simulation.world import simulated

SLICE = 130
PLANTED_SEEDS = 100
COLLECT_EVERY = 25


@pytest.fixture(autouse=True)
def _simulated() -> Iterator[None]:
    gc.collect()
    gc.disable()  # a run leaves circles: by hand, it costs a tenth
    try:
        with simulated():
            yield
    finally:
        gc.enable()


def first_failure(seeds: range) -> int | None:
    for seed in seeds:
        try:
            run(seed)
        except Exception:
            return seed
    return None


@pytest.mark.parametrize("first", range(0, 3 * SLICE, SLICE))  # .ci/run does 20,000 after the suite
def test_no_seed_breaks_a_rule(first: int) -> None:
    for seed in range(first, first + SLICE):
        try:
            run(seed)
        except Exception as error:
            error.add_note(f"replay: python -m bench.simulation --runs 1 --seed {seed}")
            raise
        if not seed % COLLECT_EVERY:
            gc.collect()


@pytest.mark.parametrize("seed", [3, 7, 31, 101])
def test_the_same_seed_gives_the_same_run(seed: int) -> None:
    assert run(seed) == run(seed)


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_found_by_a_seed(bug: str) -> None:
    with planted(bug):
        seed = first_failure(range(PLANTED_SEEDS))
    assert seed is not None
    run(seed)  # and the same run is clean without the bug
