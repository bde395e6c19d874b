"""Data outside the declared state stays behind: the report says so before anybody misses it."""

from __future__ import annotations

from pathlib import Path

import pytest

from replank import Host, Outcome
from replank.config import Config, ReloadConfig

CLASS = """
from replank import Module

class Visits(Module, version="{version}"):
    total: int = 0
    LIMIT = 100
    hits = 0
    names = []

    async def on_start(self):
        self.pool = object()
        self.cache = {{}}
        self.opened = 0

    async def visit(self, name):
        self.total += 1
        {call}
"""

FILE = """
STATE = ("total",)
VERSION = "{version}"
total = 0
sessions = {{}}
pool = None

def on_start():
    global pool
    pool = [object()]

def visit(name):
    global total
    total += 1
    {call}
"""


async def warnings_of(folder: Path, text: str, call: str) -> tuple[str, ...]:
    source = folder / "visits.py"
    source.write_text(text.format(version="1", call=call))
    config = Config(reload=ReloadConfig(probe=False))
    async with Host({"visits": source}, data_dir=folder / "data", config=config) as host:
        await host["visits"].visit("ada")
        source.write_text(text.format(version="2", call=call))
        plan = await host.plan("visits")
        report = await host.reload("visits")
    assert report.outcome is Outcome.COMMITTED, report.error
    assert plan.warnings == report.warnings
    return report.warnings


@pytest.mark.parametrize(
    ("call", "names"),
    [
        ("self.hits += 1", ["hits"]),
        ("self.last = name", ["last"]),
        ("self.names.append(name)", ["names"]),
        ("self.opened += 1", ["opened"]),
        ("self.cache[name] = 1", []),
        ("self.pool = object()", []),
        ("pass", []),
    ],
)
async def test_a_class_is_told_which_of_its_data_stays_behind(
    tmp_path: Path, call: str, names: list[str]
) -> None:
    assert await warnings_of(tmp_path, CLASS, call) == tuple(
        f"visits: self.{name} is no declared state and stays behind with version 1; "
        f"annotate it (`{name}: int = 0`) to keep it"
        for name in names
    )


@pytest.mark.parametrize(
    ("call", "names"),
    [("sessions[name] = 1", ["sessions"]), ("pool.append(name)", ["pool"]), ("pass", [])],
)
async def test_a_plain_file_is_told_which_of_its_data_stays_behind(
    tmp_path: Path, call: str, names: list[str]
) -> None:
    found = await warnings_of(tmp_path, FILE, call)
    assert [text.split()[1] for text in found] == names
    assert all("name it in STATE to keep it" in text for text in found)
