from __future__ import annotations

import enum
import math
from types import SimpleNamespace

import pytest

from replank.errors import CheckError, PhaseTimeout
from replank.verification.invariants import Invariants, same
from replank.verification.watchdog import Watchdog

LIMIT_S = 30.0


def fails():
    raise ValueError("no")


def invariants(old, new):
    def definition(methods):
        return SimpleNamespace(invariants=tuple(methods))

    return Invariants("ledger", definition(old), definition(new), (old, new), Watchdog())


def test_what_both_versions_answer_alike_holds():
    asked = invariants({"total": lambda: 5, "gone": fails}, {"total": lambda: 5, "came": fails})
    assert asked.rehearse(LIMIT_S) == ("total",)
    assert asked.seconds["total"] >= 0
    asked.note(LIMIT_S)
    assert asked.verify(LIMIT_S) == ("total",)


def test_a_difference_names_the_invariant_and_both_answers():
    asked = invariants({"total": lambda: 5}, {"total": lambda: 4})
    with pytest.raises(
        CheckError, match="invariant total does not hold: 5 before, 4 after"
    ) as raised:
        asked.rehearse(LIMIT_S)
    assert raised.value.module == "ledger"
    assert raised.value.found == "4"
    assert raised.value.expected == "5, as before"
    assert raised.value.do


def test_a_candidate_that_cannot_answer_fails():
    with pytest.raises(CheckError, match="invariant total failed: ValueError: no"):
        invariants({"total": lambda: 5}, {"total": fails}).rehearse(LIMIT_S)


def test_a_candidate_that_does_not_end_is_interrupted():
    def endless():
        while True:
            pass

    asked = invariants({"total": lambda: 5}, {"total": endless})
    with asked._watchdog, pytest.raises(PhaseTimeout, match="invariant total") as raised:
        asked.rehearse(0.05)
    assert raised.value.module == "ledger"


def test_what_serves_may_fail_and_is_then_not_compared():
    asked = invariants({"total": fails}, {"total": lambda: 5})
    assert asked.rehearse(LIMIT_S) == ()
    (warning,) = asked.warnings
    assert "invariant total is not compared: what serves raised ValueError: no" in warning
    assert asked.names == ()


def test_one_that_is_left_out_is_not_asked_again():
    asked = invariants({"total": lambda: 5}, {"total": lambda: 5})
    asked.rehearse(LIMIT_S)
    asked.leave_out(["total"])
    asked.note(LIMIT_S)
    assert asked.verify(LIMIT_S) == ()


def test_what_is_asked_in_the_pause_is_compared_with_the_answer_of_the_pause():
    answers = {"old": 5, "new": 5}
    asked = invariants({"total": lambda: answers["old"]}, {"total": lambda: answers["new"]})
    asked.rehearse(LIMIT_S)
    answers.update(old=6, new=6)
    asked.note(LIMIT_S)
    assert asked.verify(LIMIT_S) == ("total",)
    answers["new"] = 7
    with pytest.raises(CheckError, match="6 before, 7 after"):
        asked.verify(LIMIT_S)


def colour():
    return enum.Enum("Colour", ["RED", "BLUE"]).RED


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (5, 5),
        (0.1 + 0.2 + 0.3, 0.3 + 0.2 + 0.1),
        (math.nan, math.nan),
        ({"a": [1.0, 2]}, {"a": [1.0, 2]}),
        ({1, 2}, {2, 1}),
        ((1, "x"), (1, "x")),
        (colour(), colour()),
        (2.0, 2),
    ],
)
def test_equal_answers_are_the_same(before, after):
    assert same(before, after)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (5, 6),
        (1.0, 1.001),
        ({"a": 1}, {"b": 1}),
        ([1], [1, 2]),
        ("5", 5),
        (None, 0),
        ([1.0], [2.0]),
    ],
)
def test_different_answers_are_not(before, after):
    assert not same(before, after)
