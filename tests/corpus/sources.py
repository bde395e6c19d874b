"""The two modules that every edit of the corpus begins with: a shop, and a till that uses it."""

from __future__ import annotations

SHOP = '''\
"""A shop."""

import enum
from collections.abc import AsyncIterator
from typing import Literal, Optional

from replank import Module, Record, Table, check, convert, every, invariant, query, step
from replank import add, remove, rename


class Size(enum.Enum):
    SMALL = "s"
    LARGE = "l"


class Order(Record):
    item: str
    count: int = 1


class Receipt(Record):
    item: str
    cents: int = 0


class Account(Record):
    owner: str
    cents: int = 0


class Shop(Module, version="1.0", schema=1):
    accounts: Table[str, Account]
    orders: int = 0
    notes: list[str] = []
    migrations = []

    async def pay(self, owner: str, cents: int = 1) -> int:
        account = self.accounts.get(owner)
        if account is None:
            account = self.accounts[owner] = Account(owner)
        account.cents += cents
        return account.cents

    async def place(self, order: Order, size: Size = Size.SMALL) -> int:
        self.orders += 1
        return self.orders

    @query
    async def balance(self, owner: str) -> int:
        return self.accounts[owner].cents

    async def receipt(self, item: str) -> Receipt:
        return Receipt(item)

    async def bare(self, text) -> str:
        return str(text)

    async def unused(self) -> None:
        return None

    @query
    async def total(self) -> int:
        return sum(one.cents for one in self.accounts.values())

    @every(60)
    async def sweep(self) -> None:
        self.notes.clear()

    @check
    async def nobody_owes(self) -> None:
        assert all(one.cents >= 0 for one in self.accounts.values())

    @invariant
    def total_cents(self) -> int:
        return sum(one.cents for one in self.accounts.values())
'''

TILL = """\
from replank import Module, Uses, uses


class Till(Module, version="1.0"):
    shop: Uses = uses("shop", ">=1,<3")

    async def sell(self, owner: str, cents: int) -> int:
        return await self.shop.pay(owner, cents)

    async def look(self, owner: str) -> int:
        return await self.shop.balance(owner)

    async def order(self, item: str) -> int:
        await self.shop.receipt(item)
        return await self.shop.place(item)
"""
