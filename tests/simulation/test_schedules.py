"""Every interleaving point of window, fold, follower, undo and freeing, by seeds."""

from __future__ import annotations

import pytest

from tests.simulation import bugs
from tests.simulation.schedules import LazySchedule, first_failure, run


@pytest.mark.parametrize("first", range(0, 2400, 400))
def test_no_schedule_shows_a_difference_from_a_dict(first):
    for seed in range(first, first + 400):
        try:
            run(seed)
        except Exception as error:
            error.add_note(f"replay: python -m bench.simulate 1 {seed}")
            raise


@pytest.mark.parametrize("first", range(0, 1200, 400))
def test_no_lazy_schedule_shows_a_difference_from_a_dict(first):
    for seed in range(first, first + 400):
        try:
            run(seed, LazySchedule)
        except Exception as error:
            error.add_note(f"replay: python -m bench.simulate 1 {seed} --mode lazy")
            raise


@pytest.mark.parametrize("bug", list(bugs.all_bugs()), ids=lambda bug: bug.__name__)
def test_a_known_lost_update_is_found_when_its_bug_is_put_back(bug):
    seed = first_failure(range(2000), bug)

    assert seed is not None
    run(seed)  # and the same schedule is clean without the bug
