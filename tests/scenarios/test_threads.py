"""Modules with `threads = true`: their `def` calls run beside the loop, and a drain waits for them."""

from __future__ import annotations

import asyncio
import re
import threading
from pathlib import Path
from typing import Any

import pytest

from replank import Host
from replank.config import Config, ModuleConfig, ReloadConfig, parse_config
from replank.errors import ConfigError, StateSealed

WORKER = """
import threading
from replank import Module, Table, query

class Worker(Module, version="{label}"):
    total: int = 0
    rows: Table[int, int]

    def where(self) -> int:
        return threading.get_ident()

    async def where_async(self) -> int:
        return threading.get_ident()

    def crunch(self, began, go, by: int = 1) -> str:
        began.set()
        go.wait(10)
        self.total += by
        return "{label}"

    def fill(self, count: int) -> None:
        for n in range(count):
            self.rows[n] = n

    def stop(self) -> None:
        raise StopIteration

    @query
    def read(self) -> int:
        return self.total
"""
BOSS = """
from replank import Module, uses

class Boss(Module, version="1"):
    worker = uses("worker")

    def order(self, began, go) -> int:
        before = self.worker.blocking.read()
        began.set()
        go.wait(10)
        return before + self.worker.blocking.read()
"""


class Rig:
    """A host with one module whose calls run in threads."""

    def __init__(self, folder: Path, **fields: Any) -> None:
        self.folder = folder
        self.write(1)
        (folder / "boss.py").write_text(BOSS)
        limit_s = fields.pop("drain_timeout_s", 5.0)
        worker = ModuleConfig(source=str(folder / "worker.py"), threads=True, **fields)
        boss = ModuleConfig(source=str(folder / "boss.py"), threads=True)
        config = Config(
            modules={"worker": worker, "boss": boss},
            reload=ReloadConfig(probe=False, drain_timeout_s=limit_s, probation_s=0.0),
            stop_timeout_s=1.0,
        )
        self.host = Host(data_dir=folder / "data", config=config)
        self.began, self.go = threading.Event(), threading.Event()

    def write(self, label: int) -> None:
        (self.folder / "worker.py").write_text(WORKER.format(label=label))

    async def crunch(self) -> asyncio.Task[Any]:
        """Start a call that stands in its thread until `go`."""
        call = asyncio.create_task(self.host["worker"].crunch(self.began, self.go))
        await asyncio.to_thread(self.began.wait)
        return call

    async def closed(self) -> None:
        """Return when the gate is closed."""
        while "open" in {one.gate for one in self.host.status().modules if one.name == "worker"}:
            await asyncio.sleep(0)

    async def reload(self) -> Any:
        self.write(2)
        return await self.host.reload("worker")


async def test_def_calls_run_beside_the_loop_several_at_once_and_async_ones_on_it(
    tmp_path: Path,
) -> None:
    rig = Rig(tmp_path)
    async with rig.host as host:
        here = threading.get_ident()
        assert await host["worker"].where() != here
        assert await host["worker"].where_async() == here
        first, second = await rig.crunch(), await rig.crunch()
        assert await host["worker"].read() == 0
        rig.go.set()
        assert await asyncio.gather(first, second) == ["1", "1"]
        assert await host["worker"].read() == 2


async def test_a_reload_waits_for_the_threads_and_keeps_what_they_wrote(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    async with rig.host as host:
        call = await rig.crunch()
        reload = asyncio.create_task(rig.reload())
        await rig.closed()
        late = asyncio.create_task(host["worker"].read())
        await asyncio.sleep(0)
        assert not late.done()
        rig.go.set()
        report = await reload
        assert report.committed, report
        assert await call == "1"
        assert await late == 1
        assert await host["worker"].crunch(rig.began, rig.go) == "2"


@pytest.mark.parametrize("policy", ["abort", "cancel"])
async def test_a_call_that_outlives_the_drain_is_named_with_the_place_where_its_thread_stands(
    tmp_path: Path, policy: str
) -> None:
    rig = Rig(tmp_path, drain_policy=policy, drain_timeout_s=0.05)
    async with rig.host as host:
        call = await rig.crunch()
        report = await rig.reload()
        assert report.outcome == "rolled_back"
        line = 1 + WORKER.splitlines().index("        go.wait(10)")
        age = re.match(r"worker\.crunch \((\d+\.\d\d) s, at ", report.error.found)
        assert age is not None
        assert float(age[1]) >= 0.05
        assert f"worker.py:{line} in crunch -> threading.py:" in report.error.found
        rig.go.set()
        assert await call == "1"
        assert await host["worker"].read() == 1


async def test_a_call_whose_caller_has_given_up_is_waited_for_while_its_thread_runs(
    tmp_path: Path,
) -> None:
    rig = Rig(tmp_path, drain_timeout_s=0.05)
    async with rig.host as host:
        call = await rig.crunch()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        report = await rig.reload()
        assert report.outcome == "rolled_back"
        assert "in crunch" in report.error.found
        rig.go.set()
        report = await rig.reload()
        assert report.committed, report
        assert await host["worker"].read() == 1


async def test_a_caller_that_gives_up_while_it_waits_for_a_thread_is_never_run(
    tmp_path: Path,
) -> None:
    rig = Rig(tmp_path, max_threads=1)
    async with rig.host as host:
        call = await rig.crunch()
        waiting = asyncio.create_task(host["worker"].crunch(rig.began, rig.go, by=100))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        rig.go.set()
        await call
        assert (await rig.reload()).committed
        assert await host["worker"].read() == 1


async def test_a_detached_thread_cannot_write_behind_the_new_version(tmp_path: Path) -> None:
    rig = Rig(tmp_path, drain_policy="detach", drain_timeout_s=0.05)
    async with rig.host as host:
        call = await rig.crunch()
        assert (await rig.reload()).committed
        rig.go.set()
        with pytest.raises(StateSealed):
            await call
        assert await host["worker"].read() == 0


async def test_a_call_made_from_a_thread_is_part_of_its_callers_chain(tmp_path: Path) -> None:
    """It has touched the module that is reloaded, so the drain waits for it and lets it through."""
    rig = Rig(tmp_path)
    async with rig.host as host:
        order = asyncio.create_task(host["boss"].order(rig.began, rig.go))
        await asyncio.to_thread(rig.began.wait)
        reload = asyncio.create_task(rig.reload())
        await rig.closed()
        rig.go.set()
        assert await order == 0
        assert (await reload).committed


async def test_a_large_table_is_copied_in_the_pause_for_threads_know_no_barrier(
    tmp_path: Path,
) -> None:
    rig = Rig(tmp_path)
    async with rig.host as host:
        await host["worker"].fill(3_000)
        report = await rig.reload()
        assert report.committed, report
        (worker,) = report.modules
        assert (worker.mode, worker.records_migrated) == ("eager", 3_000)
        refused = await host.reload("worker", mode="windowed")
        assert (refused.outcome, refused.error.kind) == ("rejected", "SchemaError")


async def test_a_stop_iteration_in_a_thread_reaches_its_caller(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    async with rig.host as host:
        with pytest.raises(RuntimeError, match="StopIteration"):
            await host["worker"].stop()


@pytest.mark.parametrize("mode", ["windowed", "lazy"])
def test_threads_and_a_window_exclude_each_other(tmp_path: Path, mode: str) -> None:
    text = f'[modules.worker]\nsource = "worker.py"\nthreads = true\nmode = "{mode}"\n'
    with pytest.raises(ConfigError, match="cannot be copied in a window") as refused:
        parse_config(text, tmp_path / "replank.toml")
    assert refused.value.location.endswith("replank.toml:4")
