"""The shop's ledger, version 1: amounts are euros."""

from decimal import Decimal
from typing import Any

from replank import Module, Record, Table, check, query

LABEL = "1.0"


class Account(Record):
    owner: str
    amount: Decimal = Decimal(0)


class Sender(Record):
    """What arrived from one sender: runs of sequence numbers, in the order of arrival."""

    runs: list[list[int]] = []


class Ledger(Module, version=LABEL, schema=1):
    accounts: Table[str, Account]
    senders: Table[str, Sender]
    total: Decimal = Decimal(0)
    serial: int = 0

    async def deposit(self, sender: str, seq: int, owner: str, cents: int) -> dict[str, Any]:
        """Put money on an account; also sent as a message."""
        self._note(sender, seq)
        account = self.accounts.get(owner)
        if account is None:
            account = self.accounts[owner] = Account(owner)
        euros = Decimal(cents) / 100
        account.amount += euros
        self.total += euros
        return {"version": LABEL, "serial": self.serial}

    async def book(self, sender: str, seq: int, owner: str, cents: int) -> dict[str, Any]:
        """Book an order of the api module."""
        return await self.deposit(sender, seq, owner, cents)

    @query
    async def statement(self) -> dict[str, Any]:
        """Return all that the ledger knows: its own account of what reached it."""
        return {
            "version": LABEL,
            "serial": self.serial,
            "total_cents": int(self.total * 100),
            "accounts": {name: int(one.amount * 100) for name, one in self.accounts.items()},
            "senders": {name: one.runs for name, one in self.senders.items()},
            "shape": "amount in euros",
        }

    @check
    async def books_balance(self) -> None:
        """The accounts add up to the total."""
        found = sum((account.amount for account in self.accounts.values()), Decimal(0))
        if found != self.total:
            raise ValueError(f"the accounts hold {found}, the total says {self.total}")

    def _note(self, sender: str, seq: int) -> None:
        self.serial += 1
        known = self.senders.get(sender)
        if known is None:
            known = self.senders[sender] = Sender()
        if known.runs and known.runs[-1][1] == seq - 1:
            known.runs[-1][1] = seq
        else:
            known.runs.append([seq, seq])
