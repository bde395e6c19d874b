"""What an older version has no room for comes back with the newer one: small, large, restarted."""

from __future__ import annotations

from pathlib import Path

import pytest

from replank import Host
from replank.config import Config, ReloadConfig

MODULE = """
from replank import Module, Record, Table, add, step

class Page(Record):
    text: str = ""
{note}
class Notes(Module, version="{schema}", schema={schema}):
    pages: Table[str, Page]
    shelf: dict[str, Page] = {{}}
{title}
    migrations = [{steps}]
    async def put(self, key, text):
        self.pages.setdefault(key, Page()).text = text
    async def fill(self, count):
        for number in range(count):
            self.pages[f"p{{number}}"] = Page(f"text {{number}}")
        self.shelf["s"] = Page("shelved")
    async def drop(self, key):
        del self.pages[key]
    async def texts(self):
        return {{key: page.text for key, page in self.pages.items()}}
{more}
"""
MORE = """
    async def annotate(self, key, note):
        self.pages[key].note = note
        self.title = note
        self.shelf["s"].note = note
    async def read(self, key):
        return (self.pages[key].text, self.pages[key].note)
    async def rest(self):
        return (self.title, self.shelf["s"].note)
"""
STEPS = (
    'step(1, 2, add("pages.*.note", default=""), add("shelf.*.note", default=""), '
    'add("title", default=""))'
)
sizes = pytest.mark.parametrize("pages", [30, 2_500], ids=["eager", "windowed"])


@pytest.fixture
def versions(tmp_path: Path) -> tuple[Path, Path]:
    paths = tmp_path / "v1" / "notes.py", tmp_path / "v2" / "notes.py"
    for path in paths:
        path.parent.mkdir()
    paths[0].write_text(MODULE.format(note="", title="", schema=1, steps="", more=""))
    paths[1].write_text(
        MODULE.format(
            note='    note: str = ""\n',
            title='    title: str = ""\n',
            schema=2,
            steps=STEPS,
            more=MORE,
        )
    )
    return paths


def host_of(tmp_path: Path, source: Path, probation_s: float = 0.0, **reload: object) -> Host:
    config = Config(reload=ReloadConfig(probe=False, probation_s=probation_s, **reload))
    return Host({"notes": source}, data_dir=tmp_path / "data", config=config)


async def write_new_only_data_and_go_back(host: Host, v2: Path, pages: int) -> None:
    notes = host["notes"]
    await notes.fill(pages)
    assert (await host.reload({"notes": v2})).committed
    for key in ("p3", "p4", "p5"):
        await notes.annotate(key, f"about {key}")
    back = await host.rollback("notes")
    assert back.committed, back.error
    assert back.warnings == ()
    await notes.put("p4", "written by the old version")
    await notes.drop("p5")
    await notes.put("p5", "another page of the same key")


async def check_what_came_back(host: Host, pages: int) -> None:
    notes = host["notes"]
    assert await notes.read("p3") == ("text 3", "about p3")
    assert await notes.read("p4") == ("written by the old version", "about p4")
    assert await notes.read("p6") == ("text 6", "")
    assert await notes.rest() == ("about p5", "about p5")
    assert len(await notes.texts()) == pages


@sizes
@pytest.mark.parametrize("probation_s", [0.0, 60.0], ids=["after probation", "in probation"])
async def test_new_only_data_comes_back_with_the_new_version(
    tmp_path: Path, versions: tuple[Path, Path], pages: int, probation_s: float
) -> None:
    async with host_of(tmp_path, versions[0], probation_s) as host:
        await write_new_only_data_and_go_back(host, versions[1], pages)
        assert (await host.reload({"notes": versions[1]})).committed
        await check_what_came_back(host, pages)


@sizes
@pytest.mark.parametrize("probation_s", [0.0, 60.0], ids=["after probation", "in probation"])
async def test_new_only_data_comes_back_after_the_host_was_started_again(
    tmp_path: Path, versions: tuple[Path, Path], pages: int, probation_s: float
) -> None:
    async with host_of(tmp_path, versions[0], probation_s) as host:
        await write_new_only_data_and_go_back(host, versions[1], pages)
    async with host_of(tmp_path, versions[0], probation_s) as host:
        assert (await host.reload({"notes": versions[1]})).committed
        await check_what_came_back(host, pages)


async def test_what_a_large_state_parked_comes_back_to_a_small_one(
    tmp_path: Path, versions: tuple[Path, Path]
) -> None:
    async with host_of(tmp_path, versions[0], windowed_from_records=10) as host:
        await write_new_only_data_and_go_back(host, versions[1], 30)
    async with host_of(tmp_path, versions[0]) as host:
        report = await host.reload({"notes": versions[1]})
        assert report.modules[0].mode == "eager"
        await check_what_came_back(host, 30)


async def test_what_a_small_state_parked_comes_back_to_a_large_one(
    tmp_path: Path, versions: tuple[Path, Path]
) -> None:
    async with host_of(tmp_path, versions[0]) as host:
        await write_new_only_data_and_go_back(host, versions[1], 30)
    async with host_of(tmp_path, versions[0], windowed_from_records=10) as host:
        report = await host.reload({"notes": versions[1]})
        assert report.modules[0].mode == "windowed"
        await check_what_came_back(host, 30)


@sizes
async def test_a_reload_to_a_lower_schema_parks_as_a_rollback_does(
    tmp_path: Path, versions: tuple[Path, Path], pages: int
) -> None:
    async with host_of(tmp_path, versions[0]) as host:
        await host["notes"].fill(pages)
        assert (await host.reload({"notes": versions[1]})).committed
        await host["notes"].annotate("p3", "about p3")
        assert (await host.reload({"notes": versions[0]})).committed
        assert (await host.reload({"notes": versions[1]})).committed
        assert await host["notes"].read("p3") == ("text 3", "about p3")


async def test_parked_data_that_cannot_be_read_is_told_and_the_host_starts(
    tmp_path: Path, versions: tuple[Path, Path]
) -> None:
    async with host_of(tmp_path, versions[0]) as host:
        await write_new_only_data_and_go_back(host, versions[1], 30)
    (tmp_path / "data" / "parked" / "notes").write_bytes(b"torn")
    told = []
    host = host_of(tmp_path, versions[0])
    host.subscribe(told.append)
    async with host:
        assert any("parked" in getattr(event, "text", "") for event in told) or any(
            "notes" in getattr(event, "text", "") for event in told
        )
        assert (await host.reload({"notes": versions[1]})).committed
        assert await host["notes"].rest() == ("", "")
