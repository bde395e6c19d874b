"""The type checker is a gate before the swap: through the host, its settings and the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from replank import Host, Outcome
from replank.config import Config, ModuleConfig, ReloadConfig, parse_config
from replank.errors import ConfigError

LEDGER = """
from replank import Carry, Module, Record, Table
class Account(Record):
    cents: int = 0
class Ledger(Module, version="{v}"):
    accounts: Table[str, Account]
    feed: Carry[list[int] | None] = None
    async def deposit(self, owner: str, cents: {kind}) -> int:
        account = self.accounts.setdefault(owner, Account())
        account.cents += int(cents)
        return account.cents
"""
SHOP = """
from ledger import Ledger
from replank import Module, Uses, uses
class Shop(Module, version="{v}"):
    ledger: Uses[Ledger] = uses("ledger")
    async def pay(self, cents: int) -> int:
        return await self.ledger.deposit("ada", {what})
"""


def host_of(folder: Path, checker: Any = "ty", **shop: Any) -> Host:
    (folder / "ledger.py").write_text(LEDGER.format(v="1", kind="int"))
    (folder / "shop.py").write_text(SHOP.format(v="1", what="cents"))
    modules = {
        "ledger": ModuleConfig(source=str(folder / "ledger.py")),
        "shop": ModuleConfig(source=str(folder / "shop.py"), **shop),
    }
    reload = ReloadConfig(type_check=checker, probe=False)
    return Host(config=Config(data_dir=str(folder / "data"), modules=modules, reload=reload))


async def test_a_candidate_is_checked_against_what_serves_and_not_against_the_disk(
    tmp_path: Path,
) -> None:
    async with host_of(tmp_path) as host:
        (tmp_path / "ledger.py").write_text(LEDGER.format(v="2", kind="str"))
        (tmp_path / "shop.py").write_text(SHOP.format(v="2", what="str(cents)"))
        report = await host.reload("shop")
        assert report.outcome is Outcome.REJECTED
        assert report.error is not None
        assert report.error.kind == "CheckError"
        assert report.error.location == "shop.py:7"
        assert "expected `int`" in report.error.found.replace("E", "e")
        assert report.calls_held == 0
        assert await host["shop"].pay(5) == 5

        (tmp_path / "shop.py").write_text(SHOP.format(v="3", what="cents + 0"))
        report = await host.reload("shop")
        assert report.outcome is Outcome.COMMITTED, report.error
        assert report.modules[0].type_checker == "ty"
        assert "ty finds no error" in report.phases[0].detail


async def test_modules_of_one_transaction_are_checked_against_each_others_candidates(
    tmp_path: Path,
) -> None:
    async with host_of(tmp_path) as host:
        (tmp_path / "ledger.py").write_text(LEDGER.format(v="2", kind="str"))
        (tmp_path / "shop.py").write_text(SHOP.format(v="2", what="str(cents)"))
        plan = await host.plan(["ledger", "shop"])
        assert plan.error is None
        report = await host.reload(["ledger", "shop"])
        assert report.outcome is Outcome.COMMITTED, report.error
        assert await host["shop"].pay(5) == 5


async def test_a_module_may_be_left_out_and_a_way_back_is_never_checked(tmp_path: Path) -> None:
    async with host_of(tmp_path, type_check="off") as host:
        (tmp_path / "shop.py").write_text(SHOP.format(v="2", what="'5'"))
        report = await host.reload("shop")
        assert report.outcome is Outcome.COMMITTED, report.error
        assert report.modules[0].type_checker is None
        assert await host["shop"].pay(1) == 5
    async with host_of(tmp_path) as host:  # what was committed starts again, wrong types and all
        assert host.status().modules[1].label == "2"
        report = await host.rollback("shop")
        assert report.outcome is Outcome.COMMITTED, report.error


async def test_a_checker_that_is_not_installed_rejects_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    async with host_of(tmp_path, None, type_check="mypy") as host:
        (tmp_path / "shop.py").write_text(SHOP.format(v="2", what="cents"))
        report = await host.reload("shop")
        assert report.outcome is Outcome.REJECTED
        assert report.error is not None
        assert "mypy is not installed" in report.error.message
        assert "pip install mypy" in (report.error.do or "")


def test_a_checker_that_nobody_knows_is_refused_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        parse_config('[reload]\ntype_check = "pylint"\n', tmp_path / "replank.toml")
    assert "reload.type_check has a wrong value" in raised.value.what
    assert (raised.value.location or "").endswith("replank.toml:2")
