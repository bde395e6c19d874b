"""The checker of histories: what it explains, what it does not, and how it says so."""

from __future__ import annotations

from typing import Any

import pytest

from replank.testing.history import (
    History,
    Kind,
    Operation,
    Reloaded,
    Sent,
    check_epochs,
    check_keys,
    check_messages,
    explain,
)


def op(
    kind: str, argument: Any, answer: Any, began: float, ended: float | None, **more: Any
) -> Any:
    return Operation("p", "k", Kind(kind), argument, answer, began, ended, **more)


def rules(violations: Any) -> list[str]:
    return [one.rule for one in violations]


def test_a_read_sees_the_write_before_it() -> None:
    assert explain([op("write", 1, None, 0, 1), op("read", None, 1, 2, 3)]) is None


def test_a_read_of_a_value_that_was_never_written_is_unexplained() -> None:
    violation = explain([op("write", 1, None, 0, 1), op("read", None, 2, 2, 3)])
    assert violation is not None
    assert violation.rule == "unexplained"
    assert "read() = 2" in violation.text
    assert "the value could be 1" in violation.text


def test_a_read_during_a_write_may_see_either_value() -> None:
    write = op("write", 1, None, 0, 3)
    assert explain([write, op("read", None, 0, 1, 2)]) is None
    assert explain([write, op("read", None, 1, 1, 2)]) is None


def test_two_reads_cannot_see_the_values_in_both_orders() -> None:
    write = op("write", 1, None, 0, 9)
    assert explain([write, op("read", None, 1, 1, 2), op("read", None, 0, 3, 4)]) is not None


def test_a_lost_add_shows_in_the_next_sum() -> None:
    history = [op("add", 2, 2, 0, 1), op("add", 3, 3, 2, 3)]
    assert explain(history) is not None
    assert explain([op("add", 2, 2, 0, 1), op("add", 3, 5, 2, 3)]) is None


def test_a_call_of_unknown_end_may_have_happened_late_or_never() -> None:
    unknown = op("add", 5, None, 0, None)
    assert explain([unknown, op("read", None, 0, 1, 2)]) is None
    assert explain([unknown, op("read", None, 0, 1, 2), op("read", None, 5, 3, 4)]) is None
    assert explain([unknown, op("read", None, 5, 1, 2), op("read", None, 0, 3, 4)]) is not None
    assert explain([unknown, op("read", None, 10, 1, 2)]) is not None


def test_a_swap_tells_whether_it_found_what_it_expected() -> None:
    assert explain([op("swap", (0, 4), True, 0, 1), op("read", None, 4, 2, 3)]) is None
    assert explain([op("swap", (1, 4), True, 0, 1)]) is not None
    assert explain([op("swap", (1, 4), False, 0, 1), op("read", None, 0, 2, 3)]) is None


def test_each_key_is_checked_by_itself_from_its_own_initial_value() -> None:
    one = Operation("p", "a", Kind.READ, None, 7, 0, 1)
    other = Operation("p", "b", Kind.READ, None, 7, 0, 1)
    (violation,) = check_keys([one, other], {"a": 7})
    assert "b.read() = 7" in violation.text


def test_a_history_of_many_calls_at_once_is_checked_in_time() -> None:
    adds = [Operation(f"p{i}", "k", Kind.ADD, 1, i + 1, 0, 100 + i) for i in range(12)]
    assert explain(adds) is None
    assert explain([*adds, op("read", None, 11, 200, 201)]) is not None


RELOADS = [
    Reloaded("r1", {"a": (1, 2), "b": (1, 2)}, True, 10, 12),
    Reloaded("r2", {"a": (2, 3)}, False, 20, 22),
]


@pytest.mark.parametrize(
    ("began", "ended", "seen", "found"),
    [
        (1, 2, (("a", 1), ("b", 1)), []),
        (13, 14, (("a", 2), ("b", 2)), []),
        (11, 12, (("a", 2),), []),
        (1, 15, (("a", 1), ("b", 2)), ["epoch"]),
        (9, 13, (("a", 1), ("a", 2)), ["epoch"]),
        (13, 14, (("a", 1),), ["version"]),
        (1, 2, (("a", 2),), ["version"]),
        (21, 23, (("a", 3),), ["version"]),
    ],
)
def test_a_call_sees_one_epoch_and_a_version_that_serves(
    began: float, ended: float, seen: Any, found: list[str]
) -> None:
    call = op("read", None, 0, began, ended, seen=seen)
    assert rules(check_epochs([call], RELOADS)) == found


@pytest.mark.parametrize(
    ("handled", "found"),
    [
        ([("s", 1), ("s", 2), ("t", 1)], []),
        ([("s", 1), ("t", 1), ("s", 2)], []),
        ([("s", 1), ("t", 1)], ["loss"]),
        ([("s", 1), ("s", 2), ("s", 2), ("t", 1)], ["doubling"]),
        ([("s", 2), ("s", 1), ("t", 1)], ["order"]),
        ([("s", 1), ("s", 2), ("t", 1), ("u", 1)], ["doubling"]),
        ([("s", 1), ("s", 2), ("t", 1), ("t", 2)], ["doubling"]),
        ([("s", 1), ("s", 2), ("t", 1), ("t", 3)], []),
    ],
)
def test_messages_are_handled_once_in_the_order_of_their_sender(
    handled: Any, found: list[str]
) -> None:
    sent = [Sent("s", 1), Sent("t", 1), Sent("s", 2), Sent("t", 2, False), Sent("t", 3, None)]
    assert rules(check_messages(sent, handled)) == found


def test_after_a_crash_a_message_may_be_handled_again_and_not_be_lost() -> None:
    sent = [Sent("s", 1), Sent("s", 2)]
    handled = [("s", 1), ("s", 1), ("s", 2)]
    assert not list(check_messages(sent, handled, at_least_once=True))
    assert rules(check_messages(sent, handled[:2], at_least_once=True)) == ["loss"]


def test_a_whole_history_tells_everything_that_is_wrong() -> None:
    history = History(
        operations=[op("read", None, 3, 13, 14, seen=(("a", 1),))],
        reloads=RELOADS,
        sent=[Sent("s", 1)],
    )
    assert rules(history.check()) == ["unexplained", "version", "loss"]
    assert str(history.check()[2]) == "loss: message 1 of s was accepted and never handled"
