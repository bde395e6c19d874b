"""Histories made by a correct program are explained; one wrong answer in them is found."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from replank.testing.history import Kind, Operation, Sent, apply, check_messages, explain

SEEDS = st.integers(0, 2**32)


def made(rng: random.Random, count: int) -> list[Operation]:
    """Let each call take effect at one moment between its invocation and its return."""
    calls = []
    for index in range(count):
        kind = rng.choice(list(Kind))
        argument: Any = {
            Kind.READ: None,
            Kind.WRITE: index + 100,
            Kind.ADD: rng.randrange(1, 4),
        }.get(kind, (rng.choice((0, 1, 100)), index + 200))
        effect = rng.uniform(0, count / 3)
        span = rng.uniform(0, 2)
        calls.append(
            (effect, effect - span * rng.random(), effect + span * rng.random(), kind, argument)
        )
    value = 0
    operations = []
    for effect, began, ended, kind, argument in sorted(calls, key=lambda one: one[0]):
        lost = rng.random()
        one = Operation("p", "k", kind, argument, None, began, None if lost < 0.15 else ended)
        if lost < 0.07:
            operations.append(one)  # it never happened, and nobody knows
            continue
        before = value
        _, value = apply(replace(one, returned_at=None), value)
        answer = {Kind.READ: before, Kind.WRITE: None, Kind.ADD: value}.get(
            kind, kind is Kind.SWAP and before == argument[0]
        )
        operations.append(replace(one, answer=answer))
        assert effect >= began
    rng.shuffle(operations)
    return operations


def explained_by_brute_force(operations: list[Operation]) -> bool:
    """Try every order of every subset that holds all known calls."""
    known = [one for one in operations if one.returned_at is not None]
    unknown = [one for one in operations if one.returned_at is None]
    for count in range(len(unknown) + 1):
        for chosen in itertools.combinations(unknown, count):
            for order in itertools.permutations([*known, *chosen]):
                if fits(order):
                    return True
    return False


def fits(order: tuple[Operation, ...]) -> bool:
    value: Any = 0
    latest = float("-inf")
    for one in order:
        latest = max(latest, one.invoked_at)
        if one.returned_at is not None and one.returned_at < latest:
            return False
        good, value = apply(one, value)
        if not good:
            return False
    return True


@settings(max_examples=150, deadline=None)
@given(SEEDS)
def test_a_correct_history_is_explained(seed: int) -> None:
    rng = random.Random(seed)
    operations = made(rng, rng.randrange(1, 40))
    assert explain(operations) is None


@settings(max_examples=250, deadline=None)
@given(SEEDS)
def test_the_checker_agrees_with_trying_every_order(seed: int) -> None:
    rng = random.Random(seed)
    operations = made(rng, rng.randrange(1, 6))
    place = rng.randrange(len(operations))
    if rng.random() < 0.7:  # one answer changed, which other calls may happen to explain
        changed = rng.choice((0, 1, 2, 3, 100, 101, True, False))
        operations[place] = replace(operations[place], answer=changed)
    assert (explain(operations) is None) == explained_by_brute_force(operations)


@settings(max_examples=150, deadline=None)
@given(SEEDS)
def test_a_lost_write_is_found(seed: int) -> None:
    """One call takes effect and is thrown away, as by a copy that was taken too early."""
    rng = random.Random(seed)
    operations = [
        Operation("p", "k", Kind.ADD, 1, total, float(total), total + 0.5) for total in range(1, 20)
    ]
    place = rng.randrange(1, 19)
    lost = [
        replace(one, answer=one.answer - 1) if index >= place else one
        for index, one in enumerate(operations)
    ]
    assert explain(operations) is None
    assert explain(lost) is not None


@settings(max_examples=150, deadline=None)
@given(SEEDS, st.sampled_from(["lose", "double", "swap"]))
def test_a_lost_doubled_or_overtaken_message_is_found(seed: int, how: str) -> None:
    rng = random.Random(seed)
    sent = [Sent(sender, number) for number in range(5) for sender in "ab"]
    handled = [(one.sender, one.number) for one in sent]
    assert not list(check_messages(sent, handled))
    place = rng.randrange(len(handled) - 2)
    if how == "lose":
        del handled[place]
    elif how == "double":
        handled.insert(rng.randrange(len(handled)), handled[place])
    else:
        handled[place], handled[place + 2] = handled[place + 2], handled[place]
    assert list(check_messages(sent, handled))
