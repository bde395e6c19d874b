"""A host that lives until it is killed, and the one after it; and the nursery both come from.

`python -m tests.faults.crash_lives` reads one order a line from its standard input and forks a
process for each, so that Python starts once. What a life says goes straight into the pipe and
outlives it: `S` a step begins, `D` it is done, `R` the result of an examination.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

from replank.config import Config, ReloadConfig
from replank.host import Host
from replank.instrumentation.events import Warned
from replank.testing.faults import DiskFaults, When
from tests.faults import stores

NAMES = ("alpha", "beta")
CONFIG = Config(reload=ReloadConfig(probe=False, probation_s=0.0))


class Order(msgspec.Struct):
    """What one process is to do."""

    folder: str
    die_at: int = 0
    """The operation at which it is killed; 0 for none."""
    when: When = "before"
    examine: bool = False
    """Start again, look, reload once more, and stop."""


class Facts(msgspec.Struct):
    """What an examination found."""

    labels: dict[str, str] = {}
    amounts: dict[str, int] = {}
    consistent: bool = True
    history: list[tuple[str, str, list[str]]] = []
    """(id, outcome, modules), newest first."""
    warnings: list[str] = []
    litter: list[str] = []
    next_reload: str = ""
    amounts_after: dict[str, int] = {}
    error: str = ""


def say(kind: str, text: str) -> None:
    os.write(1, f"{kind} {text}\n".encode())


def sources(folder: Path) -> dict[str, Path]:
    return {name: folder / f"{name}.py" for name in NAMES}


def write(folder: Path, label: str, names: tuple[str, ...] = NAMES, **more: Any) -> None:
    for name in names:
        stores.write(sources(folder)[name], label, uses="alpha" if name == "beta" else "", **more)


class Life:
    """One process's host, and the steps it takes; the same in every life."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.host = self._host()
        self.number = 0

    def _host(self) -> Host:
        return Host(sources(self.folder), data_dir=self.folder / "data", config=CONFIG)

    def steps(self) -> list[tuple[str, Callable[[], Awaitable[Any]]]]:
        """Return every step with its name; each is told before it begins and when it is done."""
        return [
            ("start 1 1", self.start),
            ("calls 2", lambda: self.calls(2)),
            ("stop", self.stop),
            ("start again", self.start),
            ("calls 3", lambda: self.calls(3)),
            ("reload alpha 2", lambda: self.reload(("alpha",), "2")),
            ("reload both 3", lambda: self.reload(NAMES, "3", schema=2)),
            (
                "fail 4",
                lambda: self.reload(("beta",), "4", schema=2, place="pause", fault="raises"),
            ),
            ("calls 2", lambda: self.calls(2)),
            ("stop", self.stop),
            ("start again", self.start),
            ("rollback beta", self.rollback),
            ("calls 1", lambda: self.calls(1)),
            ("stop", self.stop),
        ]

    async def run(self) -> None:
        for name, step in self.steps():
            say("S", name)
            await step()
            say("D", name)

    async def start(self) -> None:
        if self.host.status().started_at:
            self.host = self._host()
        else:
            write(self.folder, "1")
        await self.host.start()

    async def calls(self, count: int) -> None:
        for _ in range(count):
            self.number += 1
            await self.host["beta"].relay("caller", self.number)

    async def reload(self, names: tuple[str, ...], label: str, **more: Any) -> None:
        write(self.folder, label, names, **more)
        await self.host.reload(names)

    async def rollback(self) -> None:
        await self.host.rollback("beta")

    async def stop(self) -> None:
        await self.host.stop()


async def live(order: Order) -> None:
    folder = Path(order.folder)
    with DiskFaults(folder / "data") as disk:
        if order.die_at:
            disk.die(order.die_at, when=order.when)
        await Life(folder).run()
        say("R", json.dumps([str(operation) for operation in disk.operations]))


async def examine(order: Order) -> None:
    """Start on what the killed host has left, and look at it as an operator would."""
    folder = Path(order.folder)
    facts = Facts()
    host = Host(sources(folder), data_dir=folder / "data", config=CONFIG)
    host.subscribe(
        lambda event: facts.warnings.append(event.text) if isinstance(event, Warned) else None
    )
    try:
        async with host:
            for name in NAMES:
                state = await host[name].read()
                facts.labels[name] = state["label"]
                facts.amounts[name] = state["amount"]
                facts.consistent &= state["amount"] == len(state["log"])
            facts.history = [
                (one.id, str(one.outcome), sorted(m.name for m in one.modules))
                for one in await host.history(50)
            ]
            facts.litter = sorted(str(path.name) for path in (folder / "data").rglob(".*"))
            write(folder, "9", schema=2)
            report = await host.reload(NAMES)
            facts.next_reload = f"{report.outcome}: {report.error}" if report.error else "committed"
            await host["beta"].relay("later", 1)
            for name in NAMES:
                facts.amounts_after[name] = (await host[name].read())["amount"]
    except Exception as error:
        facts.error = f"{type(error).__name__}: {error}"
    say("R", msgspec.json.encode(facts).decode())


def main() -> None:
    for line in sys.stdin.buffer:
        order = msgspec.json.decode(line, type=Order)
        pid = os.fork()
        if pid == 0:
            try:
                asyncio.run((examine if order.examine else live)(order))
            except BaseException as error:
                say("E", repr(error))
            finally:
                os._exit(0)
        say("P", str(pid))
        _, status = os.waitpid(pid, 0)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        say("X", "killed" if killed else "ended")


if __name__ == "__main__":
    main()
