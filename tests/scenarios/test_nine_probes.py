"""The nine probes in which Erlang fails: old version serving, state and queue intact, reason told."""

from __future__ import annotations

import asyncio
import textwrap
from pathlib import Path

import pytest

from replank import Host, Outcome
from replank.config import Config, ModuleConfig, ReloadConfig
from replank.instrumentation.events import PhaseEvent, PhaseStarted

TEXT = """
import asyncio, time
from replank import Module, Record, Table, add, rename, step

def in_pause():
    return not __replank_lane__.gate.is_open

def up(old):
    {up}
    return old

class Account(Record):
    {cents}: int = 0

class Bank(Module, version="{label}", schema={schema}):
    accounts: Table[str, Account]
    seen: list[int] = []
    {migrations}

    async def deposit(self, owner: str, cents: int) -> str:
        account = self.accounts.setdefault(owner, Account())
        account.{cents} += cents
        return "{label}"

    async def note(self, number: int) -> str:
        self.seen.append(number)
        await asyncio.sleep({pace})
        return "{label}"

    async def hold(self, until) -> str:
        await until.wait()
        return "{label}"

    async def read(self) -> dict:
        accounts = {{owner: one.{cents} for owner, one in self.accounts.items()}}
        return {{"label": "{label}", "accounts": accounts, "seen": list(self.seen)}}

    {more}
"""
STEP = 'migrations = [step(1, 2, rename("accounts.*.cents", "amount"))]'
FUNCTION = "migrations = [step(1, 2, up)]"
QUICK = ReloadConfig(probe=False)


def write(path: Path, label: str, *, schema: int = 1, cents: str = "", **more: str) -> Path:
    parts = {"up": "pass", "migrations": "", "more": "", "pace": "0"} | more
    cents = cents or ("cents" if schema == 1 else "amount")
    text = TEXT.format(label=label, schema=schema, cents=cents, **parts)
    path.write_text(textwrap.dedent(text))
    return path


def config(limits: ReloadConfig = QUICK, **module: object) -> Config:
    return Config(reload=limits, modules={"bank": ModuleConfig(source="unused", **module)})


class Bank:
    """A host with one bank and some money in it."""

    def __init__(self, folder: Path, limits: ReloadConfig = QUICK, **module: object) -> None:
        self.source = write(folder / "bank.py", "1")
        module_config = ModuleConfig(source=str(self.source), **module)
        self.host = Host(
            data_dir=folder / "data", config=Config(reload=limits, modules={"bank": module_config})
        )

    async def __aenter__(self):
        await self.host.start()
        self.bank = self.host["bank"]
        await self.bank.deposit("ada", 5)
        return self

    async def __aexit__(self, *_):
        await self.host.stop()

    async def queue(self, count: int) -> None:
        for number in range(count):
            await self.bank.send.note(number)

    async def emptied(self) -> None:
        async with asyncio.timeout(20):
            while self.host.status().modules[0].messages_queued:
                await asyncio.sleep(0)

    async def is_as_before(self, report, outcome: Outcome, phase: str, kind: str, messages: int):
        """The end that each probe must have."""
        assert report.outcome is outcome, report.error
        assert (report.error.phase, report.error.kind) == (phase, kind)
        assert report.error.found and report.error.do
        assert report.error.serves == "bank 1 (generation 1)"
        assert report.error.undo_errors == ()
        assert await self.bank.deposit("ada", 0) == "1"
        await self.emptied()
        state = await self.bank.read()
        assert state["accounts"]["ada"] == 5
        assert state["seen"] == list(range(messages))
        write(self.source, "9", schema=2, migrations=STEP)
        assert (await self.host.reload("bank")).outcome is Outcome.COMMITTED
        assert (await self.bank.read())["accounts"]["ada"] == 5


@pytest.mark.parametrize("where", ["window", "pause"])
async def test_1_a_migration_that_raises(where: str, tmp_path: Path) -> None:
    async with Bank(tmp_path) as bank:
        condition = "in_pause()" if where == "pause" else "True"
        up = f"if {condition}: raise ValueError('bad row')"
        write(bank.source, "2", schema=2, cents="cents", up=up, migrations=FUNCTION)
        await bank.queue(100)
        report = await bank.host.reload("bank")
        outcome = Outcome.REJECTED if where == "window" else Outcome.ROLLED_BACK
        await bank.is_as_before(report, outcome, "migrate", "MigrationError", 100)
        assert "bad row" in report.error.message


