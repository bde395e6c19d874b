"""Helpers beside modules: part of each version, shared by content, reloaded together."""

from __future__ import annotations

import sys

import pytest

from replank import Host
from replank.code.source import digest_of
from replank.config import Config, ReloadConfig
from replank.report import Outcome
from tests.scenarios.test_watching import Folder

SHARED = """
import more
from dataclasses import dataclass

@dataclass
class Money:
    cents: int = 0

LABEL = "{label}"
seen = []
"""
MODULE = """
from replank import Module
import shared

class {name}(Module, version="1.0"):
    last: shared.Money | None = None

    async def label(self) -> str:
        import more
        return shared.LABEL + more.SUFFIX
    async def money(self):
        self.last = shared.Money(5)
        return self.last
    async def knows(self, thing) -> bool:
        return isinstance(thing, shared.Money)
    async def note(self, what: str) -> list:
        shared.seen.append(what)
        return list(shared.seen)
    async def keeps(self) -> bool:
        return isinstance(self.last, shared.Money)
"""


class Shop(Folder):
    def __init__(self, path):
        super().__init__(path)
        for name in ("ledger", "api"):
            (path / f"{name}.py").write_text(MODULE.format(name=name.capitalize()))
        (path / "more.py").write_text("SUFFIX = '!'\n")
        self.share("one")

    def share(self, label):
        (self.path / "shared.py").write_text(SHARED.format(label=label))

    def open(self, *names, probe=False):
        names = names or ("ledger", "api")
        config = Config(reload=ReloadConfig(probe=probe))
        sources = {name: self.path / f"{name}.py" for name in names}
        return Host(sources, data_dir=self.path / "data", config=config)


@pytest.fixture
def shop(tmp_path):
    return Shop(tmp_path)


async def test_modules_share_the_classes_and_variables_of_their_helper(shop):
    async with shop.open() as host:
        assert await host["api"].knows(await host["ledger"].money())
        await host["api"].note("a")
        assert await host["ledger"].note("b") == ["a", "b"]
        assert "shared" not in sys.modules
        (shop.path / "ledger.py").write_text((shop.path / "ledger.py").read_text() + "# new\n")
        assert (await host.reload("ledger")).committed
        assert await host["ledger"].note("c") == ["a", "b", "c"]  # the helper has not changed
        assert await host["ledger"].keeps()
    assert not [name for name in sys.modules if name.startswith("shared@")]


@pytest.mark.parametrize("probe", [False, True])
async def test_a_changed_helper_is_loaded_and_the_state_moves_to_its_new_classes(shop, probe):
    async with shop.open("ledger", probe=probe) as host:
        await host["ledger"].money()
        shop.share("two")
        report = await host.reload("ledger")
        assert report.committed, report.error
        assert await host["ledger"].label() == "two!"
        assert await host["ledger"].keeps()
        (shop.path / "more.py").write_text("SUFFIX = '?'\n")  # a helper's helper
        assert (await host.reload("ledger")).committed
        assert await host["ledger"].label() == "two?"
        assert await host["ledger"].keeps()
        assert (await host.rollback("ledger")).committed
        assert await host["ledger"].label() == "two!"


async def test_a_broken_helper_is_rejected_with_its_own_line(shop):
    async with shop.open() as host:
        (shop.path / "shared.py").write_text("import more\nMoney = int\nLABEL = 1 / 0\n")
        report = await host.reload(["api", "ledger"])
        assert report.outcome is Outcome.REJECTED
        assert report.error.location == "shared.py:3"
        assert str(shop.path / "shared.py") in report.error.traceback
        assert "@" not in report.error.message
        assert await host["api"].label() == "one!"


async def test_a_start_finds_the_helper_that_was_committed(shop):
    async with shop.open() as host:
        assert await host["api"].label() == "one!"
    shop.share("uncommitted")
    async with shop.open() as host:
        assert await host["api"].label() == "one!"
        assert (await host.reload("api")).committed
        assert await host["api"].label() == "uncommitted!"
        assert await host["ledger"].label() == "one!"


async def test_saving_a_helper_reloads_all_that_import_it_together(shop):
    (shop.path / "alone.py").write_text("from replank import Module\n\nclass Alone(Module): ...\n")
    async with shop.watching("ledger", "api", "alone") as host:
        for label, save in (("two!", lambda: shop.share("two")), ("two?", shop_suffix(shop))):
            save()
            report = await shop.reloaded()
            assert [one.name for one in report.modules] == ["api", "ledger"]
            assert report.committed, report.error
            assert await host["api"].label() == label
        assert shop.reloads_left() == []


def shop_suffix(shop):
    return lambda: (shop.path / "more.py").write_text("SUFFIX = '?'\n")


async def test_a_helper_that_was_missing_is_taken_when_it_appears(shop):
    helper = (shop.path / "more.py").read_text()
    async with shop.watching("ledger") as host:
        (shop.path / "more.py").unlink()
        assert (await shop.reloaded()).outcome is Outcome.REJECTED
        (shop.path / "more.py").write_text(helper.replace("!", "."))
        assert (await shop.reloaded()).committed
        assert await host["ledger"].label() == "one."


async def test_a_package_is_a_helper_too_with_its_parts(shop):
    (shop.path / "more.py").unlink()
    package = shop.path / "more"
    package.mkdir()
    (package / "__init__.py").write_text("from .parts import SUFFIX\n")
    (package / "parts.py").write_text("SUFFIX = '!!'\n")
    async with shop.watching("ledger") as host:
        assert await host["ledger"].label() == "one!!"
        (package / "parts.py").write_text("SUFFIX = '??'\n")
        assert (await shop.reloaded()).committed
        assert await host["ledger"].label() == "one??"


async def test_what_the_program_has_imported_itself_stays_the_programs(shop, monkeypatch):
    monkeypatch.syspath_prepend(str(shop.path))
    import more  # the file of this test's own folder

    try:
        more.SUFFIX = " by the program"
        async with shop.open("ledger") as host:
            assert await host["ledger"].label() == "one by the program"
    finally:
        del sys.modules["more"]


def test_python_and_installed_names_beside_a_module_are_no_helpers(tmp_path):
    (tmp_path / "ledger.py").write_text("import json, replank, missing\n")
    alone = digest_of(tmp_path / "ledger.py")
    for name in ("json", "replank", "unused"):
        (tmp_path / f"{name}.py").write_text("")
    assert digest_of(tmp_path / "ledger.py") == alone
    (tmp_path / "missing.py").write_text("")
    assert digest_of(tmp_path / "ledger.py") != alone
