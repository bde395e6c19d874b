"""A real host under load, its history recorded and checked: nothing lost, doubled or mixed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

from replank import Host
from replank.config import Config, ModuleConfig, ReloadConfig
from replank.errors import StateSealed
from replank.report import ReloadReport
from replank.testing.history import History, Kind, Operation, Reloaded, Sent

STORE = """
import asyncio
from replank import Module, Table, check
try:
    GENERATION = __replank_lane__.generation
except NameError:
    GENERATION = 0  # in the probe
class Store(Module, version="{label}"):
    values: Table[str, int]
    sums: Table[str, int]
    handled: list[tuple[str, int]]
    def seen(self):
        return (("{name}", GENERATION),)
    async def read(self, key: str) -> tuple:
        await asyncio.sleep(0)
        return self.values.get(key, 0), self.seen()
    async def write(self, key: str, value: int) -> tuple:
        await asyncio.sleep(0)
        self.values[key] = value
        await asyncio.sleep(0)
        return None, self.seen()
    def add(self, key: str, amount: int) -> tuple:
        self.sums[key] = total = self.sums.get(key, 0) + amount
        return total, self.seen()
    async def note(self, sender: str, number: int) -> None:
        await asyncio.sleep(0)
        self.handled.append((sender, number))
    async def account(self) -> list:
        return [tuple(one) for one in self.handled]
{more}
"""
FRONT = """
from replank import Module, Uses, uses
try:
    GENERATION = __replank_lane__.generation
except NameError:
    GENERATION = 0  # in the probe
