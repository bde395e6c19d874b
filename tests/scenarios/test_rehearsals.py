"""`plan --rehearse`: the whole reload on a forked copy of the real state; the host only stands by."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from replank import Host, Outcome
from replank.config import Config, ModuleConfig, ReloadConfig
from replank.coordinator import rehearsal
from replank.errors import UsageError
from replank.report import Plan
from tests.scenarios.test_command_line import Folder

V1 = """
from replank import Carry, Module, Record, Table, add, check, convert, every, invariant, query, step

class Account(Record):
    owner: str
    cents: str = "0"

class Ledger(Module, version="1", schema=1):
    accounts: Table[str, Account]
    rates: dict[str, str]

    async def fill(self, count: int) -> None:
        for n in range(count):
            self.accounts[f"a{n}"] = Account(f"o{n}", str(n))

    async def put(self, key: str, cents: str) -> None:
        self.accounts[key] = Account("x", cents)

    async def rate(self, key: str, rate: str) -> None:
        self.rates[key] = rate

    @invariant
    def count(self) -> int:
        return len(self.accounts)

    @query
    async def size(self) -> int:
        return len(self.accounts)
"""
STEP = 'step(1, 2, convert("accounts.*.cents", int, str), convert("rates.*", float, str))'
V2 = (
    V1.replace('version="1", schema=1', 'version="2", schema=2')
    .replace('cents: str = "0"', "cents: int = 0")
    .replace("dict[str, str]", "dict[str, float]")
    .replace("self.rates[key] = rate", "self.rates[key] = float(rate)")
    .replace("    @invariant", f"    migrations = [{STEP}]\n    # more\n\n    @invariant")
)
LARGE, SMALL = 6_000, 50


class Ledger:
    """A host with the ledger, and rehearsals of its second version."""

    def __init__(self, folder: Path, **module: Any) -> None:
        self.folder = folder
        self.v1, self.v2 = folder / "ledger.py", folder / "v2" / "ledger.py"
        self.v2.parent.mkdir()
        self.v1.write_text(V1)
        self.v2.write_text(V2)
        reload = ReloadConfig(probe=False, probation_s=60.0, **module)
        modules = {"ledger": ModuleConfig(source=str(self.v1))}
        self.host = Host(
            config=Config(modules=modules, data_dir=str(folder / "data"), reload=reload)
        )

    def edit(self, old: str, new: str) -> None:
        text = self.v2.read_text()
        assert old in text
        self.v2.write_text(text.replace(old, new))

    async def rehearse(self) -> Plan:
        return await self.host.plan({"ledger": self.v2}, rehearse=True)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path)


@pytest.mark.parametrize("count", [SMALL, LARGE])
async def test_a_good_version_is_rehearsed_whole_and_nothing_is_changed(
    ledger: Ledger, count: int
) -> None:
    ledger.edit("    # more", "    @check\n    async def sane(self):\n        assert self.accounts")
    async with ledger.host as host:
        await host["ledger"].fill(count)
        before = sorted(path.name for path in ledger.folder.rglob("*") if path.is_file())
        found = await ledger.rehearse()
        assert found.accepted, found.error
        assert found.rehearsal is not None
        assert found.rehearsal.records == count
        assert found.rehearsal.bad == 0
        assert set(found.rehearsal.checks) == {"ledger.count", "ledger.sane"}
        assert found.rehearsal.fork_s > 0
        assert found.rehearsal.window_s > 0
        assert found.modules[0].mode == ("windowed" if count == LARGE else "eager")
        assert found.modules[0].steps
        after = sorted(path.name for path in ledger.folder.rglob("*") if path.is_file())
        kept = {"ledger.py"}  # the candidate's source is stored, as for every plan
        assert {name for name in set(after) - set(before) if not name.endswith(".py")} <= kept
        assert (await host["ledger"].size()) == count
        assert len(await host.history()) == 1
        report = await host.reload({"ledger": ledger.v2})
        assert report.outcome is Outcome.COMMITTED, report.error


@pytest.mark.parametrize("count", [SMALL, LARGE])
async def test_every_bad_record_is_reported_with_step_key_field_and_values(
    ledger: Ledger, count: int
) -> None:
    async with ledger.host as host:
        await host["ledger"].fill(count)
        for n in range(30):
            await host["ledger"].put(f"bad{n}", f"{n} apples")
        await host["ledger"].rate("eur", "much")
        found = await ledger.rehearse()
        assert not found.accepted
        assert found.rehearsal is not None
        assert found.rehearsal.bad == 31
        assert len(found.rehearsal.bad_records) == 20
        first = found.rehearsal.bad_records[0]
        assert (first.module, first.key, first.field) == (
            "ledger",
            "'bad0'",
            "accounts['bad0'].cents",
        )
        assert (first.step, first.old, first.new) == ("step 1 -> 2", "'0 apples'", "")
        assert "invalid literal for int()" in first.message
        assert found.error is not None
        assert "replank plan ledger --rehearse" in str(found.error.do)
        assert await host["ledger"].size() == count + 30
        assert (await host.reload({"ledger": ledger.v2})).outcome is Outcome.REJECTED


async def test_what_does_not_fit_its_new_type_or_come_back_is_told_with_the_new_value(
    ledger: Ledger,
) -> None:
    ledger.edit(
        'convert("accounts.*.cents", int, str)',
        'convert("accounts.*.cents", lambda t: None if t == "7" else int(t) // 2 * 2, str)',
    )
    async with ledger.host as host:
        await host["ledger"].put("a", "8")
        await host["ledger"].put("odd", "9")
        await host["ledger"].put("none", "7")
        await host["ledger"].fill(0)
        for n in range(LARGE):
            await host["ledger"].put(f"k{n}", str(n * 2))
        found = await ledger.rehearse()
        assert found.rehearsal is not None
        bad = {one.key: one for one in found.rehearsal.bad_records}
        assert "'none'" in bad
        assert bad["'none'"].field == "accounts['none'].cents"
        assert bad["'none'"].new.startswith("None")
        assert "'a'" not in bad


async def test_a_failing_check_and_a_broken_invariant_reject_with_what_to_do(
    ledger: Ledger,
) -> None:
    ledger.edit(
        "    # more", "    @check\n    async def sane(self):\n        raise ValueError('no')"
    )
    async with ledger.host as host:
        await host["ledger"].fill(SMALL)
        found = await ledger.rehearse()
        assert found.error is not None
        assert "check sane failed: no" in found.error.message
        assert "rehearse again" in str(found.error.do)
        assert found.rehearsal is not None
        assert found.rehearsal.bad == 0
        ledger.edit("raise ValueError('no')", "pass")
        ledger.edit("return len(self.accounts)\n\n    @query", "return 0\n\n    @query")
        found = await ledger.rehearse()
        assert found.error is not None
        assert "invariant count does not hold" in found.error.message


async def test_a_check_that_needs_a_connection_says_so_and_rejects_nothing(
    ledger: Ledger,
) -> None:
    ledger.edit("    rates: dict", "    link: Carry[object] = None\n    rates: dict")
    ledger.edit(
        "    # more", "    @check\n    async def sane(self):\n        raise OSError('gone')"
    )
    async with ledger.host as host:
        await host["ledger"].fill(SMALL)
        found = await ledger.rehearse()
        assert found.accepted, found.error
        assert any("connections lead nowhere (link)" in text for text in found.warnings)


async def test_the_host_serves_and_its_files_and_journal_are_untouched_by_what_the_copy_does(
    ledger: Ledger,
) -> None:
    out = ledger.folder / "written"
    ledger.edit(
        "    # more",
        "    @check\n    async def sane(self):\n"
        f"        try:\n            open({str(out)!r}, 'w').write('x' * 9000)\n"
        "        except OSError as error:\n            raise ValueError(f'errno {error.errno}')",
    )
    async with ledger.host as host:
        await host["ledger"].fill(LARGE)
        answers = 0
        rehearsing = asyncio.ensure_future(ledger.rehearse())
        while not rehearsing.done():
            await host["ledger"].put(f"new{answers}", "1")
            answers += 1
            await asyncio.sleep(0)
        found = await rehearsing
        assert answers > 10
        assert found.error is not None
        assert "check sane failed: errno 27" in found.error.message
        assert out.read_text() == ""
        assert await host["ledger"].size() == LARGE + answers
    journal = sqlite3.connect(ledger.folder / "data" / "journal.sqlite")
    assert journal.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    journal.close()


async def test_a_candidate_that_kills_its_process_or_never_ends_harms_nobody(
    tmp_path: Path,
) -> None:
    ledger = Ledger(tmp_path, window_timeout_s=0.5, verify_timeout_s=30.0)
    kill = "__import__('os').kill(__import__('os').getpid(), 9)"
    ledger.edit("    # more", f"    @check\n    async def sane(self):\n        {kill}")
    async with ledger.host as host:
        await host["ledger"].fill(SMALL)
        found = await ledger.rehearse()
        assert found.error is not None
        assert "the rehearsal ended without an answer" in found.error.message
        ledger.edit(kill, "__import__('signal').pause()")
        found = await ledger.rehearse()
        assert found.error is not None
        assert "the rehearsal did not end in time" in found.error.message
        assert await host["ledger"].size() == SMALL


async def test_more_memory_than_a_reload_may_take_is_refused_in_the_copy(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, max_memory_bytes=30_000_000)
    ledger.edit(
        "    # more", "    @check\n    async def sane(self):\n        bytearray(400_000_000)"
    )
    async with ledger.host as host:
        await host["ledger"].fill(SMALL)
        found = await ledger.rehearse()
        assert found.error is not None
        assert "MemoryError" in str(found.error.found)


async def test_in_probation_the_new_state_is_rehearsed_and_the_way_back_stays(
    ledger: Ledger,
) -> None:
    async with ledger.host as host:
        await host["ledger"].fill(LARGE)
        assert (await host.reload({"ledger": ledger.v2})).committed
        ledger.edit('version="2"', 'version="3"')
        found = await ledger.rehearse()
        assert found.accepted, found.error
        assert found.modules[0].mode == "windowed"
        assert found.rehearsal is not None
        assert found.rehearsal.records == LARGE
        await host["ledger"].rate("eur", "1.5")
        back = await host.rollback("ledger")
        assert back.committed, back.error
        assert back.modules[0].mode == "followed"


async def test_a_candidate_that_does_not_load_is_told_without_a_copy(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rehearsal, "Fork", None)
    ledger.edit("class Ledger", "class class")
    async with ledger.host:
        found = await ledger.rehearse()
    assert found.error is not None
    assert found.rehearsal is None
    assert "rehearse again" in str(found.error.do)


async def test_where_no_process_can_be_copied_the_plan_says_what_to_do(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rehearsal, "can_fork", lambda: False)
    async with ledger.host:
        with pytest.raises(UsageError, match="without --rehearse"):
            await ledger.rehearse()


def test_the_command_shows_bad_records_and_ends_with_three(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.source.write_text(V1)
    with folder.host():
        assert folder.replank("call", "ledger", "put", "bob", '"many"').returncode == 0
        folder.source.write_text(V2)
        shown = folder.replank("plan", "ledger", "--rehearse")
        assert shown.returncode == 3
        assert "✘ 1 bad record" in shown.stdout
        assert "accounts['bob'].cents: 'many'" in shown.stdout
        assert "rehearse again: replank plan ledger --rehearse" in shown.stdout
        assert folder.replank("call", "ledger", "put", "bob", '"7"').returncode == 0
        good = folder.replank("plan", "ledger", "--rehearse", "--json")
        assert good.returncode == 0
        facts = json.loads(good.stdout)
        assert (facts["accepted"], facts["rehearsal"]["bad"]) == (True, 0)
        assert facts["rehearsal"]["records"] == 1
