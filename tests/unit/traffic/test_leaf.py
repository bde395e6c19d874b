"""Calls of a module that calls no other one are counted, and can be waited for and named."""

from __future__ import annotations

import asyncio

import pytest

from replank.errors import CallAborted, PhaseTimeout
from replank.traffic.calls import find_blockers
from replank.traffic.drain import Drain
from replank.traffic.gate import Gate
from replank.traffic.lane import Lane
from replank.traffic.leaf import LeafPass


@pytest.fixture
async def lane() -> Lane:
    gate = Gate("ledger")
    lane = Lane(gate, 1)
    lane.leaf = LeafPass(lane)
    gate.first_open(lane)
    return lane


async def hold(lane: Lane, until: asyncio.Event) -> None:
    passage = lane.enter("hold")
    try:
        await until.wait()
    finally:
        if passage is not None:
            passage.leave()


async def test_a_drain_waits_for_the_last_counted_call(lane: Lane) -> None:
    until = asyncio.Event()
    calls = [asyncio.create_task(hold(lane, until)) for _ in range(3)]
    await asyncio.sleep(0)
    assert lane.in_flight == 3
    drain = Drain([lane.gate])
    drain.close()
    waiting = asyncio.create_task(drain.wait(5, {}))
    await asyncio.sleep(0)
    assert not waiting.done()
    until.set()
    await waiting
    assert lane.in_flight == 0
    drain.reopen()
    await asyncio.gather(*calls)


async def test_a_counted_call_that_outlives_the_drain_is_named_with_its_line(lane: Lane) -> None:
    until = asyncio.Event()
    call = asyncio.create_task(hold(lane, until))
    await asyncio.sleep(0)
    drain = Drain([lane.gate])
    drain.close()
    with pytest.raises(PhaseTimeout) as raised:
        await drain.wait(0.01, {})
    assert "ledger.hold" in (raised.value.found or "")
    assert "test_leaf.py" in (raised.value.found or "")
    drain.reopen()
    until.set()
    await call


async def test_a_counted_call_is_cancelled_by_the_policy(lane: Lane) -> None:
    call = asyncio.create_task(hold(lane, asyncio.Event()))
    await asyncio.sleep(0)
    drain = Drain([lane.gate])
    drain.close()
    drained = await drain.wait(0.01, {"ledger": "cancel"})
    assert [one.call for one in drained.cancelled] == ["hold"]
    with pytest.raises(CallAborted):
        await call
    drain.reopen()
    assert type(lane.leaf) is LeafPass


async def test_a_call_that_no_task_runs_is_a_blocker_too(lane: Lane) -> None:
    assert lane.leaf is not None
    lane.leaf.count += 1  # held in no frame that can be seen
    assert [one.call for one in find_blockers([lane])] == ["a call"]
    lane.leaf.leave()
    assert find_blockers([lane]) == ()


async def test_grace_waits_for_the_calls_of_now_and_not_for_later_ones(lane: Lane) -> None:
    first, second = asyncio.Event(), asyncio.Event()
    now = asyncio.create_task(hold(lane, first))
    await asyncio.sleep(0)
    grace = asyncio.create_task(lane.grace())
    await asyncio.sleep(0)
    later = asyncio.create_task(hold(lane, second))
    await asyncio.sleep(0)
    assert not grace.done()
    first.set()
    await now
    await grace
    assert lane.in_flight == 1
    second.set()
    await later
