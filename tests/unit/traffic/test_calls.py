from __future__ import annotations

import asyncio
import contextvars
from time import perf_counter

import pytest

from replank.traffic.beat import BEAT_S
from replank.traffic.calls import (
    CANCELLED_BY_DRAIN,
    Chain,
    chain_var,
    ends_only_the_call,
    find_blockers,
    live_chain,
    outside_chain,
)
from replank.traffic.gate import Gate
from replank.traffic.lane import Lane, LaneState

from .parts import call, held, make_lane, open_gate, start, turns


@pytest.fixture
async def lane() -> Lane:
    return Lane(Gate("ledger"), 1)


async def test_a_chain_is_in_flight_in_each_lane_that_it_touches_once(lane):
    other = Lane(Gate("other"), 1)
    chain = Chain.of(lane, "deposit")
    chain.touch(other)
    chain.touch(other)
    chain.touch(lane)
    assert chain.lanes == (lane, other)
    chain.leave()
    chain.leave()
    assert chain.lanes == ()
    assert not lane.chains
    assert not other.chains


async def test_an_ended_chain_touches_nothing_more(lane):
    other = Lane(Gate("other"), 1)
    chain = Chain.of(lane, "deposit")
    chain.leave()
    chain.touch(other)
    assert not other.chains


async def test_a_begun_chain_is_found_by_the_code_it_runs_and_not_after_its_end(lane):
    chain = Chain.of(lane, "deposit").begin()
    assert live_chain() is chain
    chain.leave()
    assert live_chain() is None


async def test_a_task_that_outlives_its_chain_belongs_to_none(lane):
    chain = Chain.of(lane, "deposit").begin()
    go = asyncio.Event()

    async def later():
        await go.wait()
        return live_chain()

    task = start(later())
    chain.leave()
    go.set()
    assert await task is None


async def test_a_chain_that_is_left_in_another_context_is_in_flight_nowhere(lane):
    """The collector closes an abandoned call in whatever context it happens to run."""
    chain = Chain.of(lane, "deposit").begin()
    contextvars.copy_context().run(chain.leave)
    assert not chain.alive
    assert not lane.chains
    chain_var.set(None)


async def test_a_chain_is_awaited_while_one_of_its_lanes_is_drained(lane):
    other = Lane(Gate("other"), 1)
    chain = Chain.of(lane, "deposit")
    chain.touch(other)
    assert chain.awaited is False
    other.on_empty = lambda: None
    assert chain.awaited is False  # its retirement waits, no drain
    other.state = LaneState.DRAINING
    assert chain.awaited is True
    other.on_empty = None
    assert chain.awaited is False


async def test_the_last_chain_to_leave_tells_the_drain(lane):
    told = []
    lane.on_empty = lambda: told.append(len(lane.chains))
    first, last = Chain.of(lane, "a"), Chain.of(lane, "b")
    first.leave()
    assert told == []
    last.leave()
    assert told == [0]


async def test_a_call_known_to_a_beat_only_is_never_said_to_be_longer_than_it_was(lane):
    quick = Chain(lane, "quick", perf_counter() - BEAT_S)  # it may have begun just now
    slow = Chain(lane, "slow", perf_counter() - 5)
    lane.timed = True
    quick.leave()
    assert lane.gate.longest_call_s < BEAT_S / 2
    slow.leave()
    assert 5 - BEAT_S <= lane.gate.longest_call_s < 5


async def test_the_longest_call_is_noted_at_the_gate_of_its_outermost_module(lane):
    lane.timed = True
    lane.timed_since -= 10
    chain = Chain.of(lane, "deposit")
    chain.started_at -= 5
    chain.leave()
    Chain.of(lane, "quick").leave()
    assert 5 <= lane.gate.longest_call_s < 6
    lane.timed = False
    slower = Chain.of(lane, "deposit")
    slower.started_at -= 50
    slower.leave()
    assert lane.gate.longest_call_s < 6


async def test_outside_chain_is_a_context_without_one_and_leaves_the_own_alone(lane):
    chain = Chain.of(lane, "deposit").begin()
    assert outside_chain().run(live_chain) is None
    assert live_chain() is chain
    chain.leave()


async def test_a_blocker_is_named_with_its_age_and_the_line_where_it_stands():
    step, pause = held()

    async def slow():
        await pause()

    gate = open_gate(slow=slow)
    task = start(call(gate, "slow"))
    await step.reached.wait()
    (blocker,) = find_blockers([gate.lane])
    assert (blocker.module, blocker.call) == ("ledger", "slow")
    assert blocker.blocks == ("ledger",)
    assert blocker.task is task
    assert blocker.age_s > 0
    assert any(place.endswith("in slow") for place in blocker.stack)
    assert str(blocker).startswith("ledger.slow (0.0")
    assert ", at " in str(blocker)
    step.go.set()
    await task


async def test_blockers_are_named_oldest_first_and_only_those_of_the_lanes_asked_for():
    step, pause = held()
    gate = open_gate(a=pause, b=pause)
    other = open_gate("other", c=pause)
    tasks = []
    for target, name in ((gate, "a"), (other, "c"), (gate, "b")):
        tasks.append(start(call(target, name)))
        await turns()
    assert [one.call for one in find_blockers([gate.lane])] == ["a", "b"]
    step.go.set()
    await asyncio.gather(*tasks)
    assert find_blockers([gate.lane]) == ()


async def test_a_chain_that_came_in_elsewhere_is_named_there_and_blocks_here():
    step, pause = held()
    inner = open_gate("inner", slow=pause)

    async def outer():
        await call(inner, "slow")

    gate = open_gate("outer", outer=outer)
    task = start(call(gate, "outer"))
    await step.reached.wait()
    (blocker,) = find_blockers([inner.lane])
    assert (blocker.module, blocker.call, blocker.blocks) == ("outer", "outer", ("inner",))
    step.go.set()
    await task


async def test_the_task_of_a_blocker_is_its_outermost_call_not_one_of_its_branches():
    step, pause = held()
    gate = Gate("ledger")

    async def outer():
        await pause()
        await asyncio.gather(*(call(gate, "branch") for _ in range(8)))

    inner, inner_pause = held()
    gate.first_open(make_lane(gate, 1, outer=outer, branch=inner_pause))
    task = start(call(gate, "outer"))
    await step.reached.wait()
    gate.close()
    step.go.set()
    await inner.reached.wait()
    await turns()
    assert inner.runs == 8
    (blocker,) = find_blockers([gate.lane])
    assert blocker.task is task
    inner.go.set()
    await task


async def test_a_blocker_that_no_task_carries_is_named_all_the_same(lane):
    chains = [Chain.of(lane, "reload")]  # in a list: no frame holds the chain itself
    (blocker,) = find_blockers([lane])
    assert blocker.task is None
    assert blocker.stack == ()
    assert str(blocker).startswith("ledger.reload (")
    chains[0].leave()


async def test_a_cancellation_that_nobody_asked_of_this_task_ends_only_the_call():
    assert ends_only_the_call(asyncio.CancelledError())


@pytest.mark.parametrize(("message", "only"), [(CANCELLED_BY_DRAIN, True), ("stop", False)])
async def test_a_drains_cancellation_ends_the_call_and_any_other_the_worker(message, only):
    seen = []

    async def worker():
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError as error:
            seen.append(ends_only_the_call(error))
            seen.append(asyncio.current_task().cancelling())

    task = start(worker())
    await turns()
    task.cancel(message)
    await task
    assert seen == [only, 0 if only else 1]