@pytest.mark.parametrize("how", ["while in_pause() or True: pass", "time.sleep(60)"])
async def test_2_a_migration_that_is_slower_than_its_timeout(how: str, tmp_path: Path) -> None:
    limits = ReloadConfig(probe=False, migrate_timeout_s=0.2)
    async with Bank(tmp_path, limits) as bank:
        write(bank.source, "2", schema=2, cents="cents", up=how, migrations=FUNCTION)
        await bank.queue(100)
        report = await bank.host.reload("bank")
        bank.host._coordinator.config = config()
        await bank.is_as_before(report, Outcome.REJECTED, "migrate", "PhaseTimeout", 100)


async def test_3_a_migration_that_was_forgotten(tmp_path: Path) -> None:
    async with Bank(tmp_path) as bank:
        write(bank.source, "2", schema=2)
        await bank.queue(100)
        report = await bank.host.reload("bank")
        await bank.is_as_before(report, Outcome.REJECTED, "prepare", "SchemaError", 100)
        assert "step(1, 2" in (report.error.do or "")


async def test_4_a_module_that_is_busy_longer_than_the_drain_deadline(tmp_path: Path) -> None:
    limits = ReloadConfig(probe=False, drain_timeout_s=0.2)
    async with Bank(tmp_path, limits) as bank:
        until = asyncio.Event()
        holding = asyncio.create_task(bank.bank.hold(until))
        await asyncio.sleep(0)
        write(bank.source, "2", schema=2, migrations=STEP)
        await bank.queue(100)
        report = await bank.host.reload("bank")
        until.set()
        assert await holding == "1"
        assert "bank.hold" in (report.error.found or "")
        await bank.is_as_before(report, Outcome.ROLLED_BACK, "drain", "PhaseTimeout", 100)


@pytest.mark.parametrize("size", [10, 5_000])
@pytest.mark.parametrize("good", [True, False])
async def test_5_an_instance_that_is_created_inside_the_reload_window(
    size: int, good: bool, tmp_path: Path
) -> None:
    async with Bank(tmp_path) as bank:
        for number in range(size):
            await bank.bank.deposit(f"owner {number}", number)
        more = "" if good else "async def on_start(self): raise OSError('port in use')"
        write(bank.source, "2", schema=2, migrations=STEP, more=more)
        created: dict[str, int] = {}
        tasks: list[asyncio.Task[str]] = []

        def create(event: PhaseEvent) -> None:
            if isinstance(event, PhaseStarted):
                owner = f"created in {event.phase} in the {event.where}"
                created[owner] = len(created) + 1
                tasks.append(asyncio.create_task(bank.bank.deposit(owner, created[owner])))

        report = await bank.host.reload("bank", on_phase=create)
        await asyncio.gather(*tasks)
        assert report.outcome is (Outcome.COMMITTED if good else Outcome.ROLLED_BACK), report.error
        state = await bank.bank.read()
        assert state["label"] == ("2" if good else "1")
        assert len(created) >= 5
        assert {owner: state["accounts"].get(owner) for owner in created} == created
        assert len(state["accounts"]) == size + 1 + len(created)
        if not good:
            await bank.is_as_before(report, Outcome.ROLLED_BACK, "restore", "ModuleError", 0)


async def test_6_a_caller_that_times_out_during_the_pause_is_never_executed(
    tmp_path: Path,
) -> None:
    async with Bank(tmp_path) as bank:
        until = asyncio.Event()
        holding = asyncio.create_task(bank.bank.hold(until))
        await asyncio.sleep(0)
        write(bank.source, "2", schema=2, migrations=STEP)
        ticket = bank.host.reload("bank")
        while bank.host.status().modules[0].gate == "open":
            await asyncio.sleep(0)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await bank.bank.deposit("late", 1)
        patient = asyncio.create_task(bank.bank.deposit("patient", 1))
        await asyncio.sleep(0)
        until.set()
        assert await holding == "1"
        assert (await ticket).outcome is Outcome.COMMITTED
        assert await patient == "2"
        assert (await bank.bank.read())["accounts"] == {"ada": 5, "patient": 1}


