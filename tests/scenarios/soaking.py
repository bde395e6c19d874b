"""A host that is reloaded again and again, with every outcome, under load: what does it keep?"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from replank import Host
from replank.config import Config
from replank.memory import resident_bytes
from replank.report import ReloadReport
from tests.scenarios.load import NOTHING_WRONG, Load

MODULES = Path(__file__).parents[1] / "fixtures" / "modules" / "counter"
FAILING_START = "    async def on_start(self):\n        raise OSError('soak')\n\n"
FAILING_CHECK = "    @check\n    def soak(self):\n        raise ValueError('soak')\n\n"
HOLDERS = 12
ENDED_BY_THE_CLOCK = frozenset({"Retirement._look", "Watch._watch"})
"""The search for leaks some seconds after a generation, and a probation while it lasts."""


@dataclass(frozen=True)
class Sample:
    """What the process holds at one moment at which no reload runs."""

    resident_bytes: int
    blocks: int
    """Allocated by Python's own allocator, after a full collection."""
    descriptors: int
    threads: int
    tasks: int

    @classmethod
    def take(cls) -> Sample:
        gc.collect()
        return cls(
            resident_bytes(),
            sys.getallocatedblocks(),
            len(os.listdir("/proc/self/fd")),  # noqa: PTH208 - a list, at once
            len(own_threads()),
            len(own_tasks()),
        )


def own_threads() -> list[str]:
    """Return the threads that a host starts; asyncio's own are started lazily, up to a limit."""
    return [one.name for one in threading.enumerate() if not one.name.startswith("asyncio_")]


def own_tasks() -> list[str]:
    """Return the tasks that must not grow in number: those that end by the clock come and go."""
    names = [getattr(one.get_coro(), "__qualname__", "") for one in asyncio.all_tasks()]
    return [name for name in names if name not in ENDED_BY_THE_CLOCK]


@dataclass
class Soaked:
    """What a soak came to."""

    outcomes: Counter[str] = field(default_factory=Counter)
    samples: list[Sample] = field(default_factory=list)
    wrong: dict[str, int] = field(default_factory=dict)
    answers: int = 0

    def quarter(self, number: int, value: Callable[[Sample], int]) -> float:
        """Return the mean of a value over the first (0) to last (3) quarter of the samples."""
        size = len(self.samples) // 4
        own = [value(one) for one in self.samples[number * size : (number + 1) * size]]
        return sum(own) / len(own)

    def growth(self, value: Callable[[Sample], int]) -> float:
        """Return how much more the last quarter holds than the second, as a part of it."""
        return self.quarter(3, value) / self.quarter(1, value) - 1


def sources(folder: Path) -> dict[str, Path]:
    """Write the versions, good and bad; by name."""
    good = {one: (MODULES / f"{one}.py").read_text("utf-8") for one in ("v1", "v2")}
    texts = dict(good)
    for name, text in good.items():
        head, mark, rest = text.partition("    async def add(")
        texts[f"{name}_start"] = head + FAILING_START + mark + rest
        texts[f"{name}_check"] = head + FAILING_CHECK + mark + rest
        texts[f"{name}_syntax"] = text + "def (\n"
    for name, text in texts.items():
        (folder / name).mkdir()
        (folder / name / "counter.py").write_text(text, "utf-8")
    return {name: folder / name / "counter.py" for name in texts}


async def one_reload(host: Host, paths: dict[str, Path], turn: int) -> ReloadReport:
    """Do the next reload of an endless round through all outcomes."""
    serves = host.definition("counter").label
    now, other = ("v1", "v2") if serves == "1.0" else ("v2", "v1")
    match turn % 6:
        case 0 | 3:
            return await host.reload({"counter": paths[other]})
        case 1:
            return await host.reload({"counter": paths[f"{other}_start"]})
        case 2:
            return await host.reload({"counter": paths[f"{now}_check"]})
        case 4:
            return await host.reload({"counter": paths[f"{other}_syntax"]})
        case _:
            return await host.rollback("counter")


async def settled(host: Host) -> None:
    """Return when every old generation is gone, and the last reload's watchdog."""
    slot = host._routes.slot("counter")
    while host._coordinator.retirement.leaving or "replank watchdog" in own_threads():
        await asyncio.sleep(0)
    if slot.probation is not None:
        await slot.probation.settled()
    for _ in range(10):  # tasks that have ended and are not yet forgotten
        await asyncio.sleep(0)


async def soak(folder: Path, reloads: int, *, every: int, config: Config | None = None) -> Soaked:
    """Reload so often under load, and look each so many reloads at what the process holds.

    Args:
        folder: To work in.
        reloads: How many, of all outcomes.
        every: Reloads between two samples.
        config: The host's.
    """
    result = Soaked()
    paths = sources(folder)
    async with Host({"counter": paths["v1"]}, data_dir=folder / "data", config=config) as host:
        counter = host["counter"]
        async with Load(counter.add, counter.send.add, callers=HOLDERS, senders=2) as load:
            for turn in range(reloads):
                report = await one_reload(host, paths, turn)
                result.outcomes[str(report.outcome)] += 1
                await load.some_answers(3)
                result.answers += len(load.answers)
                load.answers.clear()
                if turn % every == every - 1:
                    await settled(host)
                    result.samples.append(Sample.take())
        while host._routes.slot("counter").inbox.queued:
            await asyncio.sleep(0)
        result.wrong = {
            key: value
            for key, value in load.compare(await counter.account()).items()
            if value != NOTHING_WRONG[key]
        }
    return result
