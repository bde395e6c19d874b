"""Lazy mode: records are checked before the swap, and migrated when they are first used."""

from __future__ import annotations

from pathlib import Path

import pytest

from replank import Host, Outcome
from replank.config import Config, ReloadConfig
from replank.state.lazy import LazyTable
from replank.table import Table
from tests.scenarios.load import NOTHING_WRONG, Load
from tests.scenarios.test_large_states import fill
from tests.scenarios.test_reloads_under_load import settled

RECORDS = 4_000

BOX = """
from replank import Module, Record, Table, check, convert, step

class Item(Record):
    {field}: {kind}
    label: str = ""

class Box(Module, version="{schema}.0", schema={schema}):
    items: Table[str, Item]
    other: Table[str, Item]
    migrations = [{steps}]

    @check
    async def is_sound(self):
        seen = dict(self.items.items())
        assert len(self.items) == len(seen) and list(self.items.keys()) == list(seen)
        if "k1" in self.items:
            assert self.items.get("k1").{field} == self.items["k1"].{field}
            assert self.items.get("nobody") is None and "nobody" not in self.items
            assert isinstance(self.items["k1"].{field}, {kind})

    async def fill(self, count):
        for number in range(count):
            self.items[f"k{{number}}"] = Item({value})
        self.other["shared"] = self.items["k1"]
        self.items["twin"] = self.items["k1"]

    async def read(self, key):
        return self.items[key].{field}

    async def label(self, key, label):
        self.items[key].label = label

    async def labels(self):
        twin, shared = self.items["twin"], self.other["shared"]
        return twin is self.items["k1"] is shared, twin.label, shared.label

    async def put(self, key, number):
        self.items[key] = Item({value})

    async def drop(self, key):
        return self.items.pop(key).{field}

    async def all(self):
        return {{key: item.{field} for key, item in self.items.items()}}

    async def table(self):
        return self.items
"""


@pytest.fixture
def versions(tmp_path: Path) -> tuple[Path, Path]:
    paths = tmp_path / "v1" / "box.py", tmp_path / "v2" / "box.py"
    step = (
        'step(1, 2, convert("items.*.n", lambda n: str(100 // (n - 13_000_000) * 0 + n), int),'
        ' convert("other.*.n", str, int))'
    )
    for path, kind, schema, steps, value in (
        (paths[0], "int", 1, "", "number"),
        (paths[1], "str", 2, step, "str(number)"),
    ):
        path.parent.mkdir()
        path.write_text(BOX.format(field="n", kind=kind, schema=schema, steps=steps, value=value))
    return paths


def host_of(tmp_path: Path, source: Path, *, probation_s: float = 60.0, **limits: object) -> Host:
    config = Config(reload=ReloadConfig(probe=False, probation_s=probation_s, **limits))
    return Host({"box": source}, data_dir=tmp_path / "data", config=config)


async def test_a_lazy_state_is_migrated_and_taken_back_under_load(
    tmp_path: Path, modules: Path
) -> None:
    source = modules / "counter"
    config = Config(reload=ReloadConfig(probe=False, probation_s=60.0))
    async with Host({"counter": source / "v1.py"}, data_dir=tmp_path, config=config) as host:
        counter = host["counter"]
        await fill(host, RECORDS)
        async with Load(counter.add, counter.send.add, callers=20, senders=2) as load:
            for _ in range(2):
                up = await host.reload({"counter": source / "v2.py"}, mode="lazy")
                assert up.outcome is Outcome.COMMITTED, up.error
                assert up.modules[0].mode == "lazy"
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


async def test_only_what_is_used_is_migrated_until_probation_ends(
    tmp_path: Path, versions: tuple[Path, Path]
) -> None:
    async with host_of(tmp_path, versions[0]) as host:
        box = host["box"]
        await box.fill(RECORDS)
        table = await box.table()
        report = await host.reload({"box": versions[1]}, mode="lazy")
        assert report.outcome is Outcome.COMMITTED, report.error
        await host._routes.slot("box").probation.settled()
        assert isinstance(table, LazyTable)
        assert sum(map(len, table._layers.fresh)) == 0
        assert await box.read("k7") == "7"
        await box.put("new", 5)
        assert await box.drop("k8") == "8"
        assert sum(map(len, table._layers.fresh)) == 2
        await host._routes.slot("box").probation.end()
        assert type(table) is Table
        expected = {f"k{n}": str(n) for n in range(RECORDS) if n != 8} | {"twin": "1", "new": "5"}
        found = await box.all()
        assert found == expected
        assert list(found) == list(expected)


async def test_an_object_under_several_keys_stays_one_up_and_back(
    tmp_path: Path, versions: tuple[Path, Path]
) -> None:
    async with host_of(tmp_path, versions[0]) as host:
        box = host["box"]
        await box.fill(RECORDS)
        assert (await host.reload({"box": versions[1]}, mode="lazy")).committed
        await box.label("twin", "mine")
        back = await host.rollback("box")
        assert back.outcome is Outcome.COMMITTED, back.error
        assert await box.labels() == (True, "mine", "mine")
        assert (await host.reload({"box": versions[1]}, mode="lazy")).committed
        assert await box.labels() == (True, "mine", "mine")


async def test_a_record_that_does_not_migrate_rejects_a_lazy_reload_too(
    tmp_path: Path, versions: tuple[Path, Path]
) -> None:
    async with host_of(tmp_path, versions[0]) as host:
        box = host["box"]
        await box.fill(RECORDS)
        await box.put("bad", 13_000_000)
        report = await host.reload({"box": versions[1]}, mode="lazy")
        assert report.outcome is Outcome.REJECTED
        assert "bad" in report.error.message
        assert type(await box.table()) is Table
        assert await box.read("bad") == 13_000_000


async def test_a_state_with_no_memory_for_two_of_it_is_taken_lazily(
    tmp_path: Path, versions: tuple[Path, Path]
) -> None:
    limit = RECORDS * 150
    async with host_of(tmp_path, versions[0], max_memory_bytes=limit) as host:
        await host["box"].fill(RECORDS)
        plan = await host.plan({"box": versions[1]})
        assert plan.accepted, plan.error
        assert plan.modules[0].mode == "lazy"
        assert plan.modules[0].predicted.memory_bytes <= limit
        windowed = await host.plan({"box": versions[1]}, mode="windowed")
        assert not windowed.accepted
        assert "memory" in windowed.error.message


async def test_what_was_not_used_yet_is_kept_over_a_restart(
    tmp_path: Path, versions: tuple[Path, Path]
) -> None:
    async with host_of(tmp_path, versions[0]) as host:
        await host["box"].fill(RECORDS)
        assert (await host.reload({"box": versions[1]}, mode="lazy")).committed
        await host["box"].put("k5", 55)
    async with host_of(tmp_path, versions[1]) as host:
        assert await host["box"].all() == {
            **{f"k{n}": str(n) for n in range(RECORDS)},
            "k5": "55",
            "twin": "1",
        }


async def test_without_a_way_back_all_is_migrated_soon_after_the_commit(
    tmp_path: Path, versions: tuple[Path, Path]
) -> None:
    async with host_of(tmp_path, versions[0], probation_s=0.0) as host:
        await host["box"].fill(RECORDS)
        for version in (1, 0, 1):
            report = await host.reload({"box": versions[version]}, mode="lazy")
            assert report.outcome is Outcome.COMMITTED, report.error
        table = await host["box"].table()
        await host._routes.slot("box").probation.end()
        assert type(table) is Table
        assert len(await host["box"].all()) == RECORDS + 1
