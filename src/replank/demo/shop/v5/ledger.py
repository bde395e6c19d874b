"""The shop's ledger, version 5: books orders by another call, together with the api."""

from decimal import Decimal
from typing import Any

from replank import Module, Record, Table, add, check, convert, query, rename, step

LABEL = "5.0"


def to_cents(euros: Decimal) -> int:
    return int(euros * 100)


def to_euros(cents: int) -> Decimal:
    return Decimal(cents) / 100


class Account(Record):
    owner: str
    cents: int = 0
    tier: str = "basic"


class Sender(Record):
    """What arrived from one sender: runs of sequence numbers, in the order of arrival."""

    runs: list[list[int]] = []


class Ledger(Module, version=LABEL, schema=2):
    accounts: Table[str, Account]
    senders: Table[str, Sender]
    total_cents: int = 0
    serial: int = 0
    orders: int = 0

    migrations = [
        step(
            1,
            2,
            rename("accounts.*.amount", "cents"),
            convert("accounts.*.cents", to_cents, to_euros),
            add("accounts.*.tier", default="basic"),
            rename("total", "total_cents"),
            convert("total_cents", to_cents, to_euros),
        )
    ]

    async def deposit(self, sender: str, seq: int, owner: str, cents: int) -> dict[str, Any]:
        """Put money on an account; also sent as a message."""
        self._note(sender, seq)
        account = self.accounts.get(owner)
        if account is None:
            account = self.accounts[owner] = Account(owner)
        account.cents += cents
        self.total_cents += cents
        return {"version": LABEL, "serial": self.serial}

    async def book_order(
        self, *, sender: str, seq: int, owner: str, cents: int, currency: str
    ) -> dict[str, Any]:
        """Book an order of the api module; takes the place of `book`."""
        if currency != "EUR":
            raise ValueError(f"the ledger keeps euros only, not {currency}")
        self.orders += 1
        return await self.deposit(sender, seq, owner, cents)

    @query
    async def statement(self) -> dict[str, Any]:
        """Return all that the ledger knows: its own account of what reached it."""
        return {
            "version": LABEL,
            "serial": self.serial,
            "total_cents": self.total_cents,
            "accounts": {name: one.cents for name, one in self.accounts.items()},
            "senders": {name: one.runs for name, one in self.senders.items()},
            "shape": "cents, with a tier; orders counted",
        }

    @check
    async def books_balance(self) -> None:
        """The accounts add up to the total."""
        found = sum(account.cents for account in self.accounts.values())
        if found != self.total_cents:
            raise ValueError(f"the accounts hold {found}, the total says {self.total_cents}")

    def _note(self, sender: str, seq: int) -> None:
        self.serial += 1
        known = self.senders.get(sender)
        if known is None:
            known = self.senders[sender] = Sender()
        if known.runs and known.runs[-1][1] == seq - 1:
            known.runs[-1][1] = seq
        else:
            known.runs.append([seq, seq])
