"""A bad version that got through is sent back by itself, with every write, and says why."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console

from replank import Host, Outcome
from replank.cli.app import app
from replank.cli.render_probation import render_probation
from replank.config import Config, HttpConfig, ProbationConfig, ReloadConfig
from replank.control.server import ControlServer
from replank.errors import UsageError
from replank.instrumentation.events import Event, ProbationEnded, ReloadEnded, Warned
from replank.report import CallReport, ProbationReport

BANK = """
import asyncio
from replank import Module, Table, check, query
SEEN = []
class Bank(Module, version="{v}", schema=1):
    balances: Table[str, int]
    paid: int = 0
    async def pay(self, owner: str, cents: int) -> int:
        {fault}
        self.balances[owner] = self.balances.get(owner, 0) + cents
        self.paid += cents
        return self.paid
    @query
    async def total(self) -> int:
        return self.paid
    @check
    async def well(self) -> None:
        {check}
"""
EVERY_20TH = "if self.paid % 20 == 0 and self.paid: self.paid += 1; raise RuntimeError('planted')"
LEAK = "SEEN.append('x' * 1_000 + str(self.paid))"
QUICK = ProbationConfig(look_every_s=0.01, check_every_s=0.02)


def bank(v: str, fault: str = "pass", check: str = "pass") -> str:
    return BANK.format(v=v, fault=fault, check=check)


class Told:
    """What the host tells, and a way to wait for it."""

    def __init__(self, host: Host) -> None:
        self.events: list[Event] = []
        self._news = asyncio.Event()
        host.subscribe(self._note)

    def _note(self, event: Event) -> None:
        self.events.append(event)
        self._news.set()

    async def first(self, kind: type, *, since: int = 0):
        async with asyncio.timeout(20):
            while True:
                for event in self.events[since:]:
                    if isinstance(event, kind):
                        return event
                self._news.clear()
                await self._news.wait()


@asynccontextmanager
async def hosted(folder: Path, mode: str = "eager", probation=QUICK) -> AsyncIterator[Host]:
    source = folder / "bank.py"
    source.write_text(bank("1"))
    config = Config(
        data_dir=str(folder / "data"),
        reload=ReloadConfig(probe=False, probation_s=30.0, windowed_from_records=1),
        probation=probation,
    )
    async with Host({"bank": source}, config=config) as host:
        await host["bank"].pay("ada", 1)
        yield host


async def reloaded(host: Host, folder: Path, text: str):
    (folder / "bank.py").write_text(text)
    report = await host.reload("bank")
    assert report.committed, report.error
    return report


async def pay_until(host: Host, task: asyncio.Task[Event]) -> tuple[int, int]:
    answered = failed = 0
    while not task.done():
        try:
            await host["bank"].pay("ada", 1)
            answered += 1
        except RuntimeError:
            failed += 1
        await asyncio.sleep(0)
    return answered, failed


@pytest.mark.parametrize("mode", ["windowed", "eager"])
async def test_planted_errors_send_the_version_back_with_all_writes(
    tmp_path: Path, mode: str
) -> None:
    async with hosted(tmp_path) as host:
        if mode == "windowed":
            for number in range(50):
                await host["bank"].pay(f"owner-{number}", 0)
        told = Told(host)
        before = await host["bank"].total()
        report = await reloaded(host, tmp_path, bank("2", EVERY_20TH))
        since = len(told.events)
        back = asyncio.create_task(told.first(ReloadEnded, since=since))
        answered, failed = await pay_until(host, back)
        assert back.result().report.outcome is Outcome.COMMITTED, back.result().report.error
        assert "bank.pay failed in" in back.result().report.cause
        assert back.result().report.reason == "rollback"
        assert host.status().modules[0].label == "1"
        # each failed call has counted one, as planted; no write that was answered is missing
        assert await host["bank"].total() == before + answered + failed
        ended = await told.first(ProbationEnded)
        assert ended.report.state == "tripped"
        (written,) = [one for one in await host.history() if one.id == report.id]
        assert written.probation == ended.report


async def test_three_times_the_latency_sends_the_version_back(tmp_path: Path) -> None:
    """The latencies are given, not waited for: 1 ms before, 3 ms after."""
    config = ProbationConfig(look_every_s=0.01, latency_for_s=0.0)
    async with hosted(tmp_path, probation=config) as host:
        told = Told(host)
        await reloaded(host, tmp_path, bank("2"))
        since = len(told.events)
        one = host._routes.slot("bank").probation.participants["bank"]
        for number in range(40):
            one.old.observer.seen["pay"].note(0.001 + number * 1e-6, failed=False)
            one.new.observer.seen["pay"].note(0.003 + number * 1e-6, failed=False)
        ended = await told.first(ReloadEnded, since=since)
        assert "bank.pay takes 3.02 ms (median of 40), before 1.02 ms" in ended.report.cause
        assert host.status().modules[0].label == "1"


async def test_a_slowness_that_does_not_last_is_shown_and_does_not_trip(tmp_path: Path) -> None:
    config = ProbationConfig(look_every_s=0.01, latency_for_s=25.0)
    async with hosted(tmp_path, probation=config) as host:
        await reloaded(host, tmp_path, bank("2"))
        one = host._routes.slot("bank").probation.participants["bank"]
        for _ in range(40):
            one.old.observer.seen["pay"].note(0.001, failed=False)
            one.new.observer.seen["pay"].note(0.003, failed=False)
        for _ in range(5):
            await asyncio.sleep(0.01)
        found = host.probation("bank")
        assert found.state == "watching"
        assert "3.0 times as long" in next(c.slower for c in found.calls if c.call == "pay")


async def test_a_leak_sends_the_version_back_and_names_what_grows(tmp_path: Path) -> None:
    config = ProbationConfig(look_every_s=0.01, leak_budget_bytes=100_000)
    async with hosted(tmp_path, probation=config) as host:
        told = Told(host)
        report = await reloaded(host, tmp_path, bank("2", LEAK))
        back = asyncio.create_task(told.first(ReloadEnded, since=len(told.events)))
        answered, failed = await pay_until(host, back)
        assert failed == 0
        cause = back.result().report.cause
        assert "bank: global SEEN (a list) grows with the calls:" in cause
        assert "the budget is 0.1 MB" in cause
        assert await host["bank"].total() == 1 + answered
        (written,) = [one for one in await host.history() if one.id == report.id]
        assert "global SEEN" in written.probation.growing[0]
        assert written.probation.memory_bytes > 0


async def test_a_leak_below_its_budget_is_told_and_the_version_stays(tmp_path: Path) -> None:
    config = ProbationConfig(look_every_s=0.001)
    async with hosted(tmp_path, probation=config) as host:
        told = Told(host)
        await reloaded(host, tmp_path, bank("2", LEAK))
        async with asyncio.timeout(20):
            while not host.probation("bank").growing:
                await host["bank"].pay("ada", 1)
                await asyncio.sleep(0)
        report = await host.promote("bank")
        assert (report.state, report.tripped) == ("promoted", None)
        assert "global SEEN (a list) grows" in report.growing[0]
        assert "global SEEN" in (await told.first(Warned)).text


async def test_a_check_that_fails_later_sends_the_version_back(tmp_path: Path) -> None:
    async with hosted(tmp_path) as host:
        told = Told(host)
        await reloaded(host, tmp_path, bank("2", check="assert self.paid < 5, 'too much'"))
        since = len(told.events)
        await host["bank"].pay("ada", 10)
        ended = await told.first(ReloadEnded, since=since)
        assert "check well failed: too much" in ended.report.cause
        assert await host["bank"].total() == 11
        with pytest.raises(UsageError, match="put on probation"):
            host.probation("bank")  # what served before is not sent back to what was worse


async def test_a_good_version_passes_and_says_what_could_not_be_judged(tmp_path: Path) -> None:
    config = ProbationConfig(look_every_s=0.01, check_every_s=0.01)
    async with hosted(tmp_path, probation=config) as host:
        told = Told(host)
        await reloaded(host, tmp_path, bank("2"))
        await host["bank"].pay("ada", 1)
        report = await host.promote("bank")
        assert report.state == "promoted"
        assert (await told.first(ProbationEnded)).report == report
        calls = {one.call: one for one in report.calls}
        assert calls["pay"].unjudged == "1 of 20 calls in the new version"
        assert calls["total"].unjudged == "not called"
        assert report.tripped is None
        with pytest.raises(UsageError, match="not on probation any more"):
            host.pause("bank")


async def test_a_paused_probation_neither_trips_nor_passes_until_it_goes_on(
    tmp_path: Path,
) -> None:
    async with hosted(tmp_path) as host:
        told = Told(host)
        await reloaded(host, tmp_path, bank("2", check="assert self.paid < 5, 'too much'"))
        held = host.pause("bank")
        assert held.state == "paused"
        since = len(told.events)
        await host["bank"].pay("ada", 10)
        for _ in range(10):
            await asyncio.sleep(0.01)
        paused = host.probation("bank")
        assert (paused.state, paused.left_s) == ("paused", held.left_s)
        assert host.status().modules[0].label == "2"
        assert host.resume("bank").state == "watching"
        await told.first(ReloadEnded, since=since)
        assert host.status().modules[0].label == "1"


async def test_an_abort_goes_back_and_says_who_wanted_it(tmp_path: Path) -> None:
    async with hosted(tmp_path) as host:
        await reloaded(host, tmp_path, bank("2"))
        await host["bank"].pay("ada", 1)
        report = await host.abort("bank")
        assert (report.outcome, report.cause) == (Outcome.COMMITTED, "aborted by hand")
        assert await host["bank"].total() == 2
        assert host.status().modules[0].label == "1"


async def test_a_transaction_goes_back_as_a_whole(tmp_path: Path) -> None:
    async with hosted(tmp_path) as host:
        pass
    other = tmp_path / "other.py"
    other.write_text(bank("1"))
    sources = {"bank": tmp_path / "bank.py", "other": other}
    config = Config(reload=ReloadConfig(probe=False, probation_s=30.0), probation=QUICK)
    async with Host(sources, data_dir=tmp_path / "two", config=config) as host:
        told = Told(host)
        (tmp_path / "bank.py").write_text(bank("2"))
        other.write_text(bank("2", check="assert self.paid < 5, 'too much'"))
        assert host.on_probation() == ()
        assert (await host.reload(["bank", "other"])).committed
        (one,) = host.on_probation()  # a transaction is there once
        assert (one.modules, one.state) == (("bank", "other"), "watching")
        since = len(told.events)
        await host["bank"].pay("ada", 7)
        await host["other"].pay("ada", 7)
        await told.first(ReloadEnded, since=since)
        assert host.on_probation() == ()
        assert [one.label for one in host.status().modules] == ["1", "1"]
        assert await host["bank"].total() == 7


async def test_the_next_reload_ends_a_probation(tmp_path: Path) -> None:
    async with hosted(tmp_path) as host:
        told = Told(host)
        first = await reloaded(host, tmp_path, bank("2"))
        await reloaded(host, tmp_path, bank("3"))
        ended = await told.first(ProbationEnded)
        assert (ended.report.id, ended.report.state) == (first.id, "ended")
        assert host.probation("bank").state == "watching"


async def test_an_operator_decides_from_another_terminal(tmp_path: Path) -> None:
    data = str(tmp_path / "data")
    config = Config(data_dir=data, http=HttpConfig(enabled=False))

    async def command(*words: str, ends: int = 0) -> dict[str, Any]:
        done = await asyncio.to_thread(
            CliRunner().invoke, app, [*words, "--data-dir", data, "--json"]
        )
        assert done.exit_code == ends, done.output
        return json.loads(done.output)

    async with hosted(tmp_path) as host, ControlServer(host, config):
        assert "put on probation" in str(await command("probation", "bank", ends=2))
        await reloaded(host, tmp_path, bank("2"))
        assert (await command("probation", "bank"))["state"] == "watching"
        assert (await command("pause", "bank"))["state"] == "paused"
        assert (await command("resume", "bank"))["state"] == "watching"
        assert (await command("promote", "bank"))["state"] == "promoted"
        assert "any more" in str(await command("abort", "bank", ends=2))
        await reloaded(host, tmp_path, bank("3"))
        assert (await command("abort", "bank"))["cause"] == "aborted by hand"
        assert host.status().modules[0].label == "2"
        shown = await asyncio.to_thread(CliRunner().invoke, app, ["history", "--data-dir", data])
        assert shown.exit_code == 0


def test_a_probation_is_shown_call_by_call() -> None:
    call = CallReport(module="bank", call="pay", calls_after=3, unjudged="3 of 20 calls")
    report = ProbationReport(
        id="r1",
        modules=("bank",),
        state="watching",
        calls=(call,),
        growing=("bank: global SEEN grows",),
        memory_before_bytes=40_000_000,
        memory_bytes=52_000_000,
    )
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(render_probation(report))
    text = console.export_text()
    assert "bank: probation watching" in text
    assert "0/3" in text
    assert "3 of 20 calls" in text
    assert "bank: global SEEN grows" in text
    assert "the process has 52 MB, at the commit 40 MB" in text
