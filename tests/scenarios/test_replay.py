"""What was asked lately is asked again of both versions; what differs is told, or rejected."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from replank import Host, Outcome
from replank.config import Config, ModuleConfig, ReloadConfig

BANK = """
import asyncio, itertools, random
from dataclasses import dataclass
from replank import Module, Record, Table, query
_count = itertools.count()
class Account(Record):
    cents: int = 0
@dataclass
class Question:
    owner: str
class Bank(Module, version="{v}", schema=1):
    accounts: Table[str, Account]
    async def pay(self, owner: str, cents: int) -> int:
        account = self.accounts.setdefault(owner, Account())
        account.cents += cents
        return account.cents
    @query
    async def balance(self, owner: str) -> dict:
        return {{"owner": owner, "cents": {cents}}}
    @query
    async def slow(self, owner: str) -> int:
        await asyncio.sleep(0)
        return self.accounts[owner].cents
    @query
    async def ask(self, question: Question) -> Question:
        assert isinstance(question, Question)
        return question
    @query
    def noisy(self) -> int:
        return next(_count)
    @query
    async def fails(self) -> None:
        raise {error}
"""
PLAIN = "self.accounts[owner].cents"


def bank(v: str, cents: str = PLAIN, error: str = "ValueError('no')") -> str:
    return BANK.format(v=v, cents=cents, error=error)


@asynccontextmanager
async def hosted(folder: Path, windowed_from: int = 2_000, **module: Any) -> AsyncIterator[Host]:
    source = folder / "bank.py"
    source.write_text(bank("1"))
    config = Config(
        data_dir=str(folder / "data"),
        modules={"bank": ModuleConfig(source=str(source), replay=50, **module)},
        reload=ReloadConfig(probe=False, probation_s=0.0, windowed_from_records=windowed_from),
    )
    async with Host(config=config) as host:
        for number, owner in enumerate(("ada", "bob", "cyd", "dan")):
            await host["bank"].pay(owner, number + 10)
            await host["bank"].balance(owner)
        yield host


async def reloaded(host: Host, folder: Path, text: str, **options: Any):
    (folder / "bank.py").write_text(text)
    return await host.reload("bank", **options)


@pytest.mark.parametrize("windowed_from", [1, 2_000])
async def test_a_good_version_answers_all_the_same(tmp_path: Path, windowed_from: int) -> None:
    async with hosted(tmp_path, windowed_from) as host:
        current = host._routes.current("bank").code.module
        await host["bank"].slow("ada")
        await host["bank"].ask(current.Question("ada"))
        with pytest.raises(ValueError, match="no"):
            await host["bank"].fails()
        await host["bank"].noisy()
        report = await reloaded(host, tmp_path, bank("2"))
        assert report.committed, report.error
        found = report.modules[0].replay
        assert (found.asked, found.same, found.noisy, found.differed) == (8, 7, 1, 0)
        verify = next(one for one in report.phases if one.name == "verify")
        assert report.certificate is not None
        assert verify.outcome == "done"


async def test_a_version_that_answers_otherwise_is_told_value_by_value(tmp_path: Path) -> None:
    async with hosted(tmp_path) as host:
        text = bank("2", cents=f"{PLAIN} if owner != 'cyd' else 99")
        report = await reloaded(host, tmp_path, text)
        assert report.committed, report.error
        found = report.modules[0].replay
        assert (found.asked, found.same, found.differed) == (4, 3, 1)
        (difference,) = found.differences
        assert (difference.call, difference.arguments) == ("balance", "'cyd'")
        assert (difference.place, difference.before, difference.after) == (
            "cents",
            "12",
            "99",
        )
        assert any("1 of 4 replayed queries answer differently" in w for w in report.warnings)


async def test_more_differences_than_allowed_are_rejected_unless_they_are_declared(
    tmp_path: Path,
) -> None:
    async with hosted(tmp_path, replay_reject=0.2) as host:
        text = bank("2", cents=f"{PLAIN} + 1")
        report = await reloaded(host, tmp_path, text)
        assert report.outcome is Outcome.REJECTED
        assert report.error.phase == "verify"
        assert "4 of 4 replayed queries answer differently" in report.error.message
        assert "--expect-change balance" in report.error.do
        plan = await host.plan("bank", expect_changes="balance")
        assert plan.accepted, plan.error
        report = await reloaded(host, tmp_path, text, expect_changes=["bank.balance"])
        assert report.committed, report.error
        assert report.modules[0].replay.expected == 4


async def test_an_error_that_becomes_another_is_a_difference(tmp_path: Path) -> None:
    async with hosted(tmp_path, replay_expected=("balance",)) as host:
        with pytest.raises(ValueError, match="no"):
            await host["bank"].fails()
        report = await reloaded(host, tmp_path, bank("2", error="KeyError('no')"))
        (difference,) = report.modules[0].replay.differences
        assert "ValueError" in difference.before
        assert "KeyError" in difference.after


async def test_a_query_that_never_ends_does_not_hold_the_reload(tmp_path: Path) -> None:
    async with hosted(tmp_path) as host:
        limits = ReloadConfig(probe=False, probation_s=0.0, verify_timeout_s=0.3)
        host._coordinator.config = Config(reload=limits)
        text = bank("2", cents="(lambda f: f(f))(lambda f: [0 for _ in iter(int, 1)])")
        report = await reloaded(host, tmp_path, text)
        found = report.modules[0].replay
        assert found.differed >= 1
        assert found.differed + found.not_asked == 4
        assert "does not answer" in found.differences[0].after


async def test_nothing_to_compare_is_said(tmp_path: Path) -> None:
    source = tmp_path / "bank.py"
    source.write_text(bank("1"))
    config = Config(
        modules={"bank": ModuleConfig(source=str(source), replay=5)},
        reload=ReloadConfig(probe=False, probation_s=0.0),
        data_dir=str(tmp_path / "data"),
    )
    async with Host(config=config) as host:
        report = await reloaded(host, tmp_path, bank("2"))
        assert any("no recent query to replay" in warning for warning in report.warnings)
