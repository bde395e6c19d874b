"""The load generator's ledger finds each fault that it exists to find."""

from __future__ import annotations

from typing import Any

import pytest

from replank.demo.accounting import (
    Answer,
    Books,
    Sent,
    Tally,
    arrivals,
    compare,
    doubled,
    in_order,
    label_order,
    mixed,
    stale,
)


def tally(sent: Sent, runs: list[list[int]]) -> Tally:
    result = Tally()
    compare(sent, runs, result)
    return result


def test_runs_unfold_to_the_numbers_in_order_of_arrival() -> None:
    assert arrivals([[1, 3], [3, 3], [2, 2]]) == [1, 2, 3, 3, 2]


def test_a_sender_whose_numbers_all_arrived_once_and_in_order_is_clean() -> None:
    found = tally(Sent(5), [[1, 5]])
    assert found == Tally(sent=5, answered=5)
    assert found.clean


def test_a_number_that_never_arrived_is_lost() -> None:
    assert tally(Sent(5), [[1, 2], [4, 5]]).lost == 1


def test_a_request_without_an_answer_is_lost_even_when_it_arrived() -> None:
    found = tally(Sent(5, unanswered={5}), [[1, 5]])
    assert (found.lost, found.answered) == (1, 4)


def test_a_number_that_arrived_twice_is_duplicated() -> None:
    assert tally(Sent(3), [[1, 3], [3, 3]]).duplicated == 1


def test_a_refused_request_that_was_carried_out_all_the_same_counts_as_duplicated() -> None:
    found = tally(Sent(3, refused={2}), [[1, 3]])
    assert (found.duplicated, found.failed) == (1, 1)


def test_a_number_that_arrived_after_a_later_one_is_reordered() -> None:
    found = tally(Sent(4), [[1, 1], [3, 3], [2, 2], [4, 4]])
    assert (found.reordered, found.lost, found.duplicated) == (1, 0, 0)


def test_an_answer_by_the_old_version_after_the_first_by_the_new_is_stale() -> None:
    answers = [Answer(1, "1.0"), Answer(2, "2.0"), Answer(3, "1.0"), Answer(4, "2.0")]
    assert stale(answers) == 1
    assert stale([answers[0], answers[3], answers[1]]) == 0


def test_an_answer_of_a_version_that_was_rolled_back_makes_the_next_ones_stale() -> None:
    assert stale([Answer(1, "2.0"), Answer(2, "3.0"), Answer(3, "2.0")]) == 1


def test_answers_are_judged_in_the_order_of_the_ledger_not_of_their_arrival() -> None:
    assert stale([Answer(2, "2.0"), Answer(1, "1.0")]) == 0


def test_versions_sort_by_number() -> None:
    assert label_order("10.0") > label_order("9.1")


def test_an_answer_from_two_epochs_is_mixed() -> None:
    answers = [
        Answer(1, "2.0", "1.0"),
        Answer(2, "5.0", "1.0"),
        Answer(3, "2.0", "5.0"),
        Answer(4, "5.0", "5.0"),
        Answer(5, "2.0"),
    ]
    assert mixed(answers, "5.0") == 2


def test_two_answers_with_one_place_in_the_ledger_are_found() -> None:
    assert doubled([Answer(1, "1.0"), Answer(1, "2.0"), Answer(2, "2.0")]) == 1


def test_versions_are_told_in_the_order_in_which_they_answered() -> None:
    answers = [Answer(3, "5.0"), Answer(1, "1.0"), Answer(2, "1.0")]
    assert in_order(answers) == ("1.0", "5.0")


def shop(**changes: Any) -> tuple[Books, dict[str, Any], dict[str, Any]]:
    """Return books of three requests, and what two honest modules say of them."""
    books = Books()
    for sender in ("order-0", "deposit-1", "message-0"):
        books.leaves(sender)
        books.answered("ada", 100, started=0.0, now=0.5)
    books.answers += [Answer(1, "1.0", "1.0"), Answer(2, "1.0")]
    ledger = {
        "serial": 3,
        "total_cents": 300,
        "accounts": {"ada": 300},
        "senders": {"order-0": [[1, 1]], "deposit-1": [[1, 1]], "message-0": [[1, 1]]},
    }
    front = {"senders": {"order-0": [[1, 1]]}}
    return books, ledger | changes, front


def test_the_books_of_an_honest_shop_are_clean() -> None:
    books, ledger, front = shop()
    verdict = books.close(ledger, front, seconds=1.0)
    assert verdict.clean
    assert (verdict.calls.sent, verdict.messages.sent) == (2, 1)
    assert verdict.versions == ("1.0",)


@pytest.mark.parametrize(
    "changes",
    [
        {"total_cents": 299},
        {"accounts": {"ada": 200, "bob": 100}},
        {"serial": 4},
    ],
)
def test_a_state_that_is_not_what_the_traffic_made_of_it_is_found(changes: dict[str, Any]) -> None:
    books, ledger, front = shop(**changes)
    verdict = books.close(ledger, front, seconds=1.0)
    assert not verdict.state_ok
    assert not verdict.clean


def test_a_lost_message_is_told_apart_from_a_lost_call() -> None:
    books, ledger, front = shop(senders={"order-0": [[1, 1]], "deposit-1": [[1, 1]]})
    verdict = books.close(ledger, front, seconds=1.0)
    assert (verdict.calls.lost, verdict.messages.lost) == (0, 1)


def test_a_call_that_only_the_api_forgot_is_lost_once() -> None:
    books, ledger, _ = shop()
    assert books.close(ledger, {"senders": {}}, seconds=1.0).calls.lost == 1


def test_a_call_that_both_modules_forgot_is_lost_once() -> None:
    books, ledger, _ = shop(senders={"deposit-1": [[1, 1]], "message-0": [[1, 1]]})
    assert books.close(ledger, {"senders": {}}, seconds=1.0).calls.lost == 1


def test_waits_are_told_apart_by_whether_a_reload_ran() -> None:
    books = Books()
    books.leaves("order-0")
    books.answered("ada", 1, started=0.0, now=0.010)
    books.reload_began()
    books.answered("ada", 1, started=1.0, now=1.030)
    books.reload_ended(2.0)
    books.answered("ada", 1, started=1.9, now=2.020)
    books.answered("ada", 1, started=2.1, now=2.105)
    assert books.waits.without_reload_ms == pytest.approx(10.0)
    assert books.waits.with_reload_ms == pytest.approx(120.0)
    assert books.waits.each_reload_ms == [pytest.approx(120.0)]


def test_only_the_first_errors_are_kept() -> None:
    books = Books()
    for _ in range(30):
        number = books.leaves("order-0")
        books.refused("order-0", number, "HTTP 500")
    assert len(books.errors) == 10
