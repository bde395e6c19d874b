"""What a sale costs; the other half of the change."""

from replank import Module


class Rules(Module, version="1"):
    async def price(self, cents: int) -> str:
        return "1"
