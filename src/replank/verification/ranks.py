"""Three tests of statistics, each one-sided, written out because they are a page.

- Mann and Whitney, "On a Test of Whether one of Two Random Variables is Stochastically Larger than
  the Other", Annals of Mathematical Statistics 18 (1947), with the normal approximation, the
  correction for ties (Lehmann, "Nonparametrics", 1975, section 1.4) and for continuity.
- Fisher's exact test for two shares: the tail of the hypergeometric distribution.
- The tail of the binomial distribution, for a share against a budget.
"""

from __future__ import annotations

import math
from collections.abc import Sequence


def mann_whitney(before: Sequence[float], after: Sequence[float]) -> float:
    """Return how likely it is by chance alone that `after` is this much larger than `before`.

    Args:
        before: One sample, at least one value.
        after: The other, at least one value.

    Returns:
        The one-sided p, from 0 to 1; close to 0 when `after` is larger.
    """
    first, second = len(before), len(after)
    assert first, "a test needs a sample of the old version"
    assert second, "a test needs a sample of the new version"
    both = sorted([(value, 0) for value in before] + [(value, 1) for value in after])
    ranks_after = 0.0
    ties = 0
    start = 0
    while start < len(both):
        end = start
        while end < len(both) and both[end][0] == both[start][0]:
            end += 1
        rank = (start + 1 + end) / 2  # equal values share the mean of their ranks
        ranks_after += rank * sum(which for _, which in both[start:end])
        ties += (end - start) ** 3 - (end - start)
        start = end
    larger = ranks_after - second * (second + 1) / 2
    count = first + second
    variance = first * second / 12 * (count + 1 - ties / (count * (count - 1)))
    if variance <= 0:  # every value is the same
        return 1.0
    z = (larger - first * second / 2 - 0.5) / math.sqrt(variance)
    return 0.5 * math.erfc(z / math.sqrt(2))


def fisher(errors_before: int, before: int, errors_after: int, after: int) -> float:
    """Return how likely it is by chance alone that so many of the errors fell into `after`.

    Args:
        errors_before: Errors of the old version.
        before: Its calls.
        errors_after: Errors of the new version.
        after: Its calls.
    """
    errors, calls = errors_before + errors_after, before + after
    whole = _choose(calls, errors)
    most = min(errors, after)
    return min(
        1.0,
        sum(
            math.exp(_choose(after, k) + _choose(before, errors - k) - whole)
            for k in range(errors_after, most + 1)
            if errors - k <= before
        ),
    )


def binomial_tail(errors: int, calls: int, share: float) -> float:
    """Return how likely so many errors or more are when each call fails with this probability.

    Args:
        errors: How many were seen.
        calls: In how many calls.
        share: The probability, from 0 to 1.
    """
    if errors <= 0 or share >= 1:
        return 1.0
    if share <= 0:
        return 0.0
    log, rest = math.log(share), math.log1p(-share)
    # Beyond the mean the terms fall fast: what is too small to count ends the sum.
    total = 0.0
    for k in range(errors, calls + 1):
        term = math.exp(_choose(calls, k) + k * log + (calls - k) * rest)
        total += term
        if k > calls * share and term < total * 1e-12:
            break
    return min(1.0, total)


def _choose(n: int, k: int) -> float:
    """Return the logarithm of the binomial coefficient."""
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


__all__ = ["binomial_tail", "fisher", "mann_whitney"]
