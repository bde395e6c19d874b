"""A host with one or three stores, callers and senders with their own account, and one trial."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import msgspec

from replank.code import loader
from replank.config import Config, ReloadConfig
from replank.host import Host
from replank.instrumentation.events import PhaseEvent, Warned
from replank.report import ReloadReport
from replank.testing.faults import DiskFaults
from tests.faults import hooks, stores

NAMES = ("alpha", "beta", "gamma")
# Counting calls with a profiler is slow: the predicted pause must not refuse it.
QUICK = ReloadConfig(probe=False, max_pause_s=60.0, leak_check_s=0.0)
CALLERS = 3
PACE_S = 0.001
"""Between two calls of one caller: every phase meets some, and the state stays small."""


def victim(modules: int) -> str:
    """Return the module that has the fault: the second of three, so that one is done before it."""
    return NAMES[min(modules, 2) - 1]


@dataclass
class Account:
    """What the callers know."""

    answered: dict[str, list[tuple[str, int]]] = field(default_factory=dict)
    """By module that has executed it: what was answered, in order of the answers."""
    sent: dict[str, list[tuple[str, int]]] = field(default_factory=dict)
    """By module: accepted messages."""
    gave_up: set[tuple[str, int]] = field(default_factory=set)
    labels: list[str] = field(default_factory=list)
    """What each call was answered with: one label, or several when it saw two versions."""
    errors: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Interpreter:
    """What a reload must leave as it was."""

    tasks: dict[str, int]
    threads: frozenset[str]
    collecting: bool
    frozen: int
    switch_s: float
    listeners: int

    @classmethod
    def now(cls, host: Host) -> Interpreter:
        tasks = Counter(task.get_name() for task in asyncio.all_tasks())
        tasks.pop(asyncio.current_task().get_name(), None)
        for name in [name for name in tasks if name.startswith("watch ")]:
            del tasks[name]  # a version on probation is looked at
        return cls(
            dict(tasks),
            frozenset(t.name for t in threading.enumerate() if not t.name.startswith("asyncio_")),
            gc.isenabled(),
            gc.get_freeze_count(),
            sys.getswitchinterval(),
            len(host.bus._listeners),
        )


async def threads_at_rest() -> None:
    """Wait for the watchdog's thread, which ends by itself, and for workers to be idle."""
    watchdogs = [t for t in threading.enumerate() if t.name == "replank watchdog"]
    for thread in watchdogs:
        await asyncio.to_thread(thread.join, 5)
    for _ in range(1000):
        if not busy_workers():
            return
        await asyncio.sleep(0.001)


def busy_workers() -> list[str]:
    frames = sys._current_frames()
    workers = [t for t in threading.enumerate() if t.name.startswith("asyncio_")]
    return [
        f"{t.name} in {frames[t.ident].f_code.co_name}"
        for t in workers
        if t.ident in frames and frames[t.ident].f_code.co_name != "_worker"
    ]


def forget_leaked() -> list[str]:
    """Unload what an earlier trial has leaked; return its private names."""
    leaked = [name for name in loader._finder.trees if name.partition("@")[0] in NAMES]
    for name in leaked:
        loader._forget(loader._finder.trees[name])
    return leaked


class Rig:
    """One trial: a host that serves, load, a reload that is to fail, and what is to be compared.

    Args:
        folder: To work in.
        modules: 1 or 3.
        config: Deadlines.
    """

    def __init__(self, folder: Path, modules: int = 1, config: ReloadConfig = QUICK) -> None:
        self.folder = folder
        self.names = NAMES[:modules]
        self.victim = victim(modules)
        self.account = Account()
        self.warnings: list[str] = []
        self.disk = DiskFaults(folder / "data")
        self.config = config
        self._exits = AsyncExitStack()
        self._load: list[asyncio.Task[None]] = []
        self._ending = False
        self._number = 0
        hooks.noted.clear()
        forget_leaked()

    @property
    def sources(self) -> dict[str, Path]:
        return {name: self.folder / f"{name}.py" for name in self.names}

    def write(self, label: str, *, schema: int = 1, **fault: object) -> None:
        """Write one version of every module; the fault goes into the victim's."""
        for index, name in enumerate(self.names):
            options = fault if name == self.victim else {"on_start": fault.get("on_start", True)}
            uses = self.names[index - 1] if index else ""
            stores.write(self.sources[name], label, schema=schema, uses=uses, **options)

    async def __aenter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.write("1")
        self._exits.enter_context(self.disk)
        config = Config(reload=self.config)
        self.host = Host(self.sources, data_dir=self.folder / "data", config=config)
        self.host.subscribe(
            lambda event: self.warnings.append(event.text) if isinstance(event, Warned) else None
        )
        await self._exits.enter_async_context(self.host)
        for name in self.names:
            await self._call(name, "before")
        await threads_at_rest()
        self.before = Interpreter.now(self.host)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._ending = True
        for task in self._load:
            task.cancel()
        await asyncio.gather(*self._load, return_exceptions=True)
        await self._exits.aclose()

    # -- load ---------------------------------------------------------------------------------

    async def reload(self, on_phase: Callable[[PhaseEvent], None] | None = None) -> ReloadReport:
        """Reload all modules under load; what came in the meantime is answered on return."""
        for name in self.names:
            self._load += [
                asyncio.create_task(self._caller(name, f"{name}-{index}"), name="load")
                for index in range(CALLERS)
            ]
            self._load.append(asyncio.create_task(self._sender(name), name="load"))
            self._load.append(asyncio.create_task(self._impatient(name), name="load"))
        try:
            return await self.host.reload(self.names, on_phase=on_phase)
        finally:
            self._ending = True
            await asyncio.wait_for(asyncio.gather(*self._load), 10)
            self._ending = False
            self._load.clear()
            await self.settled()

    async def settled(self) -> None:
        """Return when every accepted message is handled and every old generation is gone."""
        async with asyncio.timeout(10):
            for name in self.names:
                inbox = self.host._routes.slot(name).inbox
                while inbox.queued:
                    await asyncio.sleep(0)
            while self.host._coordinator.retirement.leaving:
                await asyncio.sleep(0)

    def relax(self) -> None:
        """Go back to generous deadlines, for what is to succeed."""
        config = msgspec.structs.replace(self.host.config, reload=QUICK)
        self.host._coordinator.config = config
        self.host._workshop.config = QUICK

    async def _call(self, name: str, caller: str) -> None:
        self._number += 1
        key = (caller, self._number)
        answer = await self.host[name].relay(*key)
        self.account.labels.append(answer)
        for one in self.names[: self.names.index(name) + 1]:
            self.account.answered.setdefault(one, []).append(key)

    async def _caller(self, name: str, caller: str) -> None:
        while not self._ending:
            try:
                await self._call(name, caller)
            except Exception as error:
                self.account.errors.append(repr(error))
                return
            await asyncio.sleep(PACE_S)

    async def _sender(self, name: str) -> None:
        while not self._ending:
            self._number += 1
            key = (f"sender of {name}", self._number)
            await self.host[name].send.add(*key)
            self.account.sent.setdefault(name, []).append(key)
            await asyncio.sleep(PACE_S)

    async def _impatient(self, name: str) -> None:
        """Call and give up at once: what has not begun by then must never be executed."""
        while not self._ending:
            self._number += 1
            key = (f"impatient of {name}", self._number)
            try:
                async with asyncio.timeout(0):
                    await self.host[name].add(*key)
                self.account.answered.setdefault(name, []).append(key)
            except TimeoutError:
                self.account.gave_up.add(key)
            await asyncio.sleep(PACE_S)
