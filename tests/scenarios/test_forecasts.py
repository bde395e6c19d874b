"""What a reload will cost is said before, refused when it is too much, and set beside what it took."""

from __future__ import annotations

from pathlib import Path

import pytest

from replank import Host, Outcome
from replank.config import Config, ReloadConfig
from replank.report import Plan, ReloadReport

MODULE = """
from replank import Module, Record, Table, add, step

class Item(Record):
    price: int = 0
{field}
class Shop(Module, version="{schema}.0", schema={schema}):
    items: Table[str, Item]
    log: list[str] = []
    migrations = [{steps}]
    async def fill(self, items, lines):
        for number in range(items):
            self.items[f"k{{number}}"] = Item(number)
        self.log.extend(f"line {{number}}" for number in range(lines))
"""


@pytest.fixture
def versions(tmp_path: Path) -> tuple[Path, Path]:
    paths = tmp_path / "v1" / "shop.py", tmp_path / "v2" / "shop.py"
    for path in paths:
        path.parent.mkdir()
    paths[0].write_text(MODULE.format(field="", schema=1, steps=""))
    new = MODULE.format(
        field="    tier: str = 'basic'\n",
        schema=2,
        steps='step(1, 2, add("items.*.tier", default="basic"))',
    )
    paths[1].write_text(new)
    return paths


def host_of(tmp_path: Path, source: Path, **limits: object) -> Host:
    config = Config(reload=ReloadConfig(probe=False, probation_s=0.0, **limits))
    return Host({"shop": source}, data_dir=tmp_path / "data", config=config)


@pytest.mark.parametrize(("items", "mode"), [(50, "eager"), (4_000, "windowed")])
async def test_a_report_sets_what_was_measured_beside_what_was_predicted(
    tmp_path: Path, versions: tuple[Path, Path], items: int, mode: str
) -> None:
    async with host_of(tmp_path, versions[0]) as host:
        await host["shop"].fill(items, 0)
        plan = await host.plan({"shop": versions[1]})
        report = await host.reload({"shop": versions[1]})
    planned = Plan.from_json(plan.to_json()).modules[0]
    done = ReloadReport.from_json(report.to_json()).modules[0]
    assert planned.mode == done.mode == mode
    for predicted, measured in (
        (planned.predicted, planned.measured),
        (done.predicted, done.measured),
    ):
        assert predicted.pause_s > 0
        assert predicted.memory_bytes > items * 50
        assert measured.window_s > 0
        assert (predicted.window_s > 0) == (mode == "windowed")
    assert planned.measured.pause_s == 0
    assert done.measured.pause_s > 0
    assert planned.state_bytes > items * 50


async def test_too_much_memory_is_refused_before_anything_is_copied(
    tmp_path: Path, versions: tuple[Path, Path]
) -> None:
    async with host_of(tmp_path, versions[0], max_memory_bytes=100_000) as host:
        await host["shop"].fill(4_000, 0)
        report = await host.reload({"shop": versions[1]})
        assert report.outcome is Outcome.REJECTED
        assert report.error.phase == "prepare"
        assert "bytes more" in report.error.found
        assert "100,000" in report.error.expected
        assert [phase.name for phase in report.phases] == ["prepare"]
        told = await host.reload({"shop": versions[1]}, over_limits=True)
        assert told.outcome is Outcome.COMMITTED, told.error


async def test_a_long_pause_is_refused_with_the_field_and_its_milliseconds(
    tmp_path: Path, versions: tuple[Path, Path]
) -> None:
    async with host_of(tmp_path, versions[0], max_pause_s=0.002) as host:
        await host["shop"].fill(3_000, 100_000)
        plan = await host.plan({"shop": versions[1]})
        assert not plan.accepted
        assert any(
            "log: its 100,000 items are copied in the pause" in n for n in plan.modules[0].notes
        )
        report = await host.reload({"shop": versions[1]})
        assert report.outcome is Outcome.REJECTED
        assert report.error.phase == "prepare"
        assert "log" in report.error.found
        assert "0.002" in report.error.expected
        assert [phase.name for phase in report.phases] == ["prepare"]
        told = await host.reload({"shop": versions[1]}, over_limits=True)
        assert told.outcome is Outcome.COMMITTED, told.error


async def test_few_records_that_take_long_to_copy_get_a_window(tmp_path: Path) -> None:
    source = tmp_path / "books.py"
    source.write_text(
        "from replank import Module, Record, Table\n"
        "class Book(Record):\n    pages: list[int]\n"
        "class Books(Module):\n    books: Table[int, Book]\n"
        "    async def fill(self):\n"
        "        for number in range(200):\n"
        "            self.books[number] = Book([number] * 3_000)\n"
    )
    async with Host({"books": source}, data_dir=tmp_path / "data") as host:
        before = await host.plan("books")
        await host["books"].fill()
        after = await host.plan("books")
    assert [plan.modules[0].mode for plan in (before, after)] == ["eager", "windowed"]
