"""Judge a version on probation by its calls, against those of the version before.

A verdict needs a minimum of calls on both sides; with fewer it is "too few", which is said and
never taken for "well". Two things guard against false alarms: the tests ask for far more than the
usual certainty, because they are asked again every moment, and a latency has to be worse in each
quarter of what was measured, so that a burst of something else on the machine is no verdict. How
long a slowness must last is the watch's to count.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from replank.config import ProbationConfig
from replank.report import CallReport
from replank.traffic.observing import Seen
from replank.verification.ranks import binomial_tail, fisher, mann_whitney

_CHANCE_MAX: Final = 1e-6
"""How likely by chance alone a slowness may be that counts; it is looked for many times."""
_ERRORS_CHANCE_MAX: Final = 1e-5
_SHARES_CHANCE_MAX: Final = 0.05
"""The same for "more errors than before", which is asked beside the budget."""
_PARTS: Final = 4
_SLOWER_MIN_S: Final = 0.0005
"""What no caller notices is no reason to go back."""


@dataclass(frozen=True, slots=True)
class Sides:
    """One call, seen in both versions."""

    module: str
    call: str
    before: Seen
    after: Seen


def judge(sides: Sides, config: ProbationConfig) -> CallReport:
    """Say how a call does in the new version, compared with the old one.

    Args:
        sides: What was seen of it.
        config: How much is too much.

    Returns:
        The numbers; `tripped` and `slower` say what is wrong, `unjudged` why nothing can be said.
    """
    before, after = sides.before, sides.after
    slower = _slower(before.seconds, after.seconds, config)
    return CallReport(
        module=sides.module,
        call=sides.call,
        calls_before=before.calls,
        calls_after=after.calls,
        errors_before=before.errors,
        errors_after=after.errors,
        median_before_s=median(before.seconds) if before.seconds else 0.0,
        median_after_s=median(after.seconds) if after.seconds else 0.0,
        tripped=_failing(sides, config),
        slower=slower and f"{sides.module}.{sides.call} {slower}",
        unjudged=_too_few(before, after, config.min_calls),
    )


def _too_few(before: Seen, after: Seen, enough: int) -> str | None:
    if not before.calls and not after.calls:
        return "not called"
    if after.calls < enough:
        return f"{after.calls} of {enough} calls in the new version"
    if len(before.seconds) < enough:
        return f"{len(before.seconds)} of {enough} calls in the old version to compare with"
    if len(after.seconds) < enough:
        return f"{len(after.seconds)} of {enough} answers in the new version"
    return None


def _failing(sides: Sides, config: ProbationConfig) -> str | None:
    before, after = sides.before, sides.after
    if after.calls < config.min_calls or not after.errors:
        return None
    usual = before.errors / before.calls if before.calls else 0.0
    spread = 2 * math.sqrt(usual * (1 - usual) / before.calls) if before.calls else 0.0
    allowed = min(max(config.error_budget, usual + spread), 1.0)
    if binomial_tail(after.errors, after.calls, allowed) > _ERRORS_CHANCE_MAX:
        return None
    if before.calls >= config.min_calls:
        by_chance = fisher(before.errors, before.calls, after.errors, after.calls)
        if by_chance > _SHARES_CHANCE_MAX:
            return None
    share = after.errors / after.calls
    return (
        f"{sides.module}.{sides.call} failed in {after.errors} of {after.calls} calls "
        f"({share:.1%}), before in {before.errors} of {before.calls}; "
        f"the budget is {config.error_budget:.1%}"
    )


def _slower(before: Sequence[float], after: Sequence[float], config: ProbationConfig) -> str | None:
    if min(len(before), len(after)) < config.min_calls:
        return None
    old, new = median(before), median(after)
    if not _much(old, new, config.latency_ratio):
        return None
    values, part = list(after), len(after) // _PARTS
    ends = (*range(part, part * _PARTS, part), len(values))
    parts = [values[end - part : end] for end in ends]
    if not all(_much(old, median(one), config.latency_ratio) for one in parts):
        return None
    chance = mann_whitney(before, after)
    if chance > _CHANCE_MAX:
        return None
    return (
        f"takes {new * 1e3:.2f} ms (median of {len(after)}), before {old * 1e3:.2f} ms "
        f"(of {len(before)}): {new / old if old else math.inf:.1f} times as long, "
        f"by chance with p = {chance:.0e}"
    )


def _much(old: float, new: float, ratio: float) -> bool:
    return new > old * ratio and new - old > _SLOWER_MIN_S


__all__ = ["Sides", "judge"]
