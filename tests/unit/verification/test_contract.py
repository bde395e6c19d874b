from __future__ import annotations

import sys
import types

import pytest

from replank.definition import describe_definition
from replank.reading import read_definition
from replank.verification.contract import ContractKind, allowed_by, breaking, compare_contracts

HEAD = """
from collections.abc import AsyncIterator
from typing import Any, Literal, Optional
import enum
from replank.module import Module, check, invariant, query
from replank.record import Record


class Order(Record):
    item: str
    count: int = 1


class Ledger(Module):
"""


def contract(body, number=1, head=HEAD):
    """Describe a module class with this body, as generation `number` of it is."""
    module = types.ModuleType(f"ledger@{number}")
    sys.modules[module.__name__] = module  # get_type_hints looks there
    lines = "".join(f"    {line}\n" for line in body.strip("\n").splitlines())
    try:
        exec(compile(head + lines, "ledger.py", "exec"), module.__dict__)
        return describe_definition(read_definition(module, "ledger"))
    finally:
        del sys.modules[module.__name__]


def changes(old, new, *, head=HEAD):
    return compare_contracts(contract(old, 1), contract(new, 2, head))


def single(old, new, **more):
    (change,) = changes(old, new, **more)
    return change.kind, change.text, change.breaking


PAY = "async def pay(self, owner: str, cents: int = 0) -> int: ..."


def test_the_same_source_in_two_generations_offers_the_same():
    body = """
async def pay(self, order: Order, how: Order | None = None) -> list[Order]: ...
async def all(self) -> AsyncIterator[Order]:
    yield Order("x")
"""
    assert changes(body, body) == ()


def test_a_default_that_is_an_object_without_a_text_of_its_own_is_no_change():
    body = "async def pay(self, mark: object = object()) -> None: ..."
    assert changes(body, body) == ()


@pytest.mark.parametrize(
    ("new", "kind", "text"),
    [
        ("x: int = 0", ContractKind.CALL_REMOVED, "pay was removed"),
        (
            "async def pay_in(self, owner: str, cents: int = 0) -> int: ...",
            ContractKind.CALL_RENAMED,
            "pay was removed, or renamed to pay_in",
        ),
        (
            "async def pay(self, owner: str, cents: int = 0, *, memo: str) -> int: ...",
            ContractKind.PARAMETER_REQUIRED,
            "pay: parameter memo is new and required",
        ),
        (
            "async def pay(self, owner: str, cents: int) -> int: ...",
            ContractKind.PARAMETER_REQUIRED,
            "pay: parameter cents is now required (its default was 0)",
        ),
        (
            "async def pay(self, owner: str) -> int: ...",
            ContractKind.PARAMETER_REMOVED,
            "pay: parameter cents was removed",
        ),
        (
            "async def pay(self, owner: str, amount: int = 0) -> int: ...",
            ContractKind.PARAMETER_RENAMED,
            "pay: parameter cents was renamed to amount",
        ),
        (
            "async def pay(self, owner: str, note: str = '', cents: int = 0) -> int: ...",
            ContractKind.PARAMETER_MOVED,
            "pay: parameter cents moved behind the new note",
        ),
        (
            "async def pay(self, owner: str, *, cents: int = 0) -> int: ...",
            ContractKind.PARAMETER_PASSED,
            "pay: parameter cents can no longer be given by place",
        ),
        (
            "async def pay(self, owner: str, cents: bool = 0) -> int: ...",
            ContractKind.PARAMETER_NARROWED,
            "pay: cents: int -> bool",
        ),
        (
            "async def pay(self, owner: str, cents: int = 0) -> int | None: ...",
            ContractKind.RESULT_WIDENED,
            "pay: result int -> int | None",
        ),
        (
            "async def pay(self, owner: str, cents: int = 0) -> float: ...",
            ContractKind.RESULT_WIDENED,
            "pay: result int -> float",
        ),
    ],
)
def test_a_change_that_breaks_callers_is_named(new, kind, text):
    found = [one for one in changes(PAY, new) if one.kind is not ContractKind.PARAMETER_ADDED]
    assert [(one.kind, one.text, one.breaking) for one in found] == [(kind, text, True)]
    assert str(found[0]) == f"breaking: {text}"


