"""Large tables travel in a window, and a rollback in probation keeps every write."""

from __future__ import annotations

import asyncio
from pathlib import Path

from replank import Host, Outcome
from replank.config import Config, ReloadConfig
from tests.scenarios.load import NOTHING_WRONG, Load
from tests.scenarios.test_reloads_under_load import settled

RECORDS = 5_000
PROBELESS = ReloadConfig(probe=False, probation_s=60.0)


async def fill(host: Host, records: int) -> None:
    for number in range(records):
        await host["counter"].add(f"old-{number}", 1)


async def test_a_large_table_is_migrated_in_a_window_and_back_under_load(
    tmp_path: Path, modules: Path
) -> None:
    source = modules / "counter"
    config = Config(reload=PROBELESS)
    async with Host({"counter": source / "v1.py"}, data_dir=tmp_path, config=config) as host:
        counter = host["counter"]
        await fill(host, RECORDS)
        async with Load(counter.add, counter.send.add, callers=20, senders=2) as load:
            for _ in range(2):
                up = await host.reload({"counter": source / "v2.py"})
                assert up.outcome is Outcome.COMMITTED, up.error
                assert up.modules[0].mode == "windowed"
                assert up.modules[0].records_migrated >= RECORDS
                await load.some_answers(100)
                back = await host.rollback("counter")
                assert back.outcome is Outcome.COMMITTED, back.error
                assert back.modules[0].mode == "followed"
                await load.some_answers(100)
        await settled(host, "counter")
        account = await counter.account()
    account["sum"] -= RECORDS  # what `fill` added
    assert account["version"] == "1.0"
    assert load.compare(account) == NOTHING_WRONG


async def test_after_probation_a_rollback_is_an_ordinary_reload_down(
    tmp_path: Path, modules: Path
) -> None:
    source = modules / "counter"
    config = Config(reload=ReloadConfig(probe=False, probation_s=0.0))
    async with Host({"counter": source / "v1.py"}, data_dir=tmp_path, config=config) as host:
        await fill(host, RECORDS)
        assert (await host.reload({"counter": source / "v2.py"})).outcome is Outcome.COMMITTED
        await host["counter"].add("new", 1)
        back = await host.rollback("counter")
        assert back.outcome is Outcome.COMMITTED, back.error
        assert back.modules[0].mode == "windowed"
        assert (await host["counter"].account())["total"]["new"] == 1


async def test_what_the_old_version_has_no_room_for_comes_back_with_the_new_one(
    tmp_path: Path,
) -> None:
    old, new = tmp_path / "v1" / "notes.py", tmp_path / "v2" / "notes.py"
    for path, note in ((old, ""), (new, '    note: str = ""\n')):
        path.parent.mkdir()
        schema = 2 if note else 1
        steps = (
            'step(1, 2, add("pages.*.note", default=""), add("title", default=""))' if note else ""
        )
        path.write_text(
            "from replank import Module, Record, Table, add, step\n"
            f"class Page(Record):\n    text: str = ''\n{note}"
            f"class Notes(Module, version='{schema}', schema={schema}):\n"
            "    pages: Table[str, Page]\n"
            + ("    title: str = ''\n" if note else "")
            + f"    migrations = [{steps}]\n"
            "    async def put(self, key, text):\n"
            "        self.pages.setdefault(key, Page()).text = text\n"
            + (
                "    async def annotate(self, key, note):\n"
                "        self.pages[key].note = note\n        self.title = note\n"
                "    async def read(self, key):\n"
                "        return self.pages[key].text, self.pages[key].note, self.title\n"
                if note
                else "    async def read(self, key):\n        return self.pages[key].text\n"
            )
        )
    config = Config(reload=PROBELESS)
    async with Host({"notes": old}, data_dir=tmp_path / "data", config=config) as host:
        notes = host["notes"]
        for number in range(3_000):
            await notes.put(f"p{number}", "first")
        up = await host.reload({"notes": new})
        assert up.outcome is Outcome.COMMITTED, up.error
        await notes.annotate("p7", "keep me")
        back = await host.rollback("notes")
        assert back.outcome is Outcome.COMMITTED, back.error
        assert await notes.read("p7") == "first"
        await notes.put("p7", "second")
        again = await host.reload({"notes": new})
        assert again.outcome is Outcome.COMMITTED, again.error
        assert await notes.read("p7") == ("second", "keep me", "keep me")


async def test_a_record_that_cannot_be_migrated_rejects_the_reload_and_is_named(
    tmp_path: Path, modules: Path
) -> None:
    source = modules / "counter"
    broken = tmp_path / "counter.py"
    broken.write_text(
        (source / "v2.py")
        .read_text()
        .replace(
            'add("senders.*.note", default=""),',
            'add("senders.*.note", default=""),\n'
            '            convert("senders.*.total", lambda n: 100 // (n - 3), lambda n: n),',
        )
        .replace(
            "import Module, Record, Table, add,", "import Module, Record, Table, add, convert,"
        )
    )
    config = Config(reload=PROBELESS)
    async with Host({"counter": source / "v1.py"}, data_dir=tmp_path / "d", config=config) as host:
        await fill(host, RECORDS)
        await host["counter"].add("bad", 1)
        await host["counter"].add("bad", 2)
        report = await host.reload({"counter": broken})
        assert report.outcome is Outcome.REJECTED
        assert report.error is not None
        assert "old-0" in report.error.message or "bad" in report.error.message
        assert report.pause_s == 0.0
        assert len((await host["counter"].account())["last"]) == RECORDS + 1


async def test_a_reload_during_probation_ends_it_first(tmp_path: Path, modules: Path) -> None:
    source = modules / "counter"
    config = Config(reload=PROBELESS)
    async with Host({"counter": source / "v1.py"}, data_dir=tmp_path, config=config) as host:
        await fill(host, RECORDS)
        for version in ("v2.py", "v1.py", "v2.py"):
            report = await host.reload({"counter": source / version})
            assert report.outcome is Outcome.COMMITTED, report.error
            assert report.modules[0].mode == "windowed"
        assert (await host["counter"].account())["sum"] == RECORDS
    async with Host({"counter": source / "v1.py"}, data_dir=tmp_path, config=config) as host:
        assert (await host["counter"].account())["sum"] == RECORDS
        assert (await host["counter"].account())["version"] == "2.0"


async def test_a_write_that_no_call_waits_for_is_not_lost_in_the_window(
    tmp_path: Path, modules: Path
) -> None:
    """Writes between the slices of the copy, at random places, all arrive."""
    source = modules / "counter"
    config = Config(reload=PROBELESS)
    async with Host({"counter": source / "v1.py"}, data_dir=tmp_path, config=config) as host:
        await fill(host, RECORDS)
        ticket = host.reload({"counter": source / "v2.py"})
        written = 0
        while not ticket.done:
            await host["counter"].add(f"old-{written * 37 % RECORDS}", 2 + written // RECORDS)
            written += 1
            await asyncio.sleep(0)
        assert (await ticket).outcome is Outcome.COMMITTED
        account = await host["counter"].account()
        extra = sum(2 + n // RECORDS for n in range(written))
        assert account["sum"] == RECORDS + extra == sum(account["total"].values())