class Front(Module, version="{label}"):
    store: Uses = uses("store")
    async def write(self, key: str, value: int) -> tuple:
        first, below = await self.store.read(key)
        _, again = await self.store.write(key, value)
        return None, (("front", GENERATION), *below, *again)
{more}
"""
QUICK = Config(reload=ReloadConfig(probe=False))
GOOD = ""
REJECTED = "    @check\n    def bad(self):\n        assert len(self.values) < 0\n"
ROLLED_BACK = (
    "    async def on_start(self):\n        await asyncio.sleep(0)\n        raise OSError('no')\n"
)
BROKEN_FRONT = "    async def on_start(self):\n        raise OSError('no')\n"


@dataclass
class Recorder:
    """Callers and senders of one host that write down what they see."""

    host: Host
    history: History = field(default_factory=History)
    ending: bool = False

    async def call(self, process: str, key: str, kind: Kind, argument: Any, make: Any) -> None:
        began = perf_counter()
        answer, seen = await make()
        self.history.operations.append(
            Operation(process, key, kind, argument, answer, began, perf_counter(), seen)
        )

    async def caller(self, number: int, chance: Callable[[], float]) -> None:
        process, store, front = f"caller-{number}", self.host["store"], self.host["front"]
        value = 0
        while not self.ending:
            value += 1
            key, mine = f"k{int(chance() * 3)}", number * 1_000_000 + value
            what = chance()
            if what < 0.3:
                await self.call(process, key, Kind.READ, None, lambda k=key: store.read(k))
            elif what < 0.5:
                make = lambda k=key, v=mine: store.write(k, v)  # noqa: E731
                await self.call(process, key, Kind.WRITE, mine, make)
            elif what < 0.7:
                make = lambda k=key, v=mine: front.write(k, v)  # noqa: E731
                await self.call(process, key, Kind.WRITE, mine, make)
            else:
                make = lambda k=key: store.add(k, 2)  # noqa: E731
                await self.call(process, f"sum of {key}", Kind.ADD, 2, make)
            await asyncio.sleep(0)

    async def sender(self, number: int) -> None:
        name, count = f"sender-{number}", 0
        while not self.ending:
            count += 1
            await self.host["store"].send.note(name, count)
            self.history.sent.append(Sent(name, count))
            await asyncio.sleep(0.001)

    async def reload(self, make: Callable[[], Any]) -> str:
        began = perf_counter()
        report: ReloadReport = await make()
        generations = {one.name: (one.generation_from, one.generation_to) for one in report.modules}
        self.history.reloads.append(
            Reloaded(report.id, generations, report.committed, began, perf_counter())
        )
        return str(report.outcome)


def write(folder: Path, label: int, store: str = GOOD, front: str = GOOD) -> None:
    (folder / "store.py").write_text(STORE.format(name="store", label=label, more=store))
    (folder / "front.py").write_text(FRONT.format(label=label, more=front))


async def test_calls_messages_reloads_failures_and_rollbacks_are_explained(tmp_path: Path) -> None:
    write(tmp_path, 1)
    sources = {"store": tmp_path / "store.py", "front": tmp_path / "front.py"}
    chance = random.Random(4).random
    outcomes = []
    async with Host(sources, data_dir=tmp_path / "data", config=QUICK) as host:
        recorder = Recorder(host)
        jobs = [asyncio.create_task(recorder.caller(i, chance)) for i in range(6)]
        jobs += [asyncio.create_task(recorder.sender(i)) for i in range(3)]
        label = 1
        plans = ((GOOD, GOOD), (REJECTED, GOOD), (ROLLED_BACK, GOOD), (GOOD, BROKEN_FRONT))
        for turn in range(16):
            label += 1
            write(tmp_path, label, *plans[turn % len(plans)])
            what = ["store", "front"] if turn % 2 or chance() < 0.5 else "store"
            outcomes.append(await recorder.reload(lambda w=what: host.reload(w)))
            if turn % 5 == 4:
                outcomes.append(await recorder.reload(lambda: host.rollback("store")))
        recorder.ending = True
        await asyncio.gather(*jobs)
        while host.status().modules[1].messages_queued:
            await asyncio.sleep(0)
        recorder.history.handled = await host["store"].account()
    assert {"committed", "rejected", "rolled_back"} <= set(outcomes)
    assert len(recorder.history.operations) > 200
    assert len(recorder.history.sent) > 20
    assert recorder.history.check() == ()


async def test_the_recorder_notices_a_write_that_is_lost(tmp_path: Path) -> None:
    """The check can fail: a write thrown away between host and caller is unexplained."""
    write(tmp_path, 1)
    sources = {"store": tmp_path / "store.py", "front": tmp_path / "front.py"}
    async with Host(sources, data_dir=tmp_path / "data", config=QUICK) as host:
        recorder, store = Recorder(host), host["store"]
        for total in range(1, 6):
            amount = 0 if total == 3 else 2  # the module adds nothing, the caller believes it did
            make = lambda a=amount: store.add("k", a)  # noqa: E731
            await recorder.call("caller", "k", Kind.ADD, 2, make)
    assert [one.rule for one in recorder.history.check()] == ["unexplained"]


SLOW = """
import asyncio
from replank import Module
class Slow(Module, version="{label}"):
    total: int = 0
    async def add(self, go) -> str:
        await go.wait()
        self.total += 1
        return "{label}"
    async def read(self) -> int:
        return self.total
"""


async def test_the_write_of_a_detached_call_is_kept_or_refused(tmp_path: Path) -> None:
    """Policy `detach`: the call ends on the old generation, whose state is sealed: writes raise."""
    source = tmp_path / "slow.py"
    source.write_text(SLOW.format(label=1))
    module = ModuleConfig(source=str(source), drain_policy="detach", drain_timeout_s=0.05)
    config = Config(modules={"slow": module}, reload=ReloadConfig(probe=False))
    async with Host(data_dir=tmp_path / "data", config=config) as host:
        go, history = asyncio.Event(), History()
        call = asyncio.create_task(host["slow"].add(go))
        await asyncio.sleep(0)
        source.write_text(SLOW.format(label=2))
        assert (await host.reload("slow")).committed
        go.set()
        try:
            await call
        except StateSealed:
            pass
        else:
            history.operations.append(Operation("caller", "total", Kind.ADD, 1, None, 0.0, 1.0))
        total = await host["slow"].read()
        history.operations.append(Operation("reader", "total", Kind.READ, None, total, 2.0, 3.0))
    assert history.check() == ()
