"""Takes orders, and books them in the ledger."""

from replank import Module, Uses, uses

PRICES_CENTS = {"tea": 300, "cake": 450}


class Api(Module, version="1.0"):
    ledger: Uses = uses("ledger", ">=1,<2")
    orders: int = 0

    async def order(self, customer: str, item: str) -> dict[str, int]:
        balance = await self.ledger.deposit(customer, PRICES_CENTS[item])
        self.orders += 1
        return {"orders": self.orders, "balance_cents": balance}
