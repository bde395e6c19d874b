"""A host whose large state is written while it serves, until it is killed from outside.

`python -m tests.scenarios.large_snapshot_host FOLDER FIRST COUNT` sends numbered messages to a
durable module and says `A number` when one is accepted, `F` when a child has been forked to write
the state, and `S` when a snapshot is on the disk.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

from replank import Host
from replank.config import Config, ModuleConfig, ReloadConfig, StorageConfig
from replank.state import writing

RECORDS = 6_000
SOURCE = """
from replank import Module, Record, Table, query

class Account(Record):
    owner: str
    cents: int = 0

class Ledger(Module, version="1", schema=1):
    accounts: Table[str, Account]
    seen: list[int]
    half: int = 0

    async def open(self, count: int) -> None:
        for n in range(count):
            self.accounts[f"a{n}"] = Account(f"o{n}")

    async def deposit(self, number: int) -> None:
        import asyncio
        self.half += 1
        self.accounts[f"a{number % len(self.accounts)}"].cents += 1
        await asyncio.sleep(0)
        self.seen.append(number)
        self.half -= 1

    @query
    async def account(self) -> list:
        return [self.half, self.seen, sum(one.cents for one in self.accounts.values())]

    @query
    async def size(self) -> int:
        return len(self.accounts)
"""


def say(text: str) -> None:
    os.write(1, f"{text}\n".encode())


def make_host(folder: Path, **module: Any) -> Host:
    source = folder / "ledger.py"
    if not source.exists():
        source.write_text(SOURCE)
    config = Config(
        modules={"ledger": ModuleConfig(source=str(source), **module)},
        data_dir=str(folder / "data"),
        reload=ReloadConfig(probe=False, probation_s=0.0),
        storage=StorageConfig(snapshots_kept=2),
    )
    return Host(config=config)


async def live(folder: Path, first: int, count: int) -> None:
    made = writing.Writing.__init__

    def init(self: Any, *args: Any) -> None:
        made(self, *args)
        say("F")

    writing.Writing.__init__ = init  # type: ignore[method-assign]
    writing.FORK_S_A_BYTE = 0.0  # type: ignore[misc]
    durable = {"durable": True, "persist": "interval", "persist_interval_s": 0.01}
    async with make_host(folder, **durable) as host:
        ledger = host["ledger"]
        if not await ledger.size():
            await ledger.open(RECORDS)
            await host._routes.slot("ledger").persistence.save("opened")
        say("S")
        for number in range(first, first + count):
            await ledger.send.deposit(number)
            say(f"A {number}")


if __name__ == "__main__":
    asyncio.run(live(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
