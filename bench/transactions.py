"""What several modules at once cost: `python -m bench.transactions`.

Small modules with no tie are reloaded one alone, then 2, 8 and 32 asked for at the same moment (as
many transactions side by side), then the same as one transaction; each many times, the probe on, in
turns, so that the machine's load meets all alike. One JSON line for each number of modules: the
time from the request to the last report, the pause, and how many times one alone it took. A client
calls one of the modules every 2 ms all the time; its longest wait stands beside the longest with no
reload. Not shown: several cores, large states.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import tempfile
from collections.abc import Iterable
from pathlib import Path
from time import perf_counter

from replank import Host
from replank.report import ReloadReport

MODULES = (1, 2, 8, 32)
SOURCE = """
from replank import Module

class Part(Module, version="{label}"):
    hits: int = 0

    async def hit(self) -> int:
        self.hits += 1
        return self.hits
"""
CLIENT_STEP_S = 0.002


class Client:
    """Calls a module on a timetable; keeps the longest wait."""

    def __init__(self, part) -> None:
        self.part, self.longest_s = part, 0.0

    async def run(self) -> None:
        due = perf_counter()
        while True:
            await self.part.hit()
            self.longest_s = max(self.longest_s, perf_counter() - due)
            due += CLIENT_STEP_S
            await asyncio.sleep(max(0.0, due - perf_counter()))

    def take(self) -> float:
        taken, self.longest_s = self.longest_s, 0.0
        return taken


class Taken:
    """The times of one way of reloading so many modules, in milliseconds."""

    def __init__(self) -> None:
        self.total: list[float] = []
        self.pause: list[float] = []

    def add(self, seconds: float, reports: Iterable[ReloadReport]) -> None:
        for report in reports:
            report.raise_for_outcome()
            self.pause.append(report.pause_s * 1e3)
        self.total.append(seconds * 1e3)

    def forget(self) -> None:
        self.total.clear()
        self.pause.clear()

    def median(self) -> float:
        return statistics.median(self.total)


class Parts:
    """Sources of small modules, each new whenever it is asked for."""

    def __init__(self, folder: Path, count: int) -> None:
        self.sources = {f"part{n}": folder / f"part{n}.py" for n in range(count)}
        self.names = list(self.sources)
        self._labels = iter(range(1, 1_000_000))
        self.edit(count)

    def edit(self, count: int) -> list[str]:
        for name in self.names[:count]:
            self.sources[name].write_text(SOURCE.format(label=next(self._labels)))
        return self.names[:count]


async def side_by_side(host: Host, parts: Parts, count: int, taken: Taken) -> None:
    names = parts.edit(count)
    began = perf_counter()
    reports = await asyncio.gather(*(host.reload(name) for name in names))
    taken.add(perf_counter() - began, reports)


async def in_one(host: Host, parts: Parts, count: int, taken: Taken) -> None:
    names = parts.edit(count)
    began = perf_counter()
    report = await host.reload(names)
    taken.add(perf_counter() - began, [report])


async def measure(sizes: list[int], rounds: int) -> list[dict]:
    """Return a row for each number of modules.

    Args:
        sizes: Numbers of modules.
        rounds: Times each is done; one more comes before and is not counted.
    """
    load_before = os.getloadavg()[0]
    beside, together = ({size: Taken() for size in sizes} for _ in range(2))
    alone = Taken()
    with tempfile.TemporaryDirectory() as name:
        parts = Parts(Path(name), max(sizes))
        async with Host(parts.sources, data_dir=Path(name) / "data") as host:
            client = Client(host[parts.names[0]])
            calling = asyncio.create_task(client.run())
            await asyncio.sleep(1.0)
            quiet_s = client.take()
            for turn in range(rounds + 1):
                if turn == 1:
                    for one in (alone, *beside.values(), *together.values()):
                        one.forget()
                await in_one(host, parts, 1, alone)
                for size in sizes:
                    await side_by_side(host, parts, size, beside[size])
                    await in_one(host, parts, size, together[size])
            busy_s = client.take()
            calling.cancel()
            await asyncio.wait([calling])
    same = {
        "case": "modules at once",
        "python": platform.python_version(),
        "load_1min": [round(load_before, 2), round(os.getloadavg()[0], 2)],
        "rounds": rounds,
        "alone_ms": round(alone.median(), 2),
        "longest_wait_quiet_ms": ms(quiet_s),
        "longest_wait_ms": ms(busy_s),
    }
    return [
        {
            **same,
            "modules": size,
            **facts("side_by_side", beside[size], alone),
            **facts("in_one", together[size], alone),
        }
        for size in sizes
    ]


def facts(way: str, taken: Taken, alone: Taken) -> dict[str, float]:
    return {
        f"{way}_ms": round(taken.median(), 2),
        f"{way}_pause_max_ms": round(max(taken.pause), 2),
        f"{way}_to_alone": round(taken.median() / alone.median(), 2),
    }


def ms(seconds: float) -> float:
    return round(seconds * 1e3, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--modules", type=int, nargs="*", default=list(MODULES))
    options = parser.parse_args()
    for row in asyncio.run(measure(options.modules, options.rounds)):
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
