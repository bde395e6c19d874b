"""A counter, version 2: its number has another name."""

import asyncio
from typing import Any

from replank import Module, check, query, rename, step


class Counter(Module, version="2.0", schema=2):
    total: int = 0
    runs: dict[str, list[list[int]]] = {}

    migrations = [step(1, 2, rename("count", "total"))]

    async def increment(self, sender: str, seq: int) -> str:
        """Count one call and return the version that did."""
        await asyncio.sleep(0)
        self.total += 1
        runs = self.runs.setdefault(sender, [])
        if runs and runs[-1][1] == seq - 1:
            runs[-1][1] = seq
        else:
            runs.append([seq, seq])
        return "2.0"

    async def hold(self, seconds: float) -> None:
        """Stay in flight for a while: a reload has to wait for this call."""
        await asyncio.sleep(seconds)

    @query
    async def statement(self) -> dict[str, Any]:
        """Return what this counter saw."""
        return {"count": self.total, "senders": self.runs}

    @check
    async def counts_what_it_saw(self) -> bool:
        """The number is that of the calls noted."""
        return self.total == sum(b - a + 1 for runs in self.runs.values() for a, b in runs)
