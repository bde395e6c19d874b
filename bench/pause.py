"""Pause, rollback and memory by size of the state and by writes: `python -m bench.pause`.

A whole host with one module whose table holds so many records. An open-loop client calls it on a
fixed timetable, each call a write: call i is due at i / rate and its latency counts from then, so a
stall is felt by all that came due. The module is reloaded to a state of another shape (a field
renamed, one converted, one added; every record migrated), then rolled back with the writes since.

One JSON line for each size (`case` size) at `--rate`, and for each rate (`case` writes) at
`--at`: the pause as the report tells it, the longest wait of a call meanwhile beside the longest in
the same run before any reload, how long after the commit a rollback was taken, lost writes, and
what the process held before, at most, and after.
Each runs in a process of its own: memory that another freed would hide the growth. Not shown:
sockets; several cores: client and host share one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

from replank.config import Config, ModuleConfig, ReloadConfig
from replank.host import Host
from replank.memory import resident_bytes
from replank.report import Outcome, ReloadReport

V1 = """
from replank import Module, Record, Table, query

class Account(Record):
    id: int
    name: str
    balance: float
    visits: int

class Ledger(Module, version="1", schema=1):
    accounts: Table[str, Account]

    async def open(self, first: int, last: int) -> None:
        for i in range(first, last):
            self.accounts[f"k{i:07d}"] = Account(i, f"user-{i}", i * 0.25, 0)

    async def visit(self, key: str) -> None:
        self.accounts[key].visits += 1

    @query
    async def visits(self) -> int:
        return sum(one.visits for one in self.accounts.values())
"""
STEPS = """    migrations = [
        step(
            1,
            2,
            rename("accounts.*.name", "holder"),
            convert("accounts.*.balance", lambda x: round(x * 100), lambda n: n / 100),
            add("accounts.*.tier", default="basic"),
        )
    ]
"""
V2 = (
    V1.replace(
        "import Module, Record, Table, query",
        "import Module, Record, Table, add, convert, query, rename, step",
    )
    .replace("name: str", "holder: str")
    .replace("balance: float", "balance: int")
    .replace("    visits: int\n", '    visits: int\n    tier: str = "basic"\n')
    .replace('version="1", schema=1', 'version="2", schema=2')
    .replace("    accounts: Table[str, Account]\n", "    accounts: Table[str, Account]\n" + STEPS)
)
SIZES = (10_000, 100_000, 1_000_000, 3_000_000)
RATES = (1_000, 5_000, 10_000, 20_000)
ROLLED_BACK_MAX = 1_000_000
"""Records; a larger state is reloaded only: it would take a third of a full run's time."""
ROLLBACK_LIMIT_S = 120.0
BATCH = 2_000
"""Records made in one call: the start must not look like a stall."""


class Client:
    """Writes on a timetable, and what each waited."""

    def __init__(self, ledger, records: int, rate: int) -> None:
        self.ledger, self.records, self.rate = ledger, records, rate
        self.latencies: list[float] = []
        self.number, self.failed, self.running = 0, 0, True
        self.behind_s = 0.0

    async def run(self) -> None:
        step, due = 1 / self.rate, perf_counter()
        while self.running:
            now = perf_counter()
            while due <= now and self.running:
                self.number += 1
                try:
                    await self.ledger.visit(f"k{self.number * 7919 % self.records:07d}")
                except Exception:
                    self.failed += 1
                now = perf_counter()
                self.latencies.append(now - due)
                due += step
            await asyncio.sleep(0)

    def take(self) -> dict[str, float]:
        """Return what the calls since the last time waited, in milliseconds."""
        found, self.latencies = sorted(self.latencies), []
        if not found:
            return {"p50_ms": 0.0, "p99_ms": 0.0, "max_ms": 0.0}
        parts = {"p50_ms": 0.5, "p99_ms": 0.99, "max_ms": 1.0}
        return {name: ms(found[int((len(found) - 1) * part)]) for name, part in parts.items()}


def ms(seconds: float) -> float:
    return round(seconds * 1e3, 3)


class Memory:
    """The most that the process held: looked at every few milliseconds."""

    def __init__(self) -> None:
        self.most = resident_bytes()

    async def run(self) -> None:
        while True:
            self.most = max(self.most, resident_bytes())
            await asyncio.sleep(0.02)


