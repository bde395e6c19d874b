"""The tests of statistics give the values that are known."""

from __future__ import annotations

import math
import random

import pytest

from replank.verification.ranks import binomial_tail, fisher, mann_whitney


def test_a_sample_that_is_larger_throughout_is_no_chance() -> None:
    before, after = range(20), range(100, 120)
    # U = 400 of 400, mean 200, deviation sqrt(20*20*41/12) = 36.97: z = 5.396
    assert mann_whitney(before, after) == pytest.approx(3.4e-8, rel=0.02)
    assert mann_whitney(after, before) > 0.999999


def test_the_same_values_twice_say_nothing() -> None:
    assert mann_whitney([1, 2, 3], [1, 2, 3]) == pytest.approx(0.5, abs=0.15)
    assert mann_whitney([5] * 30, [5] * 30) == 1.0


def test_ties_share_their_rank() -> None:
    # By hand: U = 20, mean 12.5; ties 27 - 3 and 64 - 4; variance 25/12 * (11 - 84/90) = 20.97;
    # z = (20 - 12.5 - 0.5) / 4.580 = 1.529, whose tail is 0.0632.
    assert mann_whitney([1, 2, 2, 3, 3], [2, 3, 3, 4, 5]) == pytest.approx(0.0632, abs=0.0001)


def test_by_chance_alone_it_is_as_rare_as_it_says() -> None:
    rng = random.Random(1)
    low = sum(
        mann_whitney([rng.random() for _ in range(15)], [rng.random() for _ in range(15)]) < 0.05
        for _ in range(600)
    )
    assert 12 <= low <= 54  # 30 expected


def test_fisher_is_the_tail_of_the_hypergeometric() -> None:
    # a lady tasting tea: 3 of 4 or better
    assert fisher(1, 4, 3, 4) == pytest.approx(17 / 70)
    assert fisher(0, 100, 10, 200) == pytest.approx(math.comb(200, 10) / math.comb(300, 10))
    assert fisher(3, 10, 0, 10) == 1.0


def test_the_binomial_tail_is_summed_to_its_end() -> None:
    exact = sum(math.comb(40, k) * 0.1**k * 0.9 ** (40 - k) for k in range(8, 41))
    assert binomial_tail(8, 40, 0.1) == pytest.approx(exact)
    assert binomial_tail(0, 40, 0.1) == 1.0
    assert binomial_tail(1, 40, 0.0) == 0.0
    assert binomial_tail(5_000, 100_000, 0.01) < 1e-100
