"""A host that runs nothing: one generation of one module, reloads that end as they are told."""

import asyncio
import os
import types

from replank.errors import UnknownModule, UsageError
from replank.instrumentation.events import Bus, PhaseEnded, PhaseStarted
from replank.instrumentation.recent import RecentEvents
from replank.instrumentation.status import HostStatus, ModuleStatus
from replank.live_config import ConfigReport
from replank.reading import read_definition
from replank.report import (
    ErrorReport,
    ModulePlan,
    ModuleReport,
    Outcome,
    Phase,
    PhaseReport,
    Plan,
    ReloadReport,
)
from replank.report_state import ReadmissionReport

LEDGER = """
import asyncio
import dataclasses
import datetime as dt
from collections.abc import AsyncIterator
from decimal import Decimal

from replank.module import Module
from replank.record import Record


class Account(Record):
    owner: str
    cents: int = 0


@dataclasses.dataclass
class Order:
    owner: str
    day: dt.date


class Overdrawn(Exception):
    pass


class Ledger(Module, version="1.0", schema=1):
    total: int = 0

    async def deposit(self, owner: str, cents: int = 1) -> int:
        self.total += cents
        return self.total

    async def total_now(self) -> int:
        return self.total

    async def place(self, order: Order, note: str | None = None) -> dict:
        return {"type": type(order).__name__, "day": order.day, "note": note}

    async def account(self) -> Account:
        return Account("ada", 5)

    async def price(self) -> Decimal:
        return Decimal("1.10")

    async def odd(self) -> object:
        return object()

    async def overdraw(self) -> None:
        raise Overdrawn("no money in /home/ada/secret/ledger.db")

    async def missing(self) -> None:
        open("/home/ada/secret/none.txt")

    async def leave(self) -> None:
        raise SystemExit(3)

    async def anything(self, *args: int, **kwargs: int) -> list:
        return [list(args), kwargs]

    async def strict(self, a: int, /, b: int, *, c: int) -> list:
        return [a, b, c]

    async def count(self, to: int) -> AsyncIterator[int]:
        for number in range(to):
            if number == 3:
                raise Overdrawn("three")
            yield number

    async def hold(self) -> str:
        self.held.set()
        await self.released.wait()
        return "released"
"""


def load(source, name="ledger"):
    module = types.ModuleType(name)
    module.__file__ = f"{name}.py"
    import sys

    sys.modules[name] = module  # get_type_hints looks there
    try:
        exec(compile(source, module.__file__, "exec"), module.__dict__)
        definition = read_definition(module, name)
    finally:
        del sys.modules[name]
    return module, definition


def report(outcome=Outcome.COMMITTED, tx="r7", name="ledger"):
    error = None
    if outcome is not Outcome.COMMITTED:
        error = ErrorReport(
            phase="verify",
            module=name,
            kind="CheckError",
            message="check books_balance failed",
            location=f"{name}.py:12",
            found="sum 3",
            expected="sum 4",
            serves=f"{name} 1.0 (generation 1)",
            do="correct the migration",
        )
    return ReloadReport(
        id=tx,
        outcome=outcome,
        modules=(
            ModuleReport(
                name=name,
                version_from="1.0",
                version_to="2.0",
                digest_from="sha256:" + "a" * 64,
                digest_to="sha256:" + "b" * 64,
                generation_from=1,
                generation_to=2,
                schema_from=1,
                schema_to=2,
                records_migrated=3,
            ),
        ),
        phases=(
            PhaseReport(name=Phase.PREPARE, seconds=0.03),
            PhaseReport(name=Phase.DRAIN, seconds=0.0002),
        ),
        started_at="2026-01-02T03:04:05.678+00:00",
        pause_s=0.0012,
        total_s=0.045,
        calls_held=4,
        error=error,
    )


class FakeHost:
    def __init__(self):
        self.load()
        self.messages = []
        self.kept = []
        self.recent = RecentEvents(100)
        self.bus = Bus()
        self.subscribe = self.bus.subscribe
        self.reloads = []
        self.outcome = Outcome.COMMITTED
        self.gate = asyncio.Event()
        self.gate.set()

    def load(self):
        _, self._definition = load(LEDGER)
        self.ledger = self._definition.owner()
        self.ledger.total = 0
        self.ledger.held, self.ledger.released = asyncio.Event(), asyncio.Event()

    def __getitem__(self, name):
        return self.ledger

    def names(self):
        return ("ledger",)

    def definition(self, name):
        if name != "ledger":
            raise UnknownModule("no such module")
        return self._definition

    async def call(self, name, method, args, kwargs):
        return await getattr(self.ledger, method)(*args, **kwargs)

    async def call_with(self, name, method, read):
        return await self.call(name, method, *read())

    async def opened(self, name):
        pass

    async def send(self, name, method, args, kwargs):
        self.messages.append((method, args, kwargs))

    def reload(self, what, *, reason="call", on_phase=None, allow_breaking=(), **how):
        self.how = how
        policies = ("priority", "quiet_wait_s", "retries", "when_busy", "expect", "expect_changes")
        choices = {name: value for name, value in how.items() if name not in policies}
        names = list(what)
        if names != ["ledger"]:
            raise UnknownModule("there is no such module", found=str(names), expected="ledger")
        self.reloads.append((what, reason))
        self.allowed, self.choices = list(allow_breaking), choices
        return self._reload(on_phase)

    def rollback(self, name, *, on_phase=None):
        if name == "fresh":
            raise UsageError("there is no version to go back to", module=name)
        return self._reload(on_phase)

    async def _reload(self, on_phase):
        if on_phase is not None:
            on_phase(PhaseStarted(id="r7", phase=Phase.PREPARE, where="window"))
            on_phase(PhaseEnded(id="r7", phase=Phase.PREPARE, where="window", seconds=0.03))
        await self.gate.wait()
        return report(self.outcome)

    async def quarantined(self, name):
        return tuple(self.kept)

    async def take_back(self, name, keys=(), *, discard=False):
        self.taken = (name, list(keys), discard)
        refused = tuple(f"items['{one.key}']: {one.reason}" for one in self.kept)
        return ReadmissionReport(module=name, taken=1, refused=refused)

    async def plan(self, what, *, allow_breaking=(), expect_changes=(), rehearse=False, **choices):
        self.allowed, self.choices = list(allow_breaking), choices
        return Plan(
            modules=(
                ModulePlan(
                    name="ledger",
                    version_from="1.0",
                    version_to="2.0",
                    digest_from="sha256:a",
                    digest_to="sha256:b",
                    generation_from=1,
                    schema_from=1,
                    schema_to=2,
                    schema_changes=("total was renamed to total_cents",),
                    steps=("1 -> 2: rename total to total_cents",),
                    records=3,
                    state_bytes=2048,
                    predicted_pause_s=0.001,
                ),
            )
        )

    async def reload_config(self):
        return ConfigReport(path="replank.toml")

    async def history(self, limit=20, module=None):
        return tuple(report(tx=f"r{number}") for number in range(limit, 0, -1))

    def on_probation(self):
        return ()

    def paused(self):
        return ()

    def status(self):
        return HostStatus(
            pid=os.getpid(),
            data_dir="/data",
            started_at="2026-01-02T03:04:05+00:00",
            modules=(
                ModuleStatus(
                    name="ledger", label="1.0", digest="sha256:" + "a" * 64, generation=1, schema=1
                ),
            ),
        )
