"""The time that a call can read for next to nothing."""

from __future__ import annotations

import asyncio
from time import perf_counter

from replank.host import Host
from replank.traffic.beat import Beat, last_beat

LEDGER = """
import asyncio
from replank import Module, Uses, uses

class Ledger(Module, version="1.0"):
    others: Uses = uses("other")
    async def wait(self, began, go):
        began.set()
        await go.wait()
"""
OTHER = """
from replank import Module

class Other(Module, version="1.0"): ...
"""


class Loop:
    """Runs what is due when it is told to."""

    def __init__(self) -> None:
        self.due: list = []

    def call_later(self, _seconds: float, callback, *args) -> asyncio.TimerHandle:
        self.due.append((callback, args))
        return asyncio.get_running_loop().call_later(3600, callback, *args)


async def test_it_is_the_time_of_the_last_beat_and_never_later_than_now() -> None:
    beat, loop = Beat(), Loop()
    beat._beat(loop)
    first = last_beat.at
    assert first <= perf_counter()
    ((callback, args),) = loop.due
    callback(*args)
    assert first < last_beat.at <= perf_counter()
    beat.stop()


async def test_a_beat_that_was_not_started_or_was_stopped_can_be_stopped() -> None:
    beat = Beat()
    beat.stop()
    beat.start()
    beat.stop()
    beat.stop()


async def test_a_call_of_a_running_host_is_as_old_as_the_last_beat_says(tmp_path) -> None:
    sources = {"ledger": tmp_path / "ledger.py", "other": tmp_path / "other.py"}
    sources["ledger"].write_text(LEDGER)
    sources["other"].write_text(OTHER)
    began, go = asyncio.Event(), asyncio.Event()
    async with Host(sources, data_dir=tmp_path / "data") as host:
        call = asyncio.create_task(host["ledger"].wait(began, go))
        await began.wait()
        (chain,) = host._routes.current("ledger").lane.chains
        assert 0 <= perf_counter() - chain.started_at < 1
        go.set()
        await call
        assert not host._routes.current("ledger").lane.chains