@pytest.mark.parametrize(
    ("new", "kind"),
    [
        (f"{PAY}\nasync def refund(self) -> None: ...", ContractKind.CALL_ADDED),
        (
            "async def pay(self, owner: str, cents: int = 0, memo: str = '') -> int: ...",
            ContractKind.PARAMETER_ADDED,
        ),
        (
            "async def pay(self, owner: str = 'ada', cents: int = 0) -> int: ...",
            ContractKind.PARAMETER_OPTIONAL,
        ),
        (
            "async def pay(self, owner: str, cents: int = 1) -> int: ...",
            ContractKind.DEFAULT_CHANGED,
        ),
        (
            "async def pay(self, owner: str, cents: float = 0) -> int: ...",
            ContractKind.PARAMETER_WIDENED,
        ),
        (
            "async def pay(self, owner: str, cents: Optional[int] = 0) -> int: ...",
            ContractKind.PARAMETER_WIDENED,
        ),
        (
            "async def pay(self, owner: str, cents: int = 0) -> bool: ...",
            ContractKind.RESULT_NARROWED,
        ),
        ("def pay(self, owner: str, cents: int = 0) -> int: ...", ContractKind.ASYNC_CHANGED),
        (f"@query\n{PAY}", ContractKind.QUERY_PROMISED),
        (
            "async def pay(self, owner, cents: int = 0) -> int: ...",
            ContractKind.PARAMETER_NARROWED,
        ),
    ],
)
def test_a_change_that_callers_can_live_with_is_told_and_breaks_nothing(new, kind):
    found = single(PAY, new)
    assert (found[0], found[2]) == (kind, False)


def test_two_parameters_that_change_places_are_both_named():
    found = changes(
        "async def pay(self, a: int, b: int) -> None: ...",
        "async def pay(self, b: int, a: int) -> None: ...",
    )
    assert [one.kind for one in found] == [ContractKind.PARAMETER_MOVED] * 2
    assert all(one.breaking for one in found)


def test_a_call_that_becomes_a_stream_breaks_its_callers():
    new = "async def pay(self, owner: str, cents: int = 0):\n    yield 1"
    found = {one.kind: one.breaking for one in changes(PAY, new)}
    assert found[ContractKind.STREAM_CHANGED]


def test_a_promise_not_to_write_that_is_taken_back_breaks_its_callers():
    kind, text, breaks = single(f"@query\n{PAY}", PAY)
    assert kind is ContractKind.QUERY_DROPPED
    assert breaks
    assert "no longer promises not to write" in text


def test_a_removed_parameter_that_anything_else_takes_up_breaks_nobody():
    new = "async def pay(self, owner: str, *rest: int, **more: int) -> int: ..."
    assert not breaking(changes(PAY, new))


def test_a_parameter_by_place_alone_may_be_called_otherwise():
    old = "async def pay(self, owner: str, /) -> int: ..."
    new = "async def pay(self, name: str, /) -> int: ..."
    assert single(old, new)[2] is False


def test_a_record_that_calls_take_is_part_of_the_contract():
    body = "async def place(self, order: Order) -> None: ..."
    head = HEAD.replace("count: int = 1", "count: int = 1\n    note: str")
    head = head.replace(
        "item: str\n    count: int = 1\n    note: str",
        "item: str\n    note: str\n    count: int = 1",
    )
    assert single(body, body, head=head) == (
        ContractKind.PARAMETER_NARROWED,
        "place: order: Order.note is new and required",
        True,
    )


def test_a_record_that_grows_compatibly_breaks_nobody():
    body = "async def place(self, order: Order) -> None: ..."
    head = HEAD.replace("count: int = 1", "count: int = 1\n    note: str = ''")
    kind, text, breaks = single(body, body, head=head)
    assert kind is ContractKind.PARAMETER_WIDENED
    assert text == "place: order: Order changed, compatibly"
    assert not breaks


def test_a_check_that_comes_or_goes_is_told_and_breaks_nobody():
    old = f"{PAY}\n@check\nasync def well(self) -> None: ..."
    new = f"{PAY}\n@invariant\ndef cents(self) -> int: return 0"
    found = compare_contracts(contract(old), contract(new, 2))
    assert [str(one) for one in found] == ["cents is a new invariant", "well is no check any more"]
    assert [one.kind for one in found] == [ContractKind.CHECK_ADDED, ContractKind.CHECK_REMOVED]
    back = compare_contracts(contract(new, 3), contract(old, 4))
    assert str(back[0]) == "cents is no invariant any more"


def test_breaking_changes_come_first():
    found = changes(
        f"{PAY}\nasync def zero(self) -> None: ...",
        "async def pay(self, owner: str, cents: int = 1) -> int: ...",
    )
    assert [one.breaking for one in found] == [True, False]


@pytest.mark.parametrize(
    ("names", "expected"),
    [((), False), (("pay",), True), (("ledger.pay",), True), (("*",), True), (("api.pay",), False)],
)
def test_a_change_is_allowed_by_its_calls_name(names, expected):
    (change,) = changes(PAY, "x: int = 0")
    assert allowed_by(names, "ledger")(change) is expected
