"""A record that does not migrate: the reload is rejected, or it is set aside, or it is mended."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from replank import Host, Outcome
from replank.config import Config, ModuleConfig, ReloadConfig
from replank.errors import UsageError
from replank.instrumentation.events import PhaseEnded

V1 = """
from replank import Module, Record, Table

class Item(Record):
    price: str = "0"
    name: str = ""

class Shop(Module, version="1.0", schema=1):
    items: Table[str, Item]
    async def put(self, key, price, name=""):
        self.items[key] = Item(price, name)
    async def read(self, key):
        return (self.items[key].price, self.items[key].name)
    async def keys(self):
        return list(self.items)
"""
V2 = """
from replank import Module, Record, Table, convert, step

class Item(Record):
    price: int = 7
    name: str = ""

def to_number(text):
    return READ(text)

class Shop(Module, version="2.0", schema=2):
    items: Table[str, Item]
    migrations = [step(1, 2, convert("items.*.price", to_number, lambda n: WRITE))]
    async def put(self, key, price, name=""):
        self.items[key] = Item(price, name)
    async def read(self, key):
        return (self.items[key].price, self.items[key].name)
    async def keys(self):
        return list(self.items)
"""
MENDED = "int(text) if text.isdigit() else -1"

EAGER, WINDOWED = 20, 2_500
sizes = pytest.mark.parametrize("records", [EAGER, WINDOWED], ids=["eager", "windowed"])


def sources(folder: Path) -> tuple[Path, Path, Path]:
    """Write three versions: the third can read the prices that the second cannot."""
    third = V2.replace('version="2.0"', 'version="3.0"')
    texts = {
        "v1": V1,
        "v2": V2.replace("READ(text)", "int(text)").replace(
            "WRITE", "{13: None}.get(n, str(n))[:]"
        ),
        "v3": third.replace("READ(text)", MENDED).replace("WRITE", "'odd' if n == -1 else str(n)"),
    }
    for name, text in texts.items():
        path = folder / name / "shop.py"
        path.parent.mkdir(parents=True)
        path.write_text(text)
    return tuple(folder / name / "shop.py" for name in texts)


def host_of(folder: Path, source: Path, **module: object) -> Host:
    config = Config(
        modules={"shop": ModuleConfig(source=str(source), **module)},
        reload=ReloadConfig(probe=False, probation_s=60.0),
    )
    return Host(data_dir=folder / "data", config=config)


async def fill(host: Host, records: int, bad: dict[str, str]) -> None:
    for number in range(records):
        await host["shop"].put(f"k{number}", str(number), "plain")
    for key, price in bad.items():
        await host["shop"].put(key, price, "kept")


@sizes
async def test_by_default_one_bad_record_rejects_the_reload(tmp_path: Path, records: int) -> None:
    v1, v2, _ = sources(tmp_path)
    async with host_of(tmp_path, v1) as host:
        await fill(host, records, {"k3": "odd"})
        report = await host.reload({"shop": v2})
        assert report.outcome is Outcome.REJECTED
        assert "k3" in report.error.message
        assert await host["shop"].read("k3") == ("odd", "kept")
        assert await host.quarantined("shop") == ()


@sizes
async def test_bad_records_are_set_aside_and_told_and_the_rest_migrates(
    tmp_path: Path, records: int
) -> None:
    v1, v2, _ = sources(tmp_path)
    async with host_of(tmp_path, v1, on_bad_record="quarantine") as host:
        await fill(host, records, {"k3": "odd", "k5": "even"})
        plan = await host.plan({"shop": v2})
        assert plan.accepted
        assert plan.modules[0].quarantined == 2
        report = await host.reload({"shop": v2})
        assert report.outcome is Outcome.COMMITTED, report.error
        told = report.modules[0]
        assert (told.quarantined, told.defaulted) == (2, 0)
        assert {one.key for one in told.bad_records} == {"'k3'", "'k5'"}
        assert {one.field for one in told.bad_records} == {"price"}
        assert all("1 -> 2" in one.step or "1, 2" in one.step for one in told.bad_records)
        keys = await host["shop"].keys()
        assert "k3" not in keys
        assert len(keys) == records - 2
        assert await host["shop"].read("k4") == (4, "plain")
        kept = await host.quarantined("shop")
        assert [(one.table, one.key, one.field) for one in kept] == [
            ("items", "k3", "price"),
            ("items", "k5", "price"),
        ]
        assert "'odd'" in kept[0].value
        assert "ValueError" in kept[0].reason


@sizes
async def test_one_bad_record_more_than_allowed_rejects_and_names_the_first(
    tmp_path: Path, records: int
) -> None:
    v1, v2, _ = sources(tmp_path)
    async with host_of(tmp_path, v1, on_bad_record="quarantine", quarantine_max=1) as host:
        await fill(host, records, {"k3": "odd", "k5": "even"})
        report = await host.reload({"shop": v2})
        assert report.outcome is Outcome.REJECTED
        assert report.error.kind == "TooManyBadRecords"
        assert "'k3'" in report.error.found
        assert "'k5'" in report.error.found
        assert await host["shop"].read("k3") == ("odd", "kept")
        assert await host.quarantined("shop") == ()
        allowed = await host.reload({"shop": v2}, quarantine_max=2)
        assert allowed.outcome is Outcome.COMMITTED, allowed.error


@sizes
async def test_a_field_that_does_not_migrate_gets_its_default_and_is_counted(
    tmp_path: Path, records: int
) -> None:
    v1, v2, _ = sources(tmp_path)
    async with host_of(tmp_path, v1) as host:
        await fill(host, records, {"k3": "odd"})
        report = await host.reload({"shop": v2}, on_bad_record="default")
        assert report.outcome is Outcome.COMMITTED, report.error
        told = report.modules[0]
        assert (told.quarantined, told.defaulted) == (0, 1)
        assert told.bad_records[0].filled == ("price",)
        assert await host["shop"].read("k3") == (7, "kept")
        assert await host["shop"].read("k5") == (5, "plain")
        assert (await host["shop"].keys())[3] == "k3"
        kept = await host.quarantined("shop")
        assert [(one.key, one.filled) for one in kept] == [("k3", ("price",))]


@sizes
async def test_records_come_back_from_the_quarantine_when_the_step_is_mended(
    tmp_path: Path, records: int
) -> None:
    v1, v2, v3 = sources(tmp_path)
    async with host_of(tmp_path, v1, on_bad_record="quarantine") as host:
        await fill(host, records, {"k3": "odd", "k5": "odd"})
        assert (await host.reload({"shop": v2})).committed
        early = await host.take_back("shop")
        assert early.taken == 0
        assert len(early.refused) == 2
        assert (await host.reload({"shop": v3})).committed
        await host["shop"].put("k5", 55)
        back = await host.take_back("shop")
        assert back.taken == 1
        assert "a record with this key serves" in back.refused[0]
        assert await host["shop"].read("k3") == (-1, "kept")
        assert [one.key for one in await host.quarantined("shop")] == ["k5"]
        gone = await host.take_back("shop", ["k5"], discard=True)
        assert gone.discarded == 1
        assert await host.quarantined("shop") == ()


@sizes
async def test_the_quarantine_and_what_was_taken_back_outlive_a_restart(
    tmp_path: Path, records: int
) -> None:
    v1, v2, v3 = sources(tmp_path)
    async with host_of(tmp_path, v1, on_bad_record="quarantine") as host:
        await fill(host, records, {"k3": "odd", "k5": "odd"})
        assert (await host.reload({"shop": v2})).committed
    async with host_of(tmp_path, v3, on_bad_record="quarantine") as host:
        assert len(await host.quarantined("shop")) == 2
        assert (await host.reload("shop")).committed
        assert (await host.take_back("shop", ["k3"])).taken == 1
    async with host_of(tmp_path, v3) as host:
        assert await host["shop"].read("k3") == (-1, "kept")
        assert [one.key for one in await host.quarantined("shop")] == ["k5"]


async def test_a_rollback_brings_set_aside_records_back_and_empties_the_quarantine(
    tmp_path: Path,
) -> None:
    v1, v2, _ = sources(tmp_path)
    async with host_of(tmp_path, v1, on_bad_record="quarantine") as host:
        await fill(host, WINDOWED, {"k3": "odd"})
        assert (await host.reload({"shop": v2})).committed
        assert len(await host.quarantined("shop")) == 1
        back = await host.rollback("shop")
        assert back.outcome is Outcome.COMMITTED, back.error
        assert back.modules[0].quarantined == 0
        assert await host["shop"].read("k3") == ("odd", "kept")
        assert await host.quarantined("shop") == ()


@sizes
async def test_records_written_while_the_reload_runs_are_set_aside_too(
    tmp_path: Path, records: int
) -> None:
    v1, v2, _ = sources(tmp_path)
    async with host_of(tmp_path, v1, on_bad_record="quarantine", quarantine_max=10**6) as host:
        await fill(host, records, {"k3": "odd"})
        reload = asyncio.ensure_future(host.reload({"shop": v2}))
        written = 0
        while not reload.done():
            written += 1
            price = "odd" if written % 3 == 0 else str(written)
            await host["shop"].put(f"k{written % records}", price)
            await host["shop"].put(f"new{written}", price)
            await asyncio.sleep(0)
        report = await reload
        assert report.outcome is Outcome.COMMITTED, report.error
        keys = set(await host["shop"].keys())
        # the last writes may have waited for the new version, which takes any text as a price
        kept = {one.key for one in await host.quarantined("shop")}
        assert len(kept) == report.modules[0].quarantined > 1
        everything = {f"k{n}" for n in range(records)} | {f"new{n + 1}" for n in range(written)}
        assert keys | kept == everything


async def test_a_record_that_does_not_go_down_is_set_aside_by_the_follower(
    tmp_path: Path,
) -> None:
    v1, v2, _ = sources(tmp_path)
    async with host_of(tmp_path, v1, on_bad_record="quarantine") as host:
        await fill(host, WINDOWED, {})
        assert (await host.reload({"shop": v2})).committed
        await host["shop"].put("k1", 13)
        await host["shop"].put("k2", 14)
        back = await host.rollback("shop")
        assert back.outcome is Outcome.COMMITTED, back.error
        assert back.modules[0].mode == "followed"
        assert back.modules[0].quarantined == 1
        assert "k1" not in await host["shop"].keys()
        assert await host["shop"].read("k2") == ("14", "")
        kept = await host.quarantined("shop")
        assert [(one.key, one.schema) for one in kept] == [("k1", 2)]


async def test_an_unknown_choice_is_refused_with_what_there_is(tmp_path: Path) -> None:
    v1, v2, _ = sources(tmp_path)
    async with host_of(tmp_path, v1) as host:
        with pytest.raises(UsageError, match="quarantine"):
            host.reload({"shop": v2}, on_bad_record="ignore")


async def test_a_bad_record_of_the_last_moment_is_met_before_any_call_waits(tmp_path):
    """What was written since the rehearsal is migrated once more while the gate is open."""
    v1, v2, _ = sources(tmp_path)
    async with host_of(tmp_path, v1) as host:
        await host["shop"].put("good", "5")

        def write(event: object) -> None:
            if isinstance(event, PhaseEnded) and (event.phase, event.where) == ("verify", "window"):
                host._routes.current("shop").target.items["late"].price = "none"

        await host["shop"].put("late", "6")
        host.subscribe(write)
        report = await host.reload({"shop": v2})
        assert report.outcome is Outcome.REJECTED, report.error
        assert report.calls_held == 0
        assert "late" in str(report.error)
        assert await host["shop"].read("late") == ("none", "")