async def measure(records: int, rate: int, quiet_s: float, *, probe: bool = True) -> dict:
    """Reload and roll back one state of a size under one rate of writes.

    Args:
        records: In the table.
        rate: Writes a second.
        quiet_s: Seconds under load before anything is reloaded.
        probe: Try the candidate in a child first, as by default.
    """
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "v1.py").write_text(V1)
        (folder / "v2.py").write_text(V2)
        config = Config(
            modules={"ledger": ModuleConfig(source=folder / "v1.py")},
            reload=ReloadConfig(probe=probe),
            data_dir=folder / "data",
        )
        empty = resident_bytes()
        async with Host(config=config) as host:
            ledger = host["ledger"]
            for first in range(0, records, BATCH):
                await ledger.open(first, min(first + BATCH, records))
            held = resident_bytes()
            client = Client(ledger, records, rate)
            running = asyncio.create_task(client.run())
            await asyncio.sleep(quiet_s)
            client.take()
            await asyncio.sleep(quiet_s)
            quiet, memory = client.take(), Memory()
            watching = asyncio.create_task(memory.run())
            report = await host.reload({"ledger": folder / "v2.py"})
            report.raise_for_outcome()
            await asyncio.sleep(quiet_s)
            during, after = client.take(), resident_bytes()
            committed = perf_counter() - quiet_s
            facts: dict[str, float] = {}
            if records <= ROLLED_BACK_MAX:
                back = await rolled_back(host)
                facts = {
                    "rollback_pause_ms": ms(back.pause_s),
                    "rollback_s": round(back.total_s, 2),
                    "rollback_ready_s": round(perf_counter() - committed - back.total_s, 1),
                    "longest_wait_rollback_ms": client.take()["max_ms"],
                }
            watching.cancel()
            client.running = False
            await running
            lost = client.number - client.failed - await ledger.visits()
            settled = resident_bytes()
    return {
        "python": platform.python_version(),
        "load_1min": [round(load_before, 2), round(os.getloadavg()[0], 2)],
        "records": records,
        "writes_per_s": rate,
        "pause_ms": ms(report.pause_s),
        "reload_s": round(report.total_s, 2),
        **facts,
        "longest_wait_quiet_ms": quiet["max_ms"],
        "longest_wait_ms": during["max_ms"],
        "p99_quiet_ms": quiet["p99_ms"],
        "p99_ms": during["p99_ms"],
        "writes": client.number,
        "failed": client.failed,
        "lost": lost,
        "state_mb": mb(held - empty),
        "held_before_mb": mb(held),
        "held_at_most_mb": mb(memory.most),
        "held_after_reload_mb": mb(after),
        "held_at_end_mb": mb(settled),
    }


async def rolled_back(host: Host) -> ReloadReport:
    """Roll back as soon as it can be: until a large table is one again, it is rejected."""
    async with asyncio.timeout(ROLLBACK_LIMIT_S):
        while True:
            report = await host.rollback("ledger")
            if report.outcome is not Outcome.REJECTED:
                report.raise_for_outcome()
                return report
            await asyncio.sleep(0.1)


def mb(size: int) -> float:
    return round(size / 1e6, 1)


def alone(case: str, records: int, rate: int, options: argparse.Namespace) -> bool:
    """Measure once in a process of its own and print its line; returns whether it went well."""
    command = [sys.executable, "-m", "bench.pause", "--one", case, "--records", str(records)]
    command += ["--rates", str(rate), "--seconds", str(options.seconds)]
    done = subprocess.run(
        command + ["--no-probe"] * options.no_probe, capture_output=True, text=True, check=False
    )
    print(done.stdout, end="", flush=True)
    if done.returncode:
        print(f"{records} records, {rate} a second: {done.stderr[-400:]}", file=sys.stderr)
    return not done.returncode


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, nargs="*", default=list(SIZES))
    parser.add_argument("--rate", type=int, default=2_000, help="writes a second for the sizes")
    parser.add_argument("--rates", type=int, nargs="*", default=list(RATES))
    parser.add_argument("--at", type=int, help="records for the rates; the second size")
    parser.add_argument("--seconds", type=float, default=2.0, help="of quiet before a reload")
    parser.add_argument("--no-probe", action="store_true")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        found = measure(
            options.records[0], options.rates[0], options.seconds, probe=not options.no_probe
        )
        row = asyncio.run(found)
        print(json.dumps({"case": options.one, **row}), flush=True)
        return 1 if row["lost"] or row["failed"] else 0
    good = [alone("size", size, options.rate, options) for size in options.records]
    at = options.at or options.records[min(1, len(options.records) - 1)]
    good += [alone("writes", at, rate, options) for rate in options.rates]
    return 0 if all(good) else 1


if __name__ == "__main__":
    raise SystemExit(main())
