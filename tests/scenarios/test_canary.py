"""A candidate without state answers a share of the real calls before it serves all of them."""

from __future__ import annotations

import asyncio
import sys
import types
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from replank import Host, Outcome
from replank.cli.render_probation import render_probation
from replank.config import (
    Config,
    HttpConfig,
    ModuleConfig,
    ProbationConfig,
    ReloadConfig,
    parse_config,
)
from replank.errors import ConfigError
from replank.instrumentation.events import CanaryMoved
from tests.scenarios.test_probation import Told

PRICE = """
import asyncio
from replank import Module
class Price(Module, version="{v}"):
    async def of(self, cents: int) -> str:
        {body}
        return "{v}"
    async def quick(self) -> str:
        return "{v}"
"""
ASKER = """
from replank import Module, uses
class Asker(Module):
    price = uses("price")
    async def both(self) -> list[str]:
        return [await self.price.of(1), await self.price.quick(), await self.price.of(2)]
"""


def price(v: str, body: str = "pass") -> str:
    return PRICE.format(v=v, body=body)


@asynccontextmanager
async def hosted(
    folder: Path, source: str = "", isolation: Any = "none", **canary: Any
) -> AsyncIterator[Host]:
    (folder / "price.py").write_text(source or price("1"))
    (folder / "asker.py").write_text(ASKER)
    probation = ProbationConfig(look_every_s=0.01, **{"canary": (0.25, 0.5), **canary})
    config = Config(
        data_dir=str(folder / "data"),
        reload=ReloadConfig(probe=False, probation_s=30.0),
        probation=probation,
        http=HttpConfig(port=0),
        modules={
            "price": ModuleConfig(source=str(folder / "price.py"), isolation=isolation),
            "asker": ModuleConfig(source=str(folder / "asker.py")),
        },
    )
    async with Host(config=config) as host:
        yield host


def start(host: Host, folder: Path, source: str) -> asyncio.Future[Any]:
    (folder / "price.py").write_text(source)
    return asyncio.ensure_future(_awaited(host, "price"))


async def _awaited(host: Host, name: str) -> Any:
    return await host.reload(name)


async def in_canary(host: Host, told: Told) -> None:
    await told.first(CanaryMoved)


async def call_until(host: Host, task: asyncio.Future[Any]) -> Counter[str]:
    seen: Counter[str] = Counter()
    while not task.done():
        try:
            seen[await host["price"].of(1)] += 1
        except RuntimeError:
            seen["failed"] += 1
        await asyncio.sleep(0)
    return seen


@pytest.mark.parametrize("isolation", ["none", "process"])
async def test_the_shares_go_up_in_steps_and_then_all_calls_follow(
    tmp_path: Path, isolation: str
) -> None:
    async with hosted(tmp_path, isolation=isolation, canary_step_s=0.1) as host:
        told = Told(host)
        reload = start(host, tmp_path, price("2"))
        seen = await call_until(host, reload)
        report = reload.result()
        assert report.outcome is Outcome.COMMITTED, report.error
        assert [one.share for one in told.events if isinstance(one, CanaryMoved)] == [0.25, 0.5]
        assert seen["1"] > seen["2"] > 0
        assert {await host["price"].of(1) for _ in range(8)} == {"2"}


async def test_every_fourth_call_is_a_quarter_of_them(tmp_path: Path) -> None:
    async with hosted(tmp_path, canary_step_s=60.0) as host:
        told = Told(host)
        reload = start(host, tmp_path, price("2"))
        await in_canary(host, told)
        got = [await host["price"].of(1) for _ in range(8)]
        assert got == ["1", "1", "1", "2"] * 2
        report = host.probation("price")
        assert (report.state, report.share) == ("canary", 0.25)
        assert "canary at 25.0% of the calls" in str(render_probation(report).renderables[0])
        await host.promote("price")
        assert (await reload).committed


@pytest.mark.parametrize("isolation", ["none", "process"])
async def test_errors_trip_and_everything_comes_back(tmp_path: Path, isolation: str) -> None:
    async with hosted(tmp_path, isolation=isolation, canary_step_s=60.0) as host:
        broken = price("2", "raise RuntimeError('planted')")
        reload = start(host, tmp_path, broken)
        seen = await call_until(host, reload)
        report = reload.result()
        assert report.outcome is Outcome.REJECTED
        assert report.calls_held == 0
        assert "the canary was ended at 25.0% of the calls" in report.error.message
        assert "price.of failed in" in report.error.message
        assert seen["2"] == 0
        assert seen["failed"] <= seen["1"] / 2
        assert {await host["price"].of(1) for _ in range(40)} == {"1"}


