from __future__ import annotations

from typing import Protocol

import pytest

from replank.verification.usage import calls_used, interface_calls


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("async def f(self): return await self.ledger.pay(1)", {"pay"}),
        ("await_ = self.ledger.send.pay", {"pay"}),
        ("self.ledger.blocking.pay(1)", {"pay"}),
        (
            "from replank import uses\nledger = uses('ledger')\nasync def f(): await ledger.pay()",
            {"pay"},
        ),
        ("book = self.ledger\nbook.pay()\nbook.total()", {"pay", "total"}),
        ("one = self.ledger\ntwo = one\ntwo.pay()", {"pay"}),
        ("if (book := self.ledger) is not None: book.pay()", {"pay"}),
        ("(self.ledger or self.other).pay()", {"pay"}),
        ("getattr(self.ledger, 'pay')()", {"pay"}),
        ("if self.ledger: pass", set()),
        ("assert self.ledger is not None", set()),
        ("ledger: object = None", set()),
        ("from .core import ledger as book\nbook.pay()", {"pay"}),
        ("self.other.pay()", set()),
    ],
)
def test_the_calls_through_a_handle_are_found(source, expected):
    assert calls_used([source], "ledger") == expected


@pytest.mark.parametrize(
    "source",
    [
        "help_with(self.ledger)",
        "return_ = [self.ledger]",
        "self.kept = self.ledger",
        "getattr(self.ledger, name)()",
        "queue = self.ledger.send\nqueue.pay()",
        "def f(self): return self.ledger",
        "this is no Python",
    ],
)
def test_a_handle_that_goes_elsewhere_may_be_used_for_anything(source):
    assert calls_used([source], "ledger") is None


def test_all_files_of_a_package_count():
    assert calls_used(["self.ledger.pay()", "self.ledger.total()"], "ledger") == {"pay", "total"}


def test_an_interface_names_its_own_calls_and_those_of_its_bases():
    class Reads(Protocol):
        async def total(self) -> int: ...

    class Writes(Reads, Protocol):
        note: str

        async def pay(self, cents: int) -> None: ...

        def _hidden(self) -> None: ...

    assert interface_calls(Writes) == {"pay", "total"}
