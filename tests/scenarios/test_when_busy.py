"""What becomes of a reload while another one of its module runs: asked for by command and by HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from replank.cli.outcome import Exit
from tests.scenarios.test_schedule_by_command import Serving

SOURCE = """
from replank import Module

class Counter(Module, version="{label}"):
    async def hold(self, began, go):
        began.set()
        await go.wait()
"""


@asynccontextmanager
async def busy(folder: Path) -> AsyncIterator[tuple[Serving, asyncio.Event, asyncio.Task[Any]]]:
    """Give a host whose module is being reloaded: a call is in flight, until the event is set."""
    serving = Serving(folder)
    (folder / "counter.py").write_text(SOURCE.format(label=1))
    began, go = asyncio.Event(), asyncio.Event()
    async with serving:
        call = asyncio.create_task(serving.host["counter"].hold(began, go))
        await began.wait()
        (folder / "counter.py").write_text(SOURCE.format(label=2))
        running = serving.host.reload("counter")
        while serving.host.status().modules[0].gate == "open":
            await asyncio.sleep(0)
        (folder / "counter.py").write_text(SOURCE.format(label=3))
        yield serving, go, asyncio.ensure_future(running)
        go.set()
        await call


async def test_by_command_a_reload_is_refused_and_says_what_is_in_the_way(tmp_path: Path) -> None:
    async with busy(tmp_path) as (serving, go, running):
        refused = await serving.replank("reload", "counter", "--when-busy", "refuse", "--json")
        report = json.loads(refused.output)
        assert refused.exit_code == Exit.REJECTED
        assert (report["outcome"], report["error"]["kind"]) == ("rejected", "Busy")
        assert "of counter" in report["error"]["found"]
        go.set()
        assert (await running).committed
        assert serving.host.definition("counter").label == "2"


async def test_over_http_requests_wait_their_turn_or_take_the_place_of_older_ones(
    tmp_path: Path,
) -> None:
    async with busy(tmp_path) as (serving, go, running):
        asked = [
            asyncio.create_task(
                serving.post("/control/reload", {"modules": ["counter"], "when_busy": how})
            )
            for how in ("queue", "queue")
        ]
        while serving.host._scheduler.waiting < 2:
            await asyncio.sleep(0.001)
        status, answer = await serving.post(
            "/control/reload", {"modules": ["counter"], "when_busy": "soon"}
        )
        assert status == 422, answer
        newest = asyncio.create_task(
            serving.post("/control/reload", {"modules": ["counter"], "when_busy": "newest"})
        )
        superseded = await asyncio.gather(*asked)
        go.set()
        assert (await running).committed
        _, last = await newest
        assert last["outcome"] == "committed"
        assert [one["outcome"] for _, one in superseded] == ["superseded"] * 2
        assert {one["superseded_by"] for _, one in superseded} == {last["id"]}


async def test_requests_that_queue_are_each_done(tmp_path: Path) -> None:
    async with busy(tmp_path) as (serving, go, running):
        body = {"modules": ["counter"], "when_busy": "queue"}
        asked = [asyncio.create_task(serving.post("/control/reload", body)) for _ in range(2)]
        while serving.host._scheduler.waiting < 2:
            await asyncio.sleep(0.001)
        go.set()
        assert (await running).committed
        answers = [one for _, one in await asyncio.gather(*asked)]
        assert [one["outcome"] for one in answers] == ["committed"] * 2
        assert len({one["id"] for one in answers}) == 2
