"""How long a warm examination takes, and how long it keeps the host's event loop from turning.

Prints JSON lines: milliseconds of `VersionStore.put`, `Probe.examine` and `Loader.load` with the
probe's code, each as min/median/max, and the longest gap between two turns of the event loop while
examinations run, beside the longest gap of the same loop when nothing runs.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Self

from replank.code.loader import Loader
from replank.code.probe import Probe
from replank.code.store import VersionStore

ROUNDS = 40

SOURCE = """
from replank.module import Module

class Ledger(Module, version="{number}"):
    total: int = 0
    async def deposit(self, cents: int) -> int:
        self.total += cents
        return self.total
"""


class Turning:
    """Notes the longest time between two turns of the event loop."""

    def __init__(self) -> None:
        self.gaps_ms: list[float] = []

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._turn())
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._task.cancel()

    async def _turn(self) -> None:
        last = perf_counter()
        while True:
            await asyncio.sleep(0.0005)
            now = perf_counter()
            self.gaps_ms.append((now - last) * 1000)
            last = now


def line(what: str, values: list[float]) -> None:
    print(
        json.dumps(
            {
                "python": ".".join(map(str, sys.version_info[:3])),
                "what": what,
                "ms_min": round(min(values), 2),
                "ms_median": round(statistics.median(values), 2),
                "ms_p99": round(sorted(values)[int(len(values) * 0.99)], 2),
                "ms_max": round(max(values), 2),
            }
        ),
        flush=True,
    )


async def measure(folder: Path) -> None:
    store, loader, probe = VersionStore(folder / "versions"), Loader(), Probe()
    begun = perf_counter()
    await probe.start()
    line("start of the server", [(perf_counter() - begun) * 1000])
    steps: dict[str, list[float]] = {"put": [], "examine": [], "load": []}
    async with Turning() as idle:
        await asyncio.sleep(1)
    async with Turning() as busy:
        for number in range(ROUNDS):
            source = folder / "ledger.py"
            source.write_text(SOURCE.replace("{number}", str(number)))
            marks = [perf_counter()]
            version = await asyncio.to_thread(store.put, source)
            marks.append(perf_counter())
            result = await probe.examine(version, "ledger")
            marks.append(perf_counter())
            load = lambda: loader.load(version, "ledger", number, code=result.code)  # noqa: B023, E731
            loaded = await asyncio.to_thread(load)
            marks.append(perf_counter())
            loaded.unload()
            for step, begin, end in zip(steps, marks, marks[1:], strict=False):
                steps[step].append((end - begin) * 1000)
    await probe.close()
    for step, values in steps.items():
        line(step, values)
    line("loop gap, idle", idle.gaps_ms)
    line("loop gap, examining", busy.gaps_ms)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        asyncio.run(measure(Path(name)))