async def test_7_the_second_module_of_two_fails(tmp_path: Path) -> None:
    sources = {name: write(tmp_path / f"{name}.py", "1") for name in ("first", "second")}
    async with Host(sources, data_dir=tmp_path / "data", config=Config(reload=QUICK)) as host:
        await host["first"].deposit("ada", 5)
        for number in range(100):
            await host["second"].send.note(number)
        write(sources["first"], "2", schema=2, migrations=STEP)
        more = "async def on_start(self): raise OSError('port in use')"
        write(sources["second"], "2", schema=2, migrations=STEP, more=more)
        report = await host.reload(["first", "second"])
        assert report.outcome is Outcome.ROLLED_BACK
        assert report.error is not None
        assert (report.error.phase, report.error.module) == ("restore", "second")
        assert await host["first"].deposit("ada", 1) == "1"
        assert (await host["first"].read())["accounts"] == {"ada": 6}
        while len((await host["second"].read())["seen"]) < 100:
            await asyncio.sleep(0)
        assert (await host["second"].read())["seen"] == list(range(100))
        assert {one.label for one in host.status().modules} == {"1"}


async def test_8_a_third_version_arrives_while_the_first_is_still_held(tmp_path: Path) -> None:
    """A call of the first version runs on, is answered by it, and cannot change what serves."""
    limits = ReloadConfig(probe=False, drain_timeout_s=0.1)
    async with Bank(tmp_path, limits, drain_policy="detach") as bank:
        until = asyncio.Event()
        holding = asyncio.create_task(bank.bank.hold(until))
        await asyncio.sleep(0)
        for label in ("2", "3"):
            write(bank.source, label)
            report = await bank.host.reload("bank")
            assert report.outcome is Outcome.COMMITTED, report.error
            assert await bank.bank.deposit("ada", 1) == label
        assert not holding.done()
        until.set()
        assert await holding == "1"
        assert (await bank.bank.read())["accounts"] == {"ada": 7}


async def test_8_a_third_version_arrives_while_the_second_waits_for_the_first(
    tmp_path: Path,
) -> None:
    async with Bank(tmp_path) as bank:
        until = asyncio.Event()
        holding = asyncio.create_task(bank.bank.hold(until))
        await asyncio.sleep(0)
        write(bank.source, "2")
        second = bank.host.reload("bank")
        while bank.host.status().modules[0].gate == "open":
            await asyncio.sleep(0)
        write(bank.source, "3")
        third = bank.host.reload("bank")
        waiting = asyncio.create_task(bank.bank.deposit("ada", 1))
        await asyncio.sleep(0)
        until.set()
        assert await holding == "1"
        assert [(await one).outcome for one in (second, third)] == [Outcome.COMMITTED] * 2
        assert await waiting == "2"
        assert await bank.bank.deposit("ada", 1) == "3"
        assert (await bank.bank.read())["accounts"] == {"ada": 7}


async def test_9_a_rollback_by_command_with_a_thousand_messages_queued(tmp_path: Path) -> None:
    async with Bank(tmp_path) as bank:
        # Slow enough that nearly all of them are queued still when the gate closes.
        write(bank.source, "2", schema=2, migrations=STEP, pace="0.001")
        assert (await bank.host.reload("bank")).outcome is Outcome.COMMITTED
        await bank.bank.deposit("ada", 1)
        await bank.queue(1_000)
        report = await bank.host.rollback("bank")
        assert report.outcome is Outcome.COMMITTED, report.error
        assert report.messages_held > 500
        assert await bank.bank.deposit("ada", 1) == "1"
        await bank.emptied()
        state = await bank.bank.read()
        assert state["seen"] == list(range(1_000))
        assert state["accounts"]["ada"] == 7
        # A millisecond on an idle machine; the queue must not count, however loaded this one is.
        assert report.closed_s < 0.25
