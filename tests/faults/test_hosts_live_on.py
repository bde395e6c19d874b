"""Two hosts in one process, and timers and tasks that call `sys.exit`: the host lives on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from replank.config import Config
from replank.host import Host
from tests.faults import stores
from tests.faults.rig import QUICK


async def test_two_hosts_in_one_process_run_modules_of_the_same_name(tmp_path: Path) -> None:
    source = stores.write(tmp_path / "alpha.py", "1")
    config = Config(reload=QUICK)
    async with Host({"alpha": source}, data_dir=tmp_path / "one", config=config) as one:
        async with Host({"alpha": source}, data_dir=tmp_path / "two", config=config) as two:
            assert await one["alpha"].add("caller", 1) == "1"
            assert await two["alpha"].add("caller", 1) == "1"


EXITS = """
import asyncio, sys
from pathlib import Path
from replank.config import Config, ReloadConfig
from replank.host import Host

TEXT = '''
from replank import Module, every
class Alpha(Module, version="1"):
    ticks: int = 0
    {decorator}
    async def ends(self):
        self.ticks += 1
        raise SystemExit(3)
    async def begin(self):
        {begin}
    async def read(self) -> int:
        return self.ticks
'''

async def main(folder):
    source = Path(folder) / "alpha.py"
    source.write_text(TEXT)
    config = Config(reload=ReloadConfig(probe=False))
    async with Host({{"alpha": source}}, data_dir=Path(folder) / "data", config=config) as host:
        await host["alpha"].begin()
        while not await host["alpha"].read():
            await asyncio.sleep(0.001)
        await asyncio.sleep(0)
        print("alive")

asyncio.run(main(sys.argv[1]))
"""


def run_exits(tmp_path: Path, **parts: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", EXITS.format(**parts), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    return done.stdout.strip()


def test_a_timer_that_exits_does_not_end_the_host(tmp_path: Path) -> None:
    assert run_exits(tmp_path, decorator="@every(0.005)", begin="pass") == "alive"


def test_a_spawned_task_that_exits_does_not_end_the_host(tmp_path: Path) -> None:
    assert run_exits(tmp_path, decorator="", begin="self.spawn(self.ends())") == "alive"
