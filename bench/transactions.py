"""What several modules at once cost: `python -m bench.transactions`.

Eight modules with no tie are reloaded one alone, then all eight asked for at the same moment (eight
transactions side by side), then all eight as one transaction; each many times, the probe on, in
turns, so that the machine's load meets all three alike. One JSON line: the time from the request to
the last report, and the ratio of all eight to one. Not shown: several cores, large states.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import perf_counter

from replank import Host

MODULES = 8
SOURCE = """
from replank import Module

class Part(Module, version="{label}"):
    hits: int = 0

    async def hit(self) -> int:
        self.hits += 1
        return self.hits
"""


async def timed(work: Callable[[], Awaitable[object]]) -> float:
    began = perf_counter()
    await work()
    return (perf_counter() - began) * 1e3


async def measure(rounds: int) -> dict:
    load_before = os.getloadavg()[0]
    times: dict[str, list[float]] = {"one": [], "eight side by side": [], "eight in one": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sources = {f"part{n}": folder / f"part{n}.py" for n in range(MODULES)}
        labels = iter(range(1, 1_000_000))

        def edit(names: list[str]) -> None:
            for one in names:
                sources[one].write_text(SOURCE.format(label=next(labels)))

        everything = list(sources)
        edit(everything)
        async with Host(sources, data_dir=folder / "data") as host:

            async def side_by_side() -> None:
                for report in await asyncio.gather(*(host.reload(one) for one in everything)):
                    report.raise_for_outcome()

            async def together(names: list[str]) -> None:
                (await host.reload(names)).raise_for_outcome()

            for _ in range(rounds + 1):
                edit(everything[:1])
                times["one"].append(await timed(lambda: together(everything[:1])))
                edit(everything)
                times["eight side by side"].append(await timed(side_by_side))
                edit(everything)
                times["eight in one"].append(await timed(lambda: together(everything)))
    medians = {what: round(statistics.median(taken[1:]), 2) for what, taken in times.items()}
    return {
        "case": "eight modules at once",
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "load_1min": [round(load_before, 2), round(os.getloadavg()[0], 2)],
        "rounds": rounds,
        "median_ms": medians,
        "fastest_ms": {what: round(min(taken[1:]), 2) for what, taken in times.items()},
        "eight_to_one": round(medians["eight side by side"] / medians["one"], 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    print(json.dumps(asyncio.run(measure(parser.parse_args().rounds))), flush=True)


if __name__ == "__main__":
    main()
