"""The shop's front, version 1: takes orders and books them in the ledger."""

import asyncio
from typing import Any

from replank import Module, Record, Table, Uses, query, uses

LABEL = "1.0"


class Sender(Record):
    """What arrived from one sender: runs of sequence numbers, in the order of arrival."""

    runs: list[list[int]] = []


class Api(Module, version=LABEL, schema=1):
    ledger: Uses = uses("ledger", ">=1,<5")
    senders: Table[str, Sender]
    orders: int = 0

    async def place_order(self, sender: str, seq: int, owner: str, cents: int) -> dict[str, Any]:
        """Take an order: ask the bank, then book it."""
        await asyncio.sleep(0.001)  # the bank answers
        booked = await self.ledger.book(sender, seq, owner, cents)
        self._note(sender, seq)
        return {"version": LABEL, "order": self.orders, "booked": booked}

    @query
    async def statement(self) -> dict[str, Any]:
        """Return what this module knows: its own account of what reached it."""
        return {
            "version": LABEL,
            "orders": self.orders,
            "senders": {name: one.runs for name, one in self.senders.items()},
        }

    def _note(self, sender: str, seq: int) -> None:
        self.orders += 1
        known = self.senders.get(sender)
        if known is None:
            known = self.senders[sender] = Sender()
        if known.runs and known.runs[-1][1] == seq - 1:
            known.runs[-1][1] = seq
        else:
            known.runs.append([seq, seq])
