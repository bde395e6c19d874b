"""An old generation that stays in memory is reported with what holds it, and they are not endless."""

from __future__ import annotations

import asyncio
import functools
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from replank import Host, Outcome
from replank.config import Config, ReloadConfig
from replank.coordinator import leak_watch
from replank.instrumentation.events import Bus, GenerationLeaked, GenerationRetired
from replank.verification.leaks import holders_of

LEDGER = """
from replank import Module
class Ledger(Module, version="{v}"):
    async def hook(self):
        def callback():
            return self
        return callback
    async def bound(self):
        return self.bound
    async def itself(self):
        return self
"""
PLAIN = """
def label():
    return "{v}"
def hook():
    return label
"""
KEPT: list[Any] = []
"""A global that holds on to what it should not."""


@functools.lru_cache
def cached(key: str) -> Any:
    return KEPT.pop()


async def leaked(folder: Path, hold: Callable[[Any], Any], call: str, text: str = LEDGER):
    """Return the leak that is told when something keeps what a call has answered."""
    source = folder / "ledger.py"
    source.write_text(text.format(v="1"))
    config = Config(reload=ReloadConfig(probe=False, probation_s=0.0, leak_check_s=0.01))
    async with Host({"ledger": source}, config=config, data_dir=folder / "data") as host:
        told: asyncio.Queue[Any] = asyncio.Queue()
        host.subscribe(told.put_nowait)
        kept = hold(await getattr(host["ledger"], call)())
        source.write_text(text.format(v="2"))
        report = await host.reload("ledger")
        assert report.committed, report.error
        async with asyncio.timeout(20):
            while not isinstance(event := await told.get(), GenerationLeaked):
                pass
        del kept
    return event


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch: pytest.MonkeyPatch):
    # A whole test run is no small process; the collection by hand is wanted here all the same.
    monkeypatch.setattr(leak_watch, "_FORCE_BLOCKS_MAX", 10**9)
    monkeypatch.setattr(leak_watch, "_SEARCH_S", 30.0)
    monkeypatch.setattr(leak_watch, "_CHILD_SEARCH_S", 30.0)
    KEPT.clear()
    cached.cache_clear()
    yield
    KEPT.clear()
    cached.cache_clear()


async def test_a_global_that_holds_a_closure_is_named(tmp_path: Path) -> None:
    event = await leaked(tmp_path, KEPT.append, "hook")
    assert (event.name, event.generation) == ("ledger", 1)
    assert event.holders[0] == f"global KEPT of {__name__}"
    assert "function Ledger.hook.<locals>.callback" in event.holders


async def test_a_bound_method_is_named(tmp_path: Path) -> None:
    event = await leaked(tmp_path, KEPT.append, "bound")
    assert event.holders[0] == f"global KEPT of {__name__}"
    assert "bound method Ledger.bound" in event.holders


async def test_a_timer_is_named(tmp_path: Path) -> None:
    def timer(callback: Any) -> Any:
        # nobody keeps the handle: the loop alone does
        asyncio.get_running_loop().call_later(3_600, callback)

    event = await leaked(tmp_path, timer, "hook")
    assert event.holders[0] == "a timer of the event loop"


async def test_a_cache_is_named(tmp_path: Path) -> None:
    def cache(value: Any) -> None:
        KEPT.append(value)
        cached("key")

    event = await leaked(tmp_path, cache, "itself")
    assert event.holders[0] == "cache of cached"
    assert "a Ledger object" in event.holders


async def test_a_plain_file_leaks_through_its_functions(tmp_path: Path) -> None:
    event = await leaked(tmp_path, KEPT.append, "hook", PLAIN)
    assert event.holders[0] == f"global KEPT of {__name__}"
    assert any("function label" in holder for holder in event.holders)


