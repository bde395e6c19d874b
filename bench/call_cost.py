"""What a call through an open gate costs, beside a bare `await` of the same method.

Prints one JSON line for each kind of method: nanoseconds a call for the bare method, its compiled
entry, that entry found in a handle, without replay ("off") and while recent queries are kept for
replay, that entry while it is observed (in a reload's window and on probation), and the generic
wrapper, and their ratios to the bare one; `replay_on_off` and `probation_on_off` are the ratios of
on to off, round by round. All are
measured in turn within each round, so that a busy machine slows them alike; the median of seven
rounds counts.

Then, of a whole host (`isolation`): a call through its handle (the way of a user), and a call from
another thread, which waits for the event loop. Then the same method of a module in a process of its
own (`isolation = "process"`): one call after the other, fifty callers at once, and with a megabyte
as argument; with what a call costs of the processors' time in host and worker together.

What it does not show: the cost of a chain that touches several modules.
"""

from __future__ import annotations

import argparse
import asyncio
import contextvars
import json
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from os import sysconf
from pathlib import Path
from time import perf_counter_ns, process_time
from types import MethodType

from replank.code.entries import collect_entries, generic_entry
from replank.code.loader import Loader
from replank.code.store import VersionStore
from replank.config import Config, ModuleConfig
from replank.definition import CallKind
from replank.host import Host
from replank.traffic.calls import chain_var as real_chain_var
from replank.traffic.gate import Gate
from replank.traffic.lane import Lane, LaneState
from replank.traffic.leaf import LeafPass
from replank.traffic.observing import Observer
from replank.traffic.recent import Recent

ROUNDS = 7
CALLS = 40_000
METHODS = ["atomic", "empty", "suspending", "sleeping", "typical", "plain"]

SOURCE = """
import asyncio
from replank.module import Module

async def elsewhere():
    return None

class Bench(Module):
    total: int = 0
    async def atomic(self, cents):
        self.total += cents
        return self.total
    async def empty(self): ...
    async def suspending(self, cents):
        await elsewhere()
        self.total += cents
        return self.total
    async def sleeping(self, cents):
        await asyncio.sleep(0)
        self.total += cents
        return self.total
    async def typical(self, cents):
        rows = {}
        for number in range(10):
            rows[number] = rows.get(number, 0) + cents
        self.total += sum(rows.values())
        return self.total
    def plain(self, cents):
        self.total += cents
        return self.total
    def size(self, data):
        return len(data)
"""


class StubPass:
    __slots__ = ("lane",)
    others = ()

    def __init__(self, lane: StubLane) -> None:
        self.lane = lane

    def leave(self) -> None:
        self.lane.chains.discard(self)


class StubLane:
    """Does what the real lane does on the hot path."""

    __slots__ = ("calls", "chains", "open")
    quick = False

    def __init__(self) -> None:
        self.open, self.calls, self.chains = True, 0, set()

    def enter(self, _call: str) -> StubPass | None:
        self.calls += 1
        if chain_var.get() is not None:
            return None
        made = StubPass(self)
        self.chains.add(made)
        return made

    async def detour(self, *_: object) -> object:
        raise AssertionError("the gate is open")


chain_var: contextvars.ContextVar = contextvars.ContextVar("chain", default=None)


def real_lane(*, leaf: bool) -> Lane:
    lane = Lane(Gate("bench_module"), 1)
    lane.leaf = LeafPass(lane) if leaf else None
    lane.open, lane.state = True, LaneState.OPEN
    return lane


class Looked:
    """A handle as far as calls go: what serves is found by name."""

    def __init__(self, entry) -> None:
        self.call = entry


class Kept:
    """What keeping recent queries needs of a lane."""

    def __init__(self, entry) -> None:
        self.entries = {"call": entry}
        self.contract = {"call": Query()}


class Query:
    query, kind = True, CallKind.ASYNC


class Watched:
    """What an observer needs of a lane: one entry, as on probation."""

    def __init__(self, entry) -> None:
        self.open, self.entries = True, {"call": entry}


async def timed(call, args: tuple, count: int, *, awaited: bool) -> float:
    """Return nanoseconds a call."""
    begun = perf_counter_ns()
    if awaited:
        for _ in range(count):
            await call(*args)
    else:
        for _ in range(count):
            call(*args)
    return (perf_counter_ns() - begun) / count


async def looked_up(handle: Looked, args: tuple, count: int) -> float:
    """Return nanoseconds a call, each found by its name as users do."""
    begun = perf_counter_ns()
    for _ in range(count):
        await handle.call(*args)
    return (perf_counter_ns() - begun) / count


def ratio(seen: dict[str, list[float]], one: str, other: str) -> float:
    pairs = zip(seen[one][1:], seen[other][1:], strict=True)
    return statistics.median(a / b for a, b in pairs)


