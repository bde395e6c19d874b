"""The shop as two modules of Replank."""

import asyncio

from replank import Module, Uses, uses


class Shop(Module, version="1"):
    count: int = 0
    rules: Uses = uses("rules")

    async def sell(self, cents: int) -> tuple[str, str, int]:
        self.count += 1
        count = self.count
        await asyncio.sleep(0.002)  # the bank answers
        return "1", await self.rules.price(cents), count
