"""A planted fault trips, an unchanged version never does, and too few calls are said to be too few."""

from __future__ import annotations

import random

import pytest

from replank.config import ProbationConfig
from replank.traffic.observing import Seen
from replank.verification.comparison import Sides, judge

CONFIG = ProbationConfig()


def seen(rng: random.Random, calls: int, *, times: float = 1.0, failing: float = 0.0) -> Seen:
    """Return latencies as a busy machine gives them: a body, a tail, and bursts."""
    made = Seen()
    slow = 1.0
    for number in range(calls):
        if number % 10 == 0:  # something else on the machine, for a while
            slow = rng.choice([1.0, 1.0, 1.0, 1.4, 2.5])
        seconds = rng.lognormvariate(-6.5, 0.5) * slow * times
        made.note(seconds, failed=rng.random() < failing)
    return made


def judged(before: Seen, after: Seen, config: ProbationConfig = CONFIG):
    return judge(Sides("ledger", "deposit", before, after), config)


def test_no_trip_on_an_unchanged_version_in_100_trials_each_looked_at_every_50_calls() -> None:
    tripped = []
    for seed in range(100):
        rng = random.Random(seed)
        before = seen(rng, rng.choice([20, 60, 300]), failing=0.005)
        after, whole = Seen(), seen(rng, 600, failing=0.005)
        for number, seconds in enumerate(whole.seconds):
            after.note(seconds, failed=rng.random() < 0.005)
            if number % 50 == 49:
                found = judged(before, after)
                if found.tripped or found.slower:
                    tripped.append((seed, found))
    assert not tripped


@pytest.mark.parametrize("seed", range(10))
def test_five_percent_of_errors_trip_with_their_numbers(seed: int) -> None:
    rng = random.Random(seed)
    found = judged(seen(rng, 200), seen(rng, 600, failing=0.05)).tripped
    assert found is not None
    assert found.startswith("ledger.deposit failed in ")
    assert "of 600 calls" in found
    assert "before in 0 of 200" in found


@pytest.mark.parametrize("seed", range(10))
def test_three_times_the_latency_trips_with_its_numbers(seed: int) -> None:
    rng = random.Random(seed)
    found = judged(seen(rng, 200), seen(rng, 200, times=3.0)).slower
    assert found is not None
    assert "times as long" in found
    assert "median of 200" in found


def test_errors_that_the_old_version_had_too_do_not_trip() -> None:
    rng = random.Random(3)
    assert judged(seen(rng, 400, failing=0.05), seen(rng, 400, failing=0.05)).tripped is None


def test_errors_within_the_budget_do_not_trip() -> None:
    rng = random.Random(4)
    wide = ProbationConfig(error_budget=0.2)
    assert judged(seen(rng, 200), seen(rng, 400, failing=0.05), wide).tripped is None


def test_a_burst_in_half_of_the_time_is_no_verdict() -> None:
    rng = random.Random(5)
    after = seen(rng, 100, times=9.0)
    for seconds in seen(rng, 120).seconds:
        after.note(seconds, failed=False)
    assert judged(seen(rng, 200), after).slower is None


def test_what_nobody_notices_is_no_reason_to_go_back() -> None:
    before, after = Seen(), Seen()
    for number in range(100):
        before.note(1e-5 + number * 1e-8, failed=False)
        after.note(9e-5 + number * 1e-8, failed=False)
    found = judged(before, after)
    assert (found.tripped, found.slower) == (None, None)


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (0, 0, "not called"),
        (200, 19, "19 of 20 calls in the new version"),
        (19, 200, "19 of 20 calls in the old version"),
        (20, 20, None),
    ],
)
def test_too_few_calls_are_said_to_be_too_few(before: int, after: int, said: str | None) -> None:
    rng = random.Random(6)
    found = judged(seen(rng, before), seen(rng, after, times=1.0)).unjudged
    assert found == said or (said and found and found.startswith(said))


def test_errors_without_anything_to_compare_with_are_held_against_the_budget_alone() -> None:
    rng = random.Random(7)
    found = judged(Seen(), seen(rng, 100, failing=0.3))
    assert found.tripped is not None
    assert "before in 0 of 0" in found.tripped