@pytest.mark.parametrize("text", [LEDGER, PLAIN], ids=["class", "file"])
async def test_a_generation_that_nobody_holds_goes_without_a_word(
    tmp_path: Path, text: str
) -> None:
    source = tmp_path / "ledger.py"
    source.write_text(text.format(v="1"))
    config = Config(reload=ReloadConfig(probe=False, leak_check_s=0.01))  # with its probation
    async with Host({"ledger": source}, config=config, data_dir=tmp_path / "data") as host:
        told: list[Any] = []
        host.subscribe(told.append)
        await host["ledger"].hook()
        alive = host._routes.current("ledger").witness()
        source.write_text(text.format(v="2"))
        assert (await host.reload("ledger")).committed
        retirement = host._coordinator.retirement
        async with asyncio.timeout(20):
            while retirement.leaving or retirement.watch.looking:
                await asyncio.sleep(0.005)
        assert alive() is None, [e for e in told if isinstance(e, GenerationLeaked)]
        assert any(isinstance(event, GenerationRetired) for event in told)
        assert not any(isinstance(event, GenerationLeaked) for event in told)


async def test_with_too_many_old_generations_the_next_reload_is_rejected_and_says_who_holds_them(
    tmp_path: Path,
) -> None:
    source = tmp_path / "ledger.py"
    source.write_text(LEDGER.format(v="0"))
    config = Config(
        reload=ReloadConfig(probe=False, probation_s=0.0, leak_check_s=0.01, max_retired=2)
    )
    async with Host({"ledger": source}, config=config, data_dir=tmp_path / "data") as host:
        for number in range(1, 3):
            KEPT.append(await host["ledger"].hook())
            source.write_text(LEDGER.format(v=number))
            assert (await host.reload("ledger")).committed
            async with asyncio.timeout(20):
                while len(host._coordinator.retirement.leaks) < number:
                    await asyncio.sleep(0.005)
        source.write_text(LEDGER.format(v="3"))
        report = await host.reload("ledger")
        assert report.outcome is Outcome.REJECTED
        assert "too many old generations" in report.error.message
        assert f"global KEPT of {__name__}" in report.error.found
        KEPT.clear()
        import gc

        gc.collect()
        assert (await host.reload("ledger")).committed


def test_a_search_that_runs_out_of_time_says_how_far_it_came() -> None:
    class Kept:
        pass

    one = Kept()
    chain = [[one]]
    holders = holders_of(weakref.ref(one), 0.0)
    assert holders is not None
    assert holders[0] == "..."
    assert holders[-1].endswith("Kept object")
    del chain, one


def test_what_is_gone_has_no_holders() -> None:
    class Gone:
        pass

    one = Gone()
    alive = weakref.ref(one)
    del one
    assert holders_of(alive, 1.0) is None


async def test_many_generations_that_go_at_once_cost_one_collection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Kept:
        pass

    collections = 0
    real = leak_watch.gc.collect

    def counted() -> int:
        nonlocal collections
        collections += 1
        return real()

    monkeypatch.setattr(leak_watch.gc, "collect", counted)
    bus, told, kept = Bus(), asyncio.Queue(), [Kept() for _ in range(12)]
    bus.subscribe(told.put_nowait)
    watch = leak_watch.LeakWatch(bus, ReloadConfig(leak_check_s=0.001))
    for number, one in enumerate(kept):
        watch.expect("ledger", number, weakref.ref(one))
    gone = kept.pop(), kept.pop()
    del one, gone
    async with asyncio.timeout(60):
        found = [await told.get() for _ in kept]
        while watch.looking:
            await asyncio.sleep(0.005)
    assert [event.generation for event in found] == list(range(10))
    assert collections == 1
    assert len(watch.leaks) == 10
    await watch.close()


async def test_many_modules_that_are_replaced_at_once_do_not_count_as_old_ones_that_stay(
    tmp_path: Path,
) -> None:
    names = [f"part{number}" for number in range(12)]
    for name in names:
        (tmp_path / f"{name}.py").write_text("def hit() -> int:\n    return 1\n")
    sources = {name: tmp_path / f"{name}.py" for name in names}
    config = Config(reload=ReloadConfig(probe=False, probation_s=0, max_retired=3))
    async with Host(sources, data_dir=tmp_path / "data", config=config) as host:
        for answer in (2, 3, 4):
            for source in sources.values():
                source.write_text(f"def hit() -> int:\n    return {answer}\n")
            report = await host.reload(names)
            assert report.committed, report.error
