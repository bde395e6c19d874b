"""Keeps the accounts."""

from replank import Module, Record, Table, check, query


class Account(Record):
    owner: str
    cents: int = 0


class Ledger(Module, version="1.0", schema=1):
    accounts: Table[str, Account]
    total_cents: int = 0

    async def deposit(self, owner: str, cents: int) -> int:
        account = self.accounts.setdefault(owner, Account(owner))
        account.cents += cents
        self.total_cents += cents
        return account.cents

    @query
    async def balance(self, owner: str) -> int:
        return self.accounts[owner].cents

    @check
    async def books_balance(self) -> bool:
        return self.total_cents == sum(one.cents for one in self.accounts.values())
