"""A counter, version 1: one of the eight that `test-concurrent-reload` replaces."""

import asyncio
from typing import Any

from replank import Module, check, query


class Counter(Module, version="1.0", schema=1):
    count: int = 0
    runs: dict[str, list[list[int]]] = {}

    async def increment(self, sender: str, seq: int) -> str:
        """Count one call and return the version that did."""
        await asyncio.sleep(0)
        self.count += 1
        runs = self.runs.setdefault(sender, [])
        if runs and runs[-1][1] == seq - 1:
            runs[-1][1] = seq
        else:
            runs.append([seq, seq])
        return "1.0"

    async def hold(self, seconds: float) -> None:
        """Stay in flight for a while: a reload has to wait for this call."""
        await asyncio.sleep(seconds)

    @query
    async def statement(self) -> dict[str, Any]:
        """Return what this counter saw."""
        return {"count": self.count, "senders": self.runs}

    @check
    async def counts_what_it_saw(self) -> bool:
        """The number is that of the calls noted."""
        return self.count == sum(b - a + 1 for runs in self.runs.values() for a, b in runs)
