"""Every example starts, answers and can be reloaded."""

from __future__ import annotations

import shutil
from pathlib import Path

from replank.host import Host
from tests.docs.pages import ROOT

EXAMPLES = ROOT / "examples"


async def test_the_counter_counts_and_reloads(tmp_path: Path) -> None:
    file = shutil.copy(EXAMPLES / "counter.py", tmp_path)
    async with Host({"counter": file}, data_dir=tmp_path / "data") as host:
        assert await host["counter"].increment(5) == 5
        text = Path(file).read_text()
        Path(file).write_text(text.replace('"1.0"', '"1.1"').replace("+= by", "+= 2 * by"))
        report = await host.reload("counter")
        assert report.committed, report.error
        assert await host["counter"].increment(5) == 15


async def test_a_plain_file_of_tools_keeps_its_notes(tmp_path: Path) -> None:
    file = shutil.copy(EXAMPLES / "tools.py", tmp_path)
    async with Host({"tools": file}, data_dir=tmp_path / "data") as host:
        assert await host["tools"].remember("tea", "green") == 1
        with Path(file).open("a") as end:
            end.write("\n\ndef forget(key: str) -> None:\n    del notes[key]\n")
        report = await host.reload("tools")
        assert report.committed, report.error
        assert await host["tools"].recall("tea") == "green"
        await host["tools"].forget("tea")
        assert await host["tools"].keys() == []


async def test_the_shop_takes_an_order_that_its_ledger_books(tmp_path: Path) -> None:
    shop = shutil.copytree(EXAMPLES / "shop", tmp_path / "shop")
    async with Host.open(shop / "replank.toml") as host:
        assert await host["api"].order("ada", "tea") == {"orders": 1, "balance_cents": 300}
        assert await host["ledger"].balance("ada") == 300
