"""What a table's reload costs its users: `python bench/state.py [--quick] [--clock own]`.

Cases of issue B, at the level of tables and transfers (no host, no gate, no journal):
1. `window`: 10 k, 100 k, 1 M records, a schema change (rename, split, convert, add) under an
   open-loop client of 10,000 requests a second that reads and writes.
2. `pause_copy`, `deepcopy`, `pickle`: the same change with everything copied while calls wait.
3. `lazy`: as `window`, keeping no copy: each record is migrated when it is first used.
4. `rollback`: 100,000 writes after the commit, then back, then up again.

One JSON line a case, medians of five; after the cases of a size the ratios of their pauses, and at
the end that of the largest table's pause to the smallest one's. The client is a task in the same
event loop: request i is due at i / rate and its latency counts from then, so a stall is felt by all
that came due. With `--clock own` the timetable is in seconds that this thread has run: other
programs then take no part of it but the caches, and what is left is Replank's own.
Not shown: sockets, several cores, records of other shapes. Read times as upper bounds on a shared
machine, and compare only within one run.
"""

from __future__ import annotations

import argparse
import asyncio
import copy
import gc
import json
import multiprocessing
import os
import pickle
import platform
import random
import statistics
import sys
import time
from array import array

from replank.memory import resident_bytes
from replank.record import Record
from replank.state.collector import CollectorGuard
from replank.state.lazy import LazyTransfer
from replank.state.slices import Slices
from replank.state.transfer import TableTransfer
from replank.table import Table

CLOCKS = {"wall": time.perf_counter, "own": time.thread_time}
clock = CLOCKS[os.environ.get("BENCH_CLOCK", "wall")]
PROBATION_S = 1.0
BEFORE_S = 1.0


class Old(Record):
    id: int
    name: str
    balance: float
    active: bool
    visits: int


class New(Record):
    id: int
    first: str
    last: str
    cents: int
    visit_count: int
    tier: str


def up(old):
    first, _, last = old.name.partition("-")
    return New(old.id, first, last, round(old.balance * 100), old.visits, "basic")


def down(new, old):
    name = f"{new.first}-{new.last}"
    active = old.active if old is not None else True
    return Old(new.id, name, new.cents / 100, active, new.visit_count)


def build(count):
    gc.disable()
    table = Table(
        (f"k{i:07d}", Old(i, f"user-{i}", i * 0.25, i % 3 == 0, i % 97)) for i in range(count)
    )
    gc.enable()
    return table