async def test_a_candidate_that_is_slower_for_long_enough_trips(tmp_path: Path) -> None:
    ticks = "await asyncio.sleep(0.004)"
    async with hosted(tmp_path, canary=(0.5,), canary_step_s=60.0, latency_for_s=0.05) as host:
        reload = start(host, tmp_path, price("2", ticks))
        await call_until(host, reload)
        report = reload.result()
        assert report.outcome is Outcome.REJECTED
        assert "times as long" in report.error.message


async def test_by_hand_it_is_paused_resumed_and_aborted(tmp_path: Path) -> None:
    async with hosted(tmp_path, canary_step_s=60.0) as host:
        told = Told(host)
        reload = start(host, tmp_path, price("2"))
        await in_canary(host, told)
        assert host.pause("price").state == "paused"
        assert host.resume("price").state == "canary"
        report = await host.abort("price")
        assert report == await reload
        assert report.outcome is Outcome.REJECTED
        assert "aborted by hand" in report.error.message
        assert await host["price"].of(1) == "1"


async def test_too_few_calls_are_said(tmp_path: Path) -> None:
    async with hosted(tmp_path, canary_step_s=0.02) as host:
        report = await start(host, tmp_path, price("2"))
        assert report.committed, report.error
        assert "price: no call came to the canary" in report.warnings
        told = Told(host)
        reload = start(host, tmp_path, price("3"))
        await in_canary(host, told)
        for _ in range(4):
            await host["price"].of(1)
        report = await reload
        assert any("of: too few calls to judge in the canary" in one for one in report.warnings)


async def test_a_chain_of_calls_stays_with_the_version_that_it_met(tmp_path: Path) -> None:
    async with hosted(tmp_path, canary=(0.5,), canary_step_s=60.0) as host:
        told = Told(host)
        reload = start(host, tmp_path, price("2"))
        await in_canary(host, told)
        got = [tuple(await host["asker"].both()) for _ in range(12)]
        assert set(got) == {("1",) * 3, ("2",) * 3}
        await host.promote("price")
        assert (await reload).committed


async def test_a_call_that_is_in_the_candidate_when_it_is_aborted_is_answered(
    tmp_path: Path,
) -> None:
    waits = "import price_gate; await price_gate.opened.wait()"
    gate = asyncio.Event()
    async with hosted(tmp_path, canary=(1.0,), canary_step_s=60.0) as host:
        told = Told(host)
        held = types.ModuleType("price_gate")
        held.opened = gate  # type: ignore[attr-defined]
        sys.modules["price_gate"] = held
        try:
            reload = start(host, tmp_path, price("2", waits))
            await in_canary(host, told)
            call = asyncio.ensure_future(host["price"].of(1))
            await asyncio.sleep(0)
            ticket = host.abort("price")
            assert not call.done()
            gate.set()
            assert await call == "2"
            assert (await ticket).outcome is Outcome.REJECTED
            await reload
        finally:
            del sys.modules["price_gate"]


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("def on_start(self) -> None: ...", "it has an on_start"),
        ("def later(self) -> None: self.spawn(self.quick())", "it spawns tasks"),
    ],
)
async def test_a_candidate_that_cannot_stand_beside_the_other_is_said_and_swapped_as_ever(
    tmp_path: Path, body: str, why: str
) -> None:
    async with hosted(tmp_path, canary_step_s=60.0) as host:
        report = await start(host, tmp_path, price("2") + f"    {body}\n")
        assert report.committed, report.error
        (said,) = [one for one in report.warnings if "not tried" in one]
        assert why in said


async def test_a_module_with_state_is_never_shared(tmp_path: Path) -> None:
    stateful = price("1").replace("    async def quick", "    count: int = 0\n    async def quick")
    async with hosted(tmp_path, stateful, canary_step_s=60.0) as host:
        told = Told(host)
        report = await start(host, tmp_path, stateful.replace('"1"', '"2"'))
        assert report.committed, report.error
        assert not any(isinstance(one, CanaryMoved) for one in told.events)


async def test_a_stop_does_not_wait_for_the_steps(tmp_path: Path) -> None:
    async with hosted(tmp_path, canary_step_s=600.0) as host:
        told = Told(host)
        reload = start(host, tmp_path, price("2"))
        await in_canary(host, told)
    report = await reload
    assert report.outcome is Outcome.REJECTED
    assert "the host stops" in report.error.message


def test_a_share_beyond_all_calls_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        parse_config("[probation]\ncanary = [0.5, 5]\n", tmp_path / "replank.toml")
    assert "probation.canary" in raised.value.what
