"""Records of large tables that something else refers to stay the objects that they are."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from replank import Host, Outcome
from replank.config import Config, ReloadConfig

MODULE = """
from replank import Module, Record, Table, rename, step


class Person(Record):
    name: str


class Account(Record):
    owner: Person
    notes: list[str]
    {cents}: int = 0


class Bank(Module, version={version!r}, schema={schema}):
    accounts: Table[str, Account]
    people: Table[str, Person]
    current: Account | None = None
    by_number: dict[int, Account]
    favourite: Person | None = None
    {migrations}

    async def fill(self, how: str):
        for number in range(20):
            owner = Person(str(number))
            account = Account(owner, [], number)
            self.accounts[f"a{{number}}"] = account
            if how == "records":
                self.by_number[number] = account
        one, other = self.accounts["a1"], self.accounts["a2"]
        if how == "records":
            self.current = one
            self.accounts["again"] = one
        elif how == "a part":
            one.owner = other.owner
        elif how == "a list":
            one.notes = other.notes
        elif how == "another table":
            self.people["p"] = one.owner
        elif how == "another field":
            self.favourite = one.owner

    async def wrong(self):
        return [
            key for key, account in self.accounts.items()
            if self.by_number and self.by_number[account.{cents}] is not account
        ] + (["current"] if self.current is not self.accounts.get("again") else [])

    async def pay(self):
        self.current.{cents} += 0
        return self.current is self.accounts["a1"]

    async def shared(self):
        one, other = self.accounts["a1"], self.accounts["a2"]
        return one.owner is other.owner or one.notes is other.notes or (
            one.owner in (self.favourite, self.people.get("p"))
        )
"""

SHARED = ["a part", "a list", "another table", "another field"]


@pytest.fixture
def paths(tmp_path: Path) -> tuple[Path, Path]:
    steps = (
        'migrations = [step(1, 2, rename("accounts.*.cents", "amount"),'
        ' rename("current.cents", "amount"), rename("by_number.*.cents", "amount"))]'
    )
    first, second = tmp_path / "v1" / "bank.py", tmp_path / "v2" / "bank.py"
    for path, schema in ((first, 1), (second, 2)):
        path.parent.mkdir()
        new = schema == 2
        path.write_text(
            MODULE.format(
                cents="amount" if new else "cents",
                version=f"{schema}.0",
                schema=schema,
                migrations=steps if new else "",
            )
        )
    return first, second


def host_of(path: Path, **limits: int) -> AbstractAsyncContextManager[Host]:
    reload = ReloadConfig(probe=False, **limits)
    return Host({"bank": path}, data_dir=path.parent.parent / "data", config=Config(reload=reload))


@pytest.mark.parametrize("mode", ["windowed", "lazy"])
async def test_a_record_that_the_small_state_refers_to_is_one_record_up_and_back(
    paths: tuple[Path, Path], mode: str
) -> None:
    async with host_of(paths[0]) as host:
        bank = host["bank"]
        await bank.fill("records")
        for _ in range(2):
            up = await host.reload({"bank": paths[1]}, mode=mode)
            assert up.outcome is Outcome.COMMITTED, up.error
            assert up.modules[0].mode == mode
            assert (await bank.wrong(), await bank.pay()) == ([], True)
            await host._routes.slot("bank").probation.settled()
            assert (await bank.wrong(), await bank.pay()) == ([], True)
            back = await host.rollback("bank")
            assert back.outcome is Outcome.COMMITTED, back.error
            assert (await bank.wrong(), await bank.pay()) == ([], True)


@pytest.mark.parametrize("how", SHARED)
async def test_records_that_share_a_part_are_copied_in_the_pause_and_keep_it(
    paths: tuple[Path, Path], how: str
) -> None:
    async with host_of(paths[0], windowed_from_records=1) as host:
        await host["bank"].fill(how)
        report = await host.reload({"bank": paths[1]})
        assert report.outcome is Outcome.COMMITTED, report.error
        assert report.modules[0].mode == "eager"
        assert any("hold the same object" in warning for warning in report.warnings)
        assert await host["bank"].shared()


async def test_a_window_that_was_asked_for_is_refused_when_records_share_a_part(
    paths: tuple[Path, Path],
) -> None:
    async with host_of(paths[0]) as host:
        await host["bank"].fill("a part")
        report = await host.reload({"bank": paths[1]}, mode="windowed")
        assert report.outcome is Outcome.REJECTED
        assert report.error is not None
        assert "'a1' and 'a2' hold the same object" in report.error.message
        assert report.error.do is not None
        assert "mode eager" in report.error.do
        assert await host["bank"].shared()