class Client:
    """An open loop of requests: 10 % replace, 5 % insert, 3 % delete, else read, add one, write."""

    def __init__(self, table, rate):
        self.table, self.rate = table, rate
        rand = random.Random(1)
        keys = list(table)
        self.keys = [keys[rand.randrange(len(keys))] for _ in range(65536)]
        self.mix = [rand.random() for _ in range(65536)]
        self.counts = {key: old.visits for key, old in table.items()}
        self.number, self.new, self.due, self.gate = 0, False, clock(), True
        self.latencies = array("d")
        self.running = True

    def request(self):
        number = self.number
        self.number = number + 1
        key, chance = self.keys[number & 65535], self.mix[number & 65535]
        table, counts = self.table, self.counts
        if chance < 0.15:
            if chance >= 0.10:
                key = f"n{number}"
            table[key] = self.make(number)
            counts[key] = 1
        elif chance < 0.18:
            table.pop(key, None)
            counts.pop(key, None)
        else:
            record = table.get(key)
            if record is not None:
                counts[key] += 1
                if self.new:
                    record.visit_count += 1
                else:
                    record.visits += 1

    def make(self, number):
        if self.new:
            return New(number, "made", "late", 100, 1, "gold")
        return Old(number, "made-late", 1.0, True, 1)

    async def run(self):
        step = 1 / self.rate
        while self.running:
            now = clock()
            while self.gate and self.due <= now:
                self.request()
                now = clock()
                self.latencies.append(now - self.due)
                self.due += step
            await asyncio.sleep(0)

    def take(self):
        """The latencies since the last time; sorting many takes tens of milliseconds: later."""
        latencies, self.latencies = self.latencies, array("d")
        return latencies

    @staticmethod
    def summary(latencies):
        if not latencies:
            return {}
        latencies = sorted(latencies)
        return {
            "requests": len(latencies),
            "p50_ms": round(latencies[len(latencies) // 2] * 1e3, 3),
            "p99_ms": round(latencies[int(len(latencies) * 0.99)] * 1e3, 3),
            "max_ms": round(latencies[-1] * 1e3, 3),
        }

    def lost(self):
        """Updates that are missing in the table; the order of keys is checked too."""
        name = "visit_count" if self.new else "visits"
        got = {key: getattr(record, name, None) for key, record in self.table.items()}
        wrong = sum(1 for key in self.counts if got.get(key) != self.counts[key])
        return wrong + sum(1 for key in got if key not in self.counts)


async def window(count, rate, kind=TableTransfer):
    empty = resident_bytes()
    table = build(count)
    gc.collect()
    state_bytes = resident_bytes() - empty
    client = Client(table, rate)
    client.began = client.due = clock()
    task = asyncio.ensure_future(client.run())
    while clock() - client.began < BEFORE_S:  # noqa: ASYNC110  # the clock may be our own time
        await asyncio.sleep(0.01)
    before = client.take()
    base = resident_bytes()
    begin = clock()
    with CollectorGuard() as guard:
        slices = Slices(between=guard.breathe, clock=clock)
        transfer = kind(table, up, downgrade=down, old_type=Old, new_type=New)
        transfer.open()
        outcome = await transfer.copy(slices)
        copied = clock() - begin
        pause = clock()
        drained = transfer.finish()
        transfer.commit()
        client.new = True
        pause = clock() - pause
        during = client.take()
        fold = clock()
        folding = Slices(between=guard.breathe, clock=clock)
        await transfer.fold(folding)
        fold = clock() - fold
        after = client.take()
        probation = clock()
        while clock() - probation < PROBATION_S:
            await folding.run(transfer.follower().follow_slices())
            await asyncio.sleep(0.1)
        following = client.take()
        grown = max(guard.growth_bytes, resident_bytes() - base)
        await folding.run(transfer.end_slices())
        await transfer.release(folding)
        at_end = max(guard.growth_bytes, resident_bytes() - base)
    released = client.take()
    client.running = False
    await task
    before, during, after, following, released = map(
        client.summary, (before, during, after, following, released)
    )
    return {
        "outcome": str(outcome),
        "pause_ms": pause * 1e3,
        "drained": drained,
        "copy_s": copied,
        "fold_s": fold,
        "copy_slice_max_ms": slices.longest_s * 1e3,
        "fold_slice_max_ms": folding.longest_s * 1e3,
        "before": before,
        "copying": during,
        "folding": after,
        "following": following,
        "releasing": released,
        "worst_over_before_ms": max(
            part.get("max_ms", 0.0) for part in (during, after, following, released)
        )
        - before["max_ms"],
        "state_mb": state_bytes / 1e6,
        "grown_mb": grown / 1e6,
        "grown_over_state": grown / max(1, state_bytes),
        "grown_with_end_over_state": at_end / max(1, state_bytes),
        "lost": client.lost(),
    }


async def lazy(count, rate):
    """As `window`, with records that become new ones as they are used, and the rest at the end."""
    return await window(count, rate, LazyTransfer)


async def rollback(count, writes):
    """Commit, write, follow; back; write; up again."""
    table = build(count)
    gc.collect()
    slices = Slices()
    transfer = TableTransfer(table, up, downgrade=down, old_type=Old, new_type=New)
    transfer.open()
    await transfer.copy(slices)
    transfer.finish()
    transfer.commit()
    await transfer.fold(slices)
    follower = transfer.follower()
    client = Client.__new__(Client)  # the requests without the clock
    client.table, client.number, client.new = table, 0, True
    rand = random.Random(2)
    keys = list(table)
    client.keys = [rand.choice(keys) for _ in range(65536)]
    client.mix = [rand.random() for _ in range(65536)]
    client.counts = {key: record.visit_count for key, record in table.items()}
    following = 0.0
    for number in range(writes):
        client.request()
        if number % 500 == 499:
            begin = clock()
            await slices.run(follower.follow_slices())
            following += clock() - begin
    parked_key = next(iter(table))
    table[parked_key].tier = "gold"
    pause = clock()
    drained = follower.drain()
    follower.rollback()
    pause = clock() - pause
    client.new = False
    await slices.run(follower.fold_slices())
    lost = client.lost()
    again = TableTransfer(table, up, old_type=Old, new_type=New, residue=follower.residue)
    again.open()
    await again.copy(slices)
    again.finish()
    again.commit()
    client.new = True
    await again.fold(slices)
    return {
        "writes": writes,
        "pause_ms": pause * 1e3,
        "drained": drained,
        "follow_s": following,
        "lost": lost + client.lost(),
        "parked_back": table[parked_key].tier == "gold",
    }


async def all_in_pause(count, how):
    """The ways without a window: everything while calls wait."""
    table = build(count)
    gc.collect()
    begin = clock()
    if how == "pause_copy":
        new = {key: up(old) for key, old in table.items()}
    elif how == "deepcopy":
        new = {key: up(old) for key, old in copy.deepcopy(dict(table)).items()}
    else:
        new = {key: up(old) for key, old in pickle.loads(pickle.dumps(dict(table), 5)).items()}
    pause = clock() - begin
    return {"pause_ms": pause * 1e3, "lost": len(table) - len(new)}


def median(runs):
    """The median of each number over the runs, with least and greatest of the pause."""
    first = runs[0]
    joined = {}
    for name, value in first.items():
        values = [run[name] for run in runs if name in run]
        if isinstance(value, dict):
            joined[name] = median(values)
        elif isinstance(value, bool | str):
            joined[name] = value if all(other == value for other in values) else values
        else:
            joined[name] = round(statistics.median(values), 3)
            if name in ("pause_ms", "max_ms", "worst_over_before_ms"):
                joined[f"{name}_worst"] = round(max(values), 3)
            if name == "lost":
                joined[name] = sum(values)
    return joined


def alone(case, *arguments):
    """Run a case in a process of its own: memory that another case freed would hide its growth."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(in_loop, (case, arguments))


def in_loop(case, arguments):
    return asyncio.run(globals()[case](*arguments))


def report(case, records, runs, **more):
    line = {"case": case, "records": records, "repeats": len(runs), **more, **median(runs)}
    line["load"] = [round(value, 2) for value in os.getloadavg()]
    print(json.dumps(line), flush=True)
    return line.get("pause_ms", 0.0)


def report_ratios(records, pauses):
    """How many times a window's pause the other ways take, in this very run."""
    ratios = {
        how: round(pauses[how] / pauses["window"], 1)
        for how in ("pause_copy", "deepcopy", "pickle")
        if how in pauses and pauses.get("window")
    }
    if ratios:
        print(json.dumps({"case": "ratios to window", "records": records, **ratios}), flush=True)


def main():
    parser = argparse.ArgumentParser(description="Measure table reloads")
    parser.add_argument("--quick", action="store_true", help="small tables, two repeats")
    parser.add_argument("--repeats", type=int, default=None)
    parser.add_argument("--rate", type=int, default=10_000)
    parser.add_argument("--records", type=int, nargs="*", default=None)
    parser.add_argument("--only", choices=["window", "lazy", "pause", "rollback"], default=None)
    parser.add_argument("--clock", choices=sorted(CLOCKS), default="wall")
    options = parser.parse_args()
    os.environ["BENCH_CLOCK"] = options.clock  # for the processes of the cases
    repeats = options.repeats or (2 if options.quick else 5)
    sizes = options.records or (
        [10_000, 100_000] if options.quick else [10_000, 100_000, 1_000_000]
    )
    machine = {
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "clock": options.clock,
    }
    windows = {}
    print(json.dumps({"case": "machine", **machine, "load": os.getloadavg()}), flush=True)
    rate = options.rate
    for count in sizes:
        pauses = {}
        for case in ("window", "lazy"):
            if options.only in (None, case):
                runs = [alone(case, count, rate) for _ in range(repeats)]
                pauses[case] = report(case, count, runs, rate=rate)
        if options.only in (None, "pause"):
            for how in ("pause_copy", "deepcopy", "pickle"):
                runs = [alone("all_in_pause", count, how) for _ in range(repeats)]
                pauses[how] = report(how, count, runs)
        if options.only in (None, "rollback"):
            writes = 10_000 if options.quick else 100_000
            runs = [alone("rollback", count, writes) for _ in range(repeats)]
            report("rollback", count, runs)
        report_ratios(count, pauses)
        if "window" in pauses:
            windows[count] = pauses["window"]
    if len(windows) > 1:
        grown = round(windows[max(windows)] / windows[min(windows)], 2)
        line = {"case": "pause, largest over smallest", "sizes": sorted(windows), "ratio": grown}
        print(json.dumps(line), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
