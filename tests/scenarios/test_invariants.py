"""What a module says of its state is the same before and after, in the rehearsal and the pause."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from replank import Host, Outcome
from replank.config import Config, ReloadConfig
from replank.coordinator.coordinator import _QUICK_CHECK_S

BANK = """
from replank import Module, Record, Table, convert, invariant, rename, step
class Account(Record):
    {fields}
class Bank(Module, version="{v}", schema={schema}):
    accounts: Table[str, Account]
    fees: int = 0
    {migrations}
    async def pay(self, owner: str, cents: int) -> int:
        account = self.accounts.get(owner)
        if account is None:
            account = self.accounts[owner] = Account()
        account.{money} += cents
        return account.{money}
    @invariant
    def total_cents(self):
        return {total}
    {extra}
"""
V1 = BANK.format(
    v="1", schema=1, fields="cents: int = 0", migrations="", money="cents", extra="",
    total="sum(one.cents for one in self.accounts.values())",
)  # fmt: skip


def v2(up: str, total: str = "sum(one.euros for one in self.accounts.values())", extra: str = ""):
    steps = f'rename("accounts.*.cents", "euros"), convert("accounts.*.euros", {up}, lambda e: e)'
    migrations = f"migrations = [step(1, 2, {steps})]"
    return BANK.format(
        v="2", schema=2, fields="euros: int = 0", migrations=migrations, money="euros",
        total=total, extra=extra,
    )  # fmt: skip


KEEPS = "lambda cents: cents"
LOSES = "lambda cents: cents // 10"


async def deposits(host: Host, count: int) -> None:
    for number in range(count):
        await host["bank"].pay(f"owner-{number}", number)


def config(**changes: object) -> Config:
    return Config(reload=ReloadConfig(**changes))


async def test_a_migration_that_loses_money_is_rejected_before_any_call_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(_QUICK_CHECK_S, "eager", 60.0)  # however busy the machine is
    source = tmp_path / "bank.py"
    source.write_text(V1)
    async with Host({"bank": source}, data_dir=tmp_path / "data") as host:
        await deposits(host, 20)
        source.write_text(v2(LOSES))
        report = await host.reload("bank")
        assert report.outcome is Outcome.REJECTED
        assert report.error is not None
        assert report.error.kind == "CheckError"
        assert report.error.phase == "verify"
        assert report.error.message == "invariant total_cents does not hold: 190 before, 10 after"
        assert report.pause_s == 0.0
        source.write_text(v2(KEEPS))
        mended = await host.reload("bank")
        assert mended.outcome is Outcome.COMMITTED, mended.error
        verify = next(phase for phase in mended.phases if phase.name == "verify")
        assert verify.detail == "bank.total_cents"
        assert mended.certificate is not None
        assert mended.certificate.checks_passed == 2


async def test_what_on_start_breaks_is_rolled_back_with_the_state_as_it_was(
    tmp_path: Path,
) -> None:
    source = tmp_path / "bank.py"
    source.write_text(V1)
    async with Host({"bank": source}, data_dir=tmp_path / "data") as host:
        await deposits(host, 5)
        extra = "async def on_start(self):\n        self.accounts['owner-1'].euros = 100"
        source.write_text(v2(KEEPS, extra=extra))
        report = await host.reload("bank")
        assert report.outcome is Outcome.ROLLED_BACK
        assert report.error is not None
        assert report.error.phase == "verify"
        assert report.error.message == "invariant total_cents does not hold: 10 before, 109 after"
        assert await host["bank"].pay("owner-1", 1) == 2


async def test_a_state_that_travels_in_a_window_is_compared_while_it_is_written(
    tmp_path: Path,
) -> None:
    source = tmp_path / "bank.py"
    source.write_text(V1)
    windowed = config(windowed_from_records=50)
    async with Host({"bank": source}, data_dir=tmp_path / "data", config=windowed) as host:
        await deposits(host, 300)
        stop = asyncio.Event()
        failed: list[str] = []

        async def writer(number: int) -> None:
            while not stop.is_set():
                try:
                    await host["bank"].pay(f"owner-{number}", 1)
                except Exception as error:
                    failed.append(repr(error))
                await asyncio.sleep(0)

        tasks = [asyncio.create_task(writer(number)) for number in range(8)]
        source.write_text(v2(LOSES))
        lost = await host.reload("bank")
        source.write_text(v2(KEEPS))
        kept = await host.reload("bank")
        stop.set()
        await asyncio.gather(*tasks)
        assert lost.outcome is Outcome.REJECTED
        assert "invariant total_cents does not hold" in (lost.error.message if lost.error else "")
        assert kept.outcome is Outcome.COMMITTED, kept.error
        assert kept.modules[0].mode == "windowed"
        assert failed == []


async def test_an_invariant_that_only_one_version_has_is_not_compared(tmp_path: Path) -> None:
    source = tmp_path / "bank.py"
    source.write_text(V1.replace("@invariant\n    def total_cents", "def total_cents"))
    async with Host({"bank": source}, data_dir=tmp_path / "data") as host:
        source.write_text(v2(KEEPS, total="-1"))
        report = await host.reload("bank")
        assert report.outcome is Outcome.COMMITTED, report.error


async def test_an_invariant_is_no_call(tmp_path: Path) -> None:
    source = tmp_path / "bank.py"
    source.write_text(V1)
    async with Host({"bank": source}, data_dir=tmp_path / "data") as host:
        assert set(host.definition("bank").calls) == {"pay"}


async def test_a_plain_file_names_its_invariants_by_their_prefix(tmp_path: Path) -> None:
    source = tmp_path / "notes.py"
    text = 'STATE = ("notes",)\nnotes: list[str] = []\ndef add(text: str): notes.append(text)\n'
    source.write_text(text + "def invariant_count():\n    return len(notes)\n")
    async with Host({"notes": source}, data_dir=tmp_path / "data") as host:
        await host["notes"].add("one")
        worse = text + "def invariant_count():\n    return len(notes) + 1\n"
        source.write_text(worse)
        report = await host.reload("notes")
        assert report.outcome is Outcome.REJECTED
        assert "invariant_count does not hold: 1 before, 2 after" in (
            report.error.message if report.error else ""
        )


async def test_an_invariant_that_is_a_coroutine_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "bank.py"
    source.write_text(V1)
    async with Host({"bank": source}, data_dir=tmp_path / "data") as host:
        source.write_text(V1.replace("def total_cents", "async def total_cents"))
        report = await host.reload("bank")
        assert report.outcome is Outcome.REJECTED
        assert report.error is not None
        assert report.error.message == "invariant total_cents must be a plain function"


async def test_one_that_fails_in_what_serves_is_told_and_not_compared(tmp_path: Path) -> None:
    source = tmp_path / "bank.py"
    source.write_text(V1.replace("return sum", "return 1 / 0 + sum"))
    async with Host({"bank": source}, data_dir=tmp_path / "data") as host:
        source.write_text(v2(KEEPS))
        report = await host.reload("bank")
        assert report.outcome is Outcome.COMMITTED, report.error
        (warning,) = report.warnings
        assert "is not compared: what serves raised ZeroDivisionError" in warning
