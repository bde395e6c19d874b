"""Several modules: used through handles, changed as one transaction, or side by side."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from replank import Host, Outcome
from replank.errors import DefinitionError, ReloadFailed, UnknownModule

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


async def test_the_newest_source_wins_and_the_older_request_is_told_so(tmp_path: Path) -> None:
    sources = write(tmp_path, "1", "1")
    async with Host(sources, data_dir=tmp_path / "data") as host:
        gate = asyncio.Event()
        holding = asyncio.create_task(host["ledger"].slow(gate))
        await asyncio.sleep(0)
        write(tmp_path, "2", "1")
        second = host.reload("ledger")
        while host._routes.slot("ledger").gate.is_open:
            await asyncio.sleep(0)
        write(tmp_path, "3", "1")
        third = host.reload("ledger")
        write(tmp_path, "4", "1")
        fourth = host.reload("ledger")
        refused = await host.reload("api", when_busy="refuse")
        assert refused.error is not None
        assert (refused.outcome, refused.error.kind) == (Outcome.REJECTED, "Busy")
        answer = await third
        assert answer.outcome is Outcome.SUPERSEDED
        with pytest.raises(ReloadFailed, match="superseded"):
            answer.raise_for_outcome()
        gate.set()
        await holding
        assert (await second).outcome is Outcome.COMMITTED
        newest = await fourth
        assert (newest.outcome, newest.id) == (Outcome.COMMITTED, answer.superseded_by)
        assert await host["ledger"].deposit(1) == "4"


CIRCLE = """
from replank import Module, Uses, uses
class One(Module, version="{v}"):
    other: Uses = uses("{other}", "=={v}")
"""


async def test_modules_that_use_one_another_and_are_asked_for_at_once_change_together(
    tmp_path: Path,
) -> None:
    def both(v: int) -> None:
        for name, other in (("a", "b"), ("b", "a")):
            (tmp_path / f"{name}.py").write_text(CIRCLE.format(v=v, other=other))

    both(1)
    sources = {"a": tmp_path / "a.py", "b": tmp_path / "b.py"}
    async with Host(sources, data_dir=tmp_path / "data") as host:
        both(2)
        # Each alone would be rejected, for its new version does not fit the other's old one.
        reports = await asyncio.gather(host.reload("a"), host.reload("b"))
        assert [one.outcome for one in reports] == [Outcome.COMMITTED] * 2, reports[0].error
        assert reports[0].id == reports[1].id
        assert [one.name for one in reports[0].modules] == ["a", "b"]


RANGES = {
    "a label out of range": ("3", ">=1.4,<3", "api", ("ledger >=1.4,<3", "ledger 3", "widen")),
    "no version number": ("next", ">=1.4,<3", "api", ("no version number", "next")),
    "no range": ("1", "1.4 or so", "api", ("is no version range", "1.4 or so", ">=1.4,<3")),
}


@pytest.mark.parametrize("case", RANGES)
async def test_versions_are_compared_over_the_whole_set_before_anything_is_touched(
    tmp_path: Path, case: str
) -> None:
    ledger, versions, blamed, words = RANGES[case]
    sources = write(tmp_path, "1", "1", ">=1,<2")
    async with Host(sources, data_dir=tmp_path / "data") as host:
        write(tmp_path, ledger, "2", versions)
        report = await host.reload(["ledger", "api"])
        assert report.outcome is Outcome.REJECTED
        error = report.error
        assert error is not None
        assert (error.phase, error.module) == ("prepare", blamed)
        said = f"{error.message} {error.found} {error.expected} {error.do}"
        assert not [word for word in words if word not in said], said
        assert error.do
        assert error.serves
        assert report.closed_s == 0.0
        assert await host["api"].order(1) == ("1", "1")


async def test_a_used_call_that_the_new_set_lacks_is_named_before_anything_is_touched(
    tmp_path: Path,
) -> None:
    sources = write(tmp_path, "1", "1")
    async with Host(sources, data_dir=tmp_path / "data") as host:
        write(tmp_path, "2", "2")
        lacking = sources["ledger"].read_text().replace("def deposit", "def pay_in")
        sources["ledger"].write_text(lacking)
        for what in ("ledger", ["ledger", "api"]):
            report = await host.reload(what)
            assert report.outcome is Outcome.REJECTED, what
            assert report.error is not None
            said = f"{report.error.message} {report.error.found} {report.error.expected}"
            assert "deposit" in said
            assert report.error.do
            assert report.closed_s == 0.0
        assert await host["api"].order(1) == ("1", "1")
