"""A call that others use does not change under them; what nobody here uses is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from replank import Host, Outcome, Plan, ReloadReport
from replank.config import Config, ModuleConfig

LEDGER = """
from replank import Module, query
class Ledger(Module, version="{v}"):
    total: int = 0
    async def deposit(self, {more}n: int) -> int:
        self.total += n
        return self.total
    {query}
    async def read(self) -> int:
        return self.total
    {extra}
"""
API = """
from replank import Module, Uses, uses
class Api(Module, version="{v}"):
    ledger: Uses = uses("ledger")
    async def order(self, n: int) -> int:
        return await self.ledger.deposit({given})
"""
TYPED = """
from typing import Protocol
from replank import Module, Uses, uses
class Ledger(Protocol):
    async def read(self) -> int: ...
class Api(Module, version="1"):
    ledger: Uses[Ledger] = uses("ledger")
    async def order(self) -> int:
        return await self.ledger.read()
"""


def ledger(v="2", more="", query="@query", extra="") -> str:
    return LEDGER.format(v=v, more=more, query=query, extra=extra)


class Shop:
    """A host with a ledger and one module that uses it."""

    def __init__(self, folder: Path, api: str | None = None, contract: str = "users") -> None:
        self.folder = folder
        self.write(ledger("1"), api or API.format(v="1", given="n"))
        modules = {
            "ledger": ModuleConfig(source=str(folder / "ledger.py"), contract=contract),
            "api": ModuleConfig(source=str(folder / "api.py")),
        }
        self.host = Host(config=Config(modules=modules, data_dir=str(folder / "data")))

    def write(self, ledger: str, api: str | None = None) -> None:
        (self.folder / "ledger.py").write_text(ledger)
        if api is not None:
            (self.folder / "api.py").write_text(api)


def refusal(report: ReloadReport | Plan) -> str:
    assert report.error is not None
    assert report.error.kind == "ContractError"
    assert report.error.phase == "prepare"
    assert report.error.module == "ledger"
    return f"{report.error.message} | {report.error.found} | {report.error.do}"


async def test_a_call_that_another_module_uses_cannot_change_under_it(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    async with shop.host as host:
        shop.write(ledger(more="owner: str, "))
        report = await host.reload("ledger")
        assert report.outcome is Outcome.REJECTED
        said = refusal(report)
        assert "no longer offers what api uses" in said
        assert "deposit: parameter owner is new and required (used by api)" in said
        assert "--allow-breaking deposit" in said
        assert await host["api"].order(3) == 3


async def test_it_changes_together_with_its_user(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    async with shop.host as host:
        shop.write(ledger(more="owner: str, "), API.format(v="2", given="'ada', n"))
        report = await host.reload(["ledger", "api"])
        assert report.outcome is Outcome.COMMITTED, report.error
        assert await host["api"].order(3) == 3


async def test_a_user_that_is_named_but_does_not_change_still_counts(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    async with shop.host as host:
        shop.write(ledger(more="owner: str, "))
        assert (await host.reload(["ledger", "api"])).outcome is Outcome.REJECTED


async def test_what_is_allowed_by_name_goes_through_and_is_told(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    async with shop.host as host:
        shop.write(ledger(more="owner: str, "))
        wrong = await host.reload("ledger", allow_breaking=["depost"])
        assert "deposit" in refusal(wrong)
        report = await host.reload("ledger", allow_breaking=["deposit", "read"])
        assert report.outcome is Outcome.COMMITTED, report.error
        first, second = report.warnings
        assert first == "ledger: deposit: parameter owner is new and required; api may use it"
        assert second == "allow_breaking names read, which does not break"


async def test_what_nobody_here_uses_is_a_warning(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    async with shop.host as host:
        shop.write(ledger(query=""))
        plan = await host.plan("ledger")
        assert plan.accepted
        assert plan.modules[0].contract_changes == (
            "breaking: read: no longer promises not to write (@query)",
        )
        expected = "read: no longer promises not to write (@query); callers outside this host"
        assert plan.warnings == (f"ledger: {expected} are not known",)
        report = await host.reload("ledger")
        assert report.outcome is Outcome.COMMITTED
        assert report.warnings == plan.warnings


async def test_a_plan_says_that_it_would_be_rejected_and_changes_nothing(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    async with shop.host as host:
        shop.write(ledger(more="owner: str, "))
        plan = await host.plan("ledger")
        assert not plan.accepted
        assert "used by api" in refusal(plan)
        (module,) = plan.modules
        assert module.contract_changes[0].startswith("breaking: deposit: parameter owner")
        assert (await host.plan("ledger", allow_breaking="deposit")).accepted


@pytest.mark.parametrize(
    ("contract", "outcome"), [("strict", Outcome.REJECTED), ("off", Outcome.COMMITTED)]
)
async def test_a_module_may_be_stricter_or_not_look_at_all(
    contract: str, outcome: Outcome, tmp_path: Path
) -> None:
    shop = Shop(tmp_path, contract=contract)
    async with shop.host as host:
        shop.write(ledger(query=""))
        report = await host.reload("ledger")
        assert report.outcome is outcome
        if outcome is Outcome.REJECTED:
            assert "no longer offers what it did" in refusal(report)
            allowed = await host.reload("ledger", allow_breaking="ledger.read")
            assert allowed.outcome is Outcome.COMMITTED
            assert allowed.warnings == ()


async def test_a_typed_interface_says_what_is_used(tmp_path: Path) -> None:
    shop = Shop(tmp_path, TYPED)
    async with shop.host as host:
        shop.write(ledger(more="owner: str, "))
        report = await host.reload("ledger")
        assert report.outcome is Outcome.COMMITTED, report.error
        without = ledger("3", more="owner: str, ").replace("def read", "def look")
        shop.write(without)
        said = refusal(await host.reload("ledger"))
        assert "read was removed (used by api)" in said
        allowed = await host.reload("ledger", allow_breaking=["read"])
        assert allowed.outcome is Outcome.COMMITTED, allowed.error


async def test_a_rollback_is_warned_of_and_never_refused(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    async with shop.host as host:
        shop.write(ledger(extra="async def audit(self) -> int:\n        return 1"))
        assert (await host.reload("ledger")).outcome is Outcome.COMMITTED
        shop.write(ledger(), API.format(v="2", given="await self.ledger.audit()"))
        assert (await host.reload({"api": None})).outcome is Outcome.COMMITTED
        report = await host.rollback("ledger")
        assert report.outcome is Outcome.COMMITTED, report.error
        assert "ledger: audit was removed; api may use it" in report.warnings
