"""What fails while calls wait is taken back: old version, old state, every accepted write."""

from __future__ import annotations

import asyncio
import textwrap
from pathlib import Path

import pytest

from replank import Host, Outcome
from replank.config import Config, ReloadConfig

BASE = """
from replank import Module, check
class Store(Module, version="{version}"):
    total: int = 0
    async def add(self, n: int) -> str:
        self.total += n
        return "{version}"
    async def read(self) -> int:
        return self.total
{more}
"""

FAILURES = {
    "a check that raises": (
        '    async def on_start(self) -> None: ...\n    @check\n    def bad(self):\n        raise ValueError("no")\n',
        "verify",
        "CheckError",
    ),
    "a check of the pause that returns False": (
        '    @check(when="pause")\n    async def bad(self):\n        return False\n',
        "verify",
        "CheckError",
    ),
    "a check that waits for ever": (
        '    @check(when="pause")\n    async def bad(self):\n        import asyncio\n        await asyncio.Event().wait()\n',
        "verify",
        "PhaseTimeout",
    ),
    "a check that loops for ever": (
        '    @check(when="pause")\n    async def bad(self):\n        while True: pass\n',
        "verify",
        "PhaseTimeout",
    ),
    "a check that exits": (
        '    @check(when="pause")\n    def bad(self):\n        raise SystemExit(3)\n',
        "verify",
        "CheckError",
    ),
    "an on_start that raises": (
        '    async def on_start(self):\n        raise OSError("port in use")\n',
        "restore",
        "ModuleError",
    ),
    "an on_start that waits for ever": (
        "    async def on_start(self):\n        import asyncio\n        await asyncio.Event().wait()\n",
        "restore",
        "PhaseTimeout",
    ),
}


def write(path: Path, version: str, more: str = "") -> Path:
    path.write_text(BASE.format(version=version, more=textwrap.indent("", "") + more))
    return path


@pytest.mark.parametrize("name", FAILURES)
async def test_the_old_version_serves_on_with_every_write(name: str, tmp_path: Path) -> None:
    more, phase, kind = FAILURES[name]
    source = write(tmp_path / "store.py", "1")
    config = Config(reload=ReloadConfig(verify_timeout_s=0.4, restore_timeout_s=0.4))
    async with Host({"store": source}, data_dir=tmp_path / "data", config=config) as host:
        store = host["store"]
        assert await store.add(5) == "1"
        write(source, "2", more)
        ticket = host.reload("store")
        # These arrive in the window or at the closed gate: the old version answers all of them.
        answers = asyncio.gather(*(store.add(1) for _ in range(20)))
        report = await ticket
        assert report.outcome is Outcome.ROLLED_BACK
        assert report.error is not None
        assert (report.error.phase, report.error.kind) == (phase, kind)
        assert report.error.undo_errors == ()
        assert set(await answers) == {"1"}
        assert await store.read() == 25
        write(source, "3")
        assert (await host.reload("store")).outcome is Outcome.COMMITTED
        assert await store.add(1) == "3"
        assert await store.read() == 26


async def test_a_check_that_fails_on_the_copy_is_rejected_before_any_call_waits(
    tmp_path: Path,
) -> None:
    source = write(tmp_path / "store.py", "1")
    async with Host({"store": source}, data_dir=tmp_path / "data") as host:
        write(source, "2", "    @check\n    def bad(self):\n        assert self.total == -1\n")
        report = await host.reload("store")
        assert report.outcome is Outcome.REJECTED
        assert report.error is not None
        assert report.error.phase == "verify"
        assert report.error.location == "store.py:12"
        assert await host["store"].add(1) == "1"


async def test_a_failing_undo_is_added_to_the_first_error(tmp_path: Path) -> None:
    source = write(tmp_path / "store.py", "1")
    async with Host({"store": source}, data_dir=tmp_path / "data") as host:
        write(
            source,
            "2",
            "    async def on_start(self):\n        raise OSError('first')\n"
            "    async def on_stop(self):\n        raise OSError('second')\n",
        )
        report = await host.reload("store")
        assert report.error is not None
        assert "first" in report.error.message
        assert any("second" in line for line in report.error.undo_errors)
        assert await host["store"].add(1) == "1"


async def test_a_call_that_outlives_the_drain_deadline_is_named_with_its_line(
    tmp_path: Path,
) -> None:
    source = write(
        tmp_path / "store.py",
        "1",
        "    async def hang(self, until):\n        await until.wait()\n        return self.total\n",
    )
    config = Config(reload=ReloadConfig(drain_timeout_s=0.2))
    async with Host({"store": source}, data_dir=tmp_path / "data", config=config) as host:
        until = asyncio.Event()
        hanging = asyncio.create_task(host["store"].hang(until))
        await asyncio.sleep(0)
        report = await host.reload("store")
        assert report.outcome is Outcome.ROLLED_BACK
        assert report.error is not None
        assert report.error.phase == "drain"
        assert "store.hang" in (report.error.found or "")
        assert ":11 in hang" in (report.error.found or "")
        until.set()
        assert await hanging == 0


async def test_the_reload_asked_for_by_a_call_cannot_be_awaited_there(tmp_path: Path) -> None:
    source = write(
        tmp_path / "store.py",
        "1",
        "    async def improve(self):\n        self.ticket = self.host.reload('store')\n"
        "        try:\n            await self.ticket\n"
        "        except Exception as error:\n            return type(error).__name__\n",
    )
    async with Host({"store": source}, data_dir=tmp_path / "data") as host:
        assert await host["store"].improve() == "SelfReload"
        report = await host.reload("store")
        assert report.outcome is Outcome.COMMITTED
        assert [one.outcome for one in await host.history(5)][:2] == [Outcome.COMMITTED] * 2
