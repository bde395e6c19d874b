"""Several modules: used through handles, changed as one transaction, or side by side."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from replank import Host, Outcome
from replank.errors import DefinitionError, UnknownModule

LEDGER = """
from replank import Module
class Ledger(Module, version="{v}"):
    total: int = 0
    async def deposit(self, n: int) -> str:
        self.total += n
        return "{v}"
    async def slow(self, gate) -> str:
        await gate.wait()
        return "{v}"
"""
API = """
from replank import Module, Uses, uses
class Api(Module, version="{v}"):
    ledger: Uses = uses("ledger", "{range}")
    orders: int = 0
    async def order(self, n: int) -> tuple:
        self.orders += 1
        return ("{v}", await self.ledger.deposit(n))
    async def twice(self, n: int, gate) -> tuple:
        first = await self.ledger.deposit(n)
        await gate.wait()
        return (first, await self.ledger.deposit(n))
"""


def write(folder: Path, ledger: str, api: str, versions: str = "") -> dict[str, Path]:
    (folder / "ledger.py").write_text(LEDGER.format(v=ledger))
    (folder / "api.py").write_text(API.format(v=api, range=versions))
    return {"ledger": folder / "ledger.py", "api": folder / "api.py"}


async def test_two_modules_change_in_one_transaction(tmp_path: Path) -> None:
    sources = write(tmp_path, "1", "1")
    async with Host(sources, data_dir=tmp_path / "data") as host:
        assert await host["api"].order(1) == ("1", "1")
        write(tmp_path, "2", "2")
        stop = False
        answers: list[tuple[str, str]] = []

        async def caller() -> None:
            while not stop:
                answers.append(await host["api"].order(1))
                await asyncio.sleep(0)

        tasks = [asyncio.create_task(caller()) for _ in range(20)]
        report = await host.reload(["ledger", "api"])
        stop = True
        await asyncio.gather(*tasks)
        assert report.outcome is Outcome.COMMITTED, report.error
        assert set(answers) <= {("1", "1"), ("2", "2")}
        assert await host["api"].order(1) == ("2", "2")


async def test_a_failure_in_one_leaves_both_on_the_old_version(tmp_path: Path) -> None:
    sources = write(tmp_path, "1", "1")
    async with Host(sources, data_dir=tmp_path / "data") as host:
        write(tmp_path, "2", "2")
        with sources["api"].open("a") as file:
            file.write("    async def on_start(self):\n        raise OSError('no')\n")
        report = await host.reload(["ledger", "api"])
        assert report.outcome is Outcome.ROLLED_BACK
        assert await host["api"].order(1) == ("1", "1")


async def test_a_call_sees_one_epoch_of_the_module_it_uses(tmp_path: Path) -> None:
    sources = write(tmp_path, "1", "1")
    async with Host(sources, data_dir=tmp_path / "data") as host:
        gate = asyncio.Event()
        call = asyncio.create_task(host["api"].twice(1, gate))
        await asyncio.sleep(0)
        write(tmp_path, "2", "1")
        ticket = host.reload("ledger")
        while host._routes.slot("ledger").gate.is_open:
            await asyncio.sleep(0)
        waiting = asyncio.create_task(host["ledger"].deposit(1))
        await asyncio.sleep(0)
        gate.set()
        assert await call == ("1", "1")
        assert (await ticket).outcome is Outcome.COMMITTED
        assert await waiting == "2"


async def test_a_version_out_of_range_is_rejected_unless_its_user_changes_too(
    tmp_path: Path,
) -> None:
    sources = write(tmp_path, "1", "1", ">=1,<2")
    async with Host(sources, data_dir=tmp_path / "data") as host:
        write(tmp_path, "2", "2", ">=2")
        report = await host.reload("ledger")
        assert report.outcome is Outcome.REJECTED
        assert report.error is not None
        assert report.error.module == "api"
        assert (await host.reload(["ledger", "api"])).outcome is Outcome.COMMITTED


async def test_a_module_that_uses_an_unknown_one_does_not_start(tmp_path: Path) -> None:
    sources = write(tmp_path, "1", "1")
    del sources["ledger"]
    with pytest.raises(DefinitionError, match="ledger"):
        await Host(sources, data_dir=tmp_path / "data").start()


async def test_an_unknown_module_is_named_with_those_there_are(tmp_path: Path) -> None:
    sources = write(tmp_path, "1", "1")
    async with Host(sources, data_dir=tmp_path / "data") as host:
        with pytest.raises(UnknownModule, match="api, ledger"):
            host.reload("leger")