async def measure(name: str, target, entry, lane: StubLane, rounds: int, count: int) -> dict:
    bare = getattr(target, name)
    is_async = name != "plain"
    args = () if name == "empty" else (3,)
    watched = Watched(MethodType(entry, target))
    observer = Observer(watched, ["call"])
    observer.start()
    off, on = Looked(MethodType(entry, target)), Looked(MethodType(entry, target))
    Recent("bench_module", calls_max=200, bytes_max=1 << 20).serve(vars(on), Kept(on.call))
    kinds = {
        "bare": (bare, is_async),
        "entry": (MethodType(entry, target), True),
        "observed": (watched.entries["call"], True),
        "generic": (generic_entry(lane, name, bare, is_async=is_async), True),
    }
    seen: dict[str, list[float]] = {kind: [] for kind in (*kinds, "off", "replayed")}
    if name == "sleeping":
        count = max(count // 10, 1)  # a turn of the loop each: ten times as long as the others
    for _ in range(rounds + 1):  # the first round warms the interpreter's caches
        for kind, (call, awaited) in kinds.items():
            seen[kind].append(await timed(call, args, count, awaited=awaited))
        for kind, handle in (("off", off), ("replayed", on)):
            seen[kind].append(await looked_up(handle, args, count))
    ns = {kind: statistics.median(values[1:]) for kind, values in seen.items()}
    ratios = {
        kind: ratio(seen, kind, "bare")
        for kind in ("entry", "off", "replayed", "observed", "generic")
    }
    return {
        "python": ".".join(map(str, sys.version_info[:3])),
        "method": name,
        **{f"{kind}_ns": round(value, 1) for kind, value in ns.items()},
        **{f"{kind}_ratio": round(value, 2) for kind, value in ratios.items()},
        "replay_on_off": round(ratio(seen, "replayed", "off"), 2),
        "probation_on_off": round(ratio(seen, "observed", "entry"), 2),
    }


async def isolation(source: Path, rounds: int, count: int) -> list[dict]:
    """Measure the same method called as users call it: by the handle, and from a thread."""
    python = ".".join(map(str, sys.version_info[:3]))
    async with Host({"bench_module": source}, data_dir=source.parent / "data") as host:
        handle = host["bench_module"]
        blocking, bare = (
            handle.blocking,
            Loader()
            .load(VersionStore(source.parent / "versions").put(source), "bench_bare", 99)
            .module.Bench(),
        )
        threads = max(count // 20, 1)

        def from_thread() -> float:
            begun = perf_counter_ns()
            for _ in range(threads):
                blocking.atomic(3)
            return (perf_counter_ns() - begun) / threads

        async def by_handle() -> float:
            begun = perf_counter_ns()
            for _ in range(count):
                await handle.atomic(3)
            return (perf_counter_ns() - begun) / count

        seen: dict[str, list[float]] = {"bare": [], "handle": [], "thread": []}
        async with isolated(source) as process:
            for _ in range(rounds + 1):
                seen["bare"].append(await timed(bare.atomic, (3,), count, awaited=True))
                seen["handle"].append(await by_handle())
                seen["thread"].append(await asyncio.to_thread(from_thread))
                for kind, cost in (await process(max(count // 20, 50))).items():
                    seen.setdefault(kind, []).append(cost)
    ns = {kind: statistics.median(values[1:]) for kind, values in seen.items()}
    return [
        {
            "python": python,
            "isolation": kind,
            "call_ns": round(value, 1),
            "ratio_to_bare": round(value / ns["bare"], 2),
        }
        for kind, value in ns.items()
    ]


@asynccontextmanager
async def isolated(source: Path) -> AsyncIterator[Callable[[int], Awaitable[dict[str, float]]]]:
    """Run the module in a process of its own; yields what measures so many calls."""
    module = ModuleConfig(source=str(source), isolation="process")
    data_dir = str(source.parent / "isolated")
    config = Config(modules={"bench_isolated": module}, data_dir=data_dir)
    async with Host(config=config) as host:
        handle = host["bench_isolated"]
        megabyte = b"x" * 1_000_000
        (status,) = host.status().modules

        def used_s() -> float:
            fields = Path(f"/proc/{status.pid}/stat").read_text().rpartition(")")[2].split()
            return process_time() + (int(fields[11]) + int(fields[12])) / sysconf("SC_CLK_TCK")

        async def many(count: int) -> None:
            for _ in range(count):
                await handle.atomic(3)

        async def measured(count: int) -> dict[str, float]:
            used = used_s()
            begun = perf_counter_ns()
            await many(count)
            one_by_one = (perf_counter_ns() - begun) / count
            cpu = (used_s() - used) / count * 1e9
            begun = perf_counter_ns()
            await asyncio.gather(*(many(max(count // 50, 1)) for _ in range(50)))
            at_once = (perf_counter_ns() - begun) / (max(count // 50, 1) * 50)
            begun = perf_counter_ns()
            for _ in range(20):
                await handle.size(megabyte)
            large = (perf_counter_ns() - begun) / 20
            return {
                "process": one_by_one,
                "process, processor time": cpu,
                "process, 50 callers": at_once,
                "process, 1 MB argument": large,
            }

        yield measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--calls", type=int, default=CALLS, help="in each round")
    options = parser.parse_args()
    rounds, count = options.rounds, options.calls
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "bench_module.py"
        source.write_text(SOURCE)
        version = VersionStore(Path(folder) / "versions").put(source)
        lanes = {
            "stub": (StubLane(), chain_var.get),
            "calls no other module": (real_lane(leaf=True), real_chain_var.get),
            "calls other modules": (real_lane(leaf=False), real_chain_var.get),
        }
        for number, (kind, (lane, chain)) in enumerate(lanes.items()):
            names = {"__replank_lane__": lane, "__replank_chain__": chain}
            loaded = Loader().load(version, "bench_module", number, runtime_names=names)
            owner = loaded.module.Bench
            entries = collect_entries(owner, METHODS)
            for name in METHODS:
                row = asyncio.run(measure(name, owner(), entries[name], lane, rounds, count))
                print(json.dumps({"lane": kind, **row}), flush=True)
        for row in asyncio.run(isolation(source, rounds, count)):
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
