"""What a large state on the disk costs its callers: `python -m bench.snapshots [--records N]`.

Case 5 of issue B, with a host and its gates. An open-loop client calls a module (request i is due
at i / rate, its latency counts from then) while the state, 300 MB at a million records, is written,
exported, imported and rehearsed by forked children, and read at the next start. The worst request
of each is compared with the worst in the seconds before.

Not shown: sockets; what the children's memory does to a machine that has none left. The client,
the host and a child share two cores here.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

from replank.config import Config, ModuleConfig, ReloadConfig
from replank.host import Host
from replank.memory import resident_bytes
from replank.state import writing

clock = time.perf_counter

V1 = """
from replank import Module, Record, Table, query

class Account(Record):
    id: int
    name: str
    balance: float
    active: bool
    visits: int

class Ledger(Module, version="1", schema=1):
    accounts: Table[str, Account]

    async def open(self, count: int) -> None:
        for i in range(count):
            self.accounts[f"k{i:07d}"] = Account(i, f"user-{i}", i * 0.25, i % 3 == 0, i % 97)

    async def visit(self, key: str) -> None:
        self.accounts[key].visits += 1

    @query
    async def visits(self) -> int:
        return sum(one.visits for one in self.accounts.values())
"""
V2 = V1.replace('version="1", schema=1', 'version="2", schema=2').replace(
    "    accounts: Table[str, Account]\n",
    "    accounts: Table[str, Account]\n"
    '    migrations = [step(1, 2, convert("accounts.*.balance", lambda x: round(x * 100),'
    " lambda n: n / 100))]\n",
    1,
)
V2 = V2.replace("balance: float", "balance: int").replace(
    "Table, query", "Table, convert, query, step"
)


class Client:
    """Calls on a timetable, and what each waited."""

    def __init__(self, ledger, count, rate):
        self.ledger, self.count, self.rate = ledger, count, rate
        self.latencies, self.number, self.running = [], 0, True
        self.worst_at = 0.0

    async def run(self):
        step, due = 1 / self.rate, clock()
        while self.running:
            now = clock()
            while due <= now:
                self.number += 1
                await self.ledger.visit(f"k{self.number * 7919 % self.count:07d}")
                now = clock()
                self.latencies.append(now - due)
                due += step
            await asyncio.sleep(0)

    def take(self):
        latencies, self.latencies = sorted(self.latencies), []
        at = lambda part: round(latencies[int((len(latencies) - 1) * part)] * 1e3, 3)  # noqa: E731
        return {"requests": len(latencies), "p50_ms": at(0.5), "p99_ms": at(0.99), "max_ms": at(1)}


async def timed(name, client, work, seconds):
    """Measure the seconds before and the time of some work."""
    await asyncio.sleep(seconds)
    before = client.take()
    began = clock()
    more = await work() or {}
    line = {"case": name, "seconds": round(clock() - began, 2), "before": before}
    line |= {"during": client.take(), **more}
    line["worst_over_before_ms"] = round(line["during"]["max_ms"] - before["max_ms"], 2)
    say(line)


def say(line):
    line["rss_mb"] = round(resident_bytes() / 1e6)
    line["load"] = [round(one, 2) for one in os.getloadavg()]
    print(json.dumps(line), flush=True)


def make_host(folder, v1):
    config = Config(
        modules={"ledger": ModuleConfig(source=str(v1))},
        data_dir=str(folder / "data"),
        reload=ReloadConfig(probe=False),
    )
    return Host(config=config)


async def serve(folder, options):
    v1, v2 = folder / "ledger.py", folder / "v2" / "ledger.py"
    v2.parent.mkdir()
    v1.write_text(V1)
    v2.write_text(V2)
    forks, made = [], writing.Writing.__init__

    def init(one, *args):
        made(one, *args)
        forks.append(one)

    writing.Writing.__init__ = init
    async with make_host(folder, v1) as host:
        ledger = host["ledger"]
        await ledger.open(options.records)
        client = Client(ledger, options.records, options.rate)
        task = asyncio.ensure_future(client.run())
        slot = host._routes.slot("ledger")

        async def snapshot():
            forks.clear()
            await slot.persistence.save("bench")
            return {"fork_ms": round(forks[0].pause_s * 1e3, 2)}

        async def rehearse():
            plan = await host.plan({"ledger": v2}, rehearse=True)
            assert plan.accepted, plan.error
            found = plan.rehearsal
            return {
                "fork_ms": round(found.fork_s * 1e3, 2),
                "records": found.records,
                "window_s": round(found.window_s, 2),
                "grown_mb": round(found.memory_bytes / 1e6),
            }

        async def export():
            documents[:] = [await host.export_state("ledger")]
            return {"document_mb": round(len(documents[0]) / 1e6)}

        async def replace():
            document = documents[0] if documents else await host.export_state("ledger")
            report = await host.import_state("ledger", document)
            return {"pause_ms": round(report.pause_s * 1e3, 2)}

        documents = []
        work = {"snapshot": snapshot, "export": export, "import": replace, "rehearse": rehearse}
        for _ in range(options.repeats):
            for name in options.cases:
                await timed(name, client, work[name], options.seconds)
        client.running = False
        await task
        return await ledger.visits()


async def start_again(folder, visits):
    """The time and the memory of a start with such a state, and that nothing was lost."""
    before = resident_bytes()
    began = clock()
    async with make_host(folder, folder / "ledger.py") as host:
        took = clock() - began
        lost = visits - await host["ledger"].visits()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        facts = {"before_mb": round(before / 1e6), "peak_mb": round(peak), "lost": lost}
        say({"case": "start", "seconds": round(took, 2), **facts})


def main():
    cases = ["snapshot", "export", "import", "rehearse"]
    parser = argparse.ArgumentParser(description="Measure large states on the disk")
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--rate", type=int, default=5_000)
    parser.add_argument("--seconds", type=float, default=2.0, help="of quiet before each case")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cases", nargs="*", default=cases, choices=cases)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        read, write = os.pipe()
        child = os.fork()  # its memory would hide what the second host needs
        if child == 0:
            os.write(write, str(asyncio.run(serve(Path(name), options))).encode())
            os._exit(0)
        os.close(write)
        visits = os.read(read, 100)
        os.waitpid(child, 0)
        asyncio.run(start_again(Path(name), int(visits)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
