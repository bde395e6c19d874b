"""A module class: `replank run examples/counter.py`, then edit and `replank reload counter`."""

from replank import Module, check, every, query


class Counter(Module, version="1.0"):
    count: int = 0
    minutes: int = 0

    async def increment(self, by: int = 1) -> int:
        """Count."""
        self.count += by
        return self.count

    @query
    async def read(self) -> int:
        return self.count

    @every(60.0)
    async def minute(self) -> None:
        """Goes on in the next version, where this one stopped."""
        self.minutes += 1

    @check
    async def is_not_negative(self) -> bool:
        return self.count >= 0
