from __future__ import annotations

import asyncio

import pytest

from replank.errors import HostStopped, UnknownCall
from replank.traffic.calls import Chain
from replank.traffic.drain import Drain
from replank.traffic.gate import Gate
from replank.traffic.lane import LaneState

from .parts import call, held, make_lane, open_gate, start, turns

LONG = 30.0


def numbers_of(generation):
    async def numbers(count=3):
        for n in range(count):
            yield generation, n

    return numbers


def open_stream(gate, *args):
    return gate.lane.entries["numbers"](*args)


async def replaced(gate, generation=2, **methods):
    drain = Drain([gate])
    drain.close()
    await drain.wait(LONG, {})
    drain.reopen({gate.module: make_lane(gate, generation, **methods)})


async def test_a_stream_answers_item_by_item():
    gate = open_gate(numbers=numbers_of(1))
    assert [item async for item in open_stream(gate, 2)] == [(1, 0), (1, 1)]
    assert gate.calls == 1
    assert gate.in_flight == 0


async def test_an_open_stream_does_not_block_a_drain_and_goes_on_where_it_began():
    gate = open_gate(numbers=numbers_of(1))
    stream = open_stream(gate)
    assert await anext(stream) == (1, 0)
    await replaced(gate, numbers=numbers_of(2))
    assert await anext(stream) == (1, 1)
    assert await anext(open_stream(gate)) == (2, 0)
    assert [item async for item in stream] == [(1, 2)]


async def test_a_stream_that_computes_an_item_is_in_flight():
    step, pause = held()

    async def numbers():
        yield await pause()

    gate = open_gate(numbers=numbers)
    item = start(anext(open_stream(gate)))
    await step.reached.wait()
    assert gate.in_flight == 1
    drain = Drain([gate])
    drain.close()
    waiting = start(drain.wait(LONG, {}))
    await turns()
    assert not waiting.done()
    step.go.set()
    await waiting
    await item


async def test_a_stream_waits_at_a_closed_gate_between_two_items():
    gate = open_gate(numbers=numbers_of(1))
    stream = open_stream(gate)
    await anext(stream)
    gate.close()
    item = start(anext(stream))
    await turns()
    assert not item.done()
    gate.reopen()
    assert await item == (1, 1)


async def test_a_stream_that_begins_at_a_closed_gate_begins_in_the_new_generation():
    gate = open_gate(numbers=numbers_of(1))
    drain = Drain([gate])
    drain.close()
    item = start(anext(open_stream(gate)))
    await turns()
    await drain.wait(LONG, {})
    drain.reopen({"ledger": make_lane(gate, 2, numbers=numbers_of(2))})
    assert await item == (2, 0)


async def test_a_stream_asked_for_before_a_reload_does_not_begin_in_the_pause_of_the_next():
    gate = open_gate(numbers=numbers_of(1))
    stream = open_stream(gate)
    await replaced(gate, numbers=numbers_of(2))
    drain = Drain([gate])
    drain.close()
    await drain.wait(LONG, {})
    item = start(anext(stream))
    await turns()
    assert not item.done()
    assert gate.in_flight == 0
    drain.reopen()
    assert await item == (2, 0)


async def test_a_stream_inside_a_call_does_not_enter_a_quiet_lane():
    """The outer call is in flight elsewhere; the module it streams from is in its pause."""
    ledger = open_gate("ledger", numbers=numbers_of(1))

    async def outer():
        return [item async for item in open_stream(ledger)]

    api = open_gate("api", outer=outer)
    drain = Drain([ledger])
    drain.close()
    await drain.wait(LONG, {})
    task = start(call(api, "outer"))
    await turns()
    assert not task.done()
    assert ledger.in_flight == 0
    drain.reopen()
    assert await task == [(1, 0), (1, 1), (1, 2)]


async def test_a_stream_inside_a_call_that_a_drain_waits_for_is_let_through():
    step, pause = held()
    ledger = Gate("ledger")

    async def outer():
        await pause()
        return [item async for item in open_stream(ledger)]

    ledger.first_open(make_lane(ledger, 1, outer=outer, numbers=numbers_of(1)))
    task = start(call(ledger, "outer"))
    await step.reached.wait()
    drain = Drain([ledger])
    drain.close()
    step.go.set()
    await drain.wait(LONG, {})
    assert task.result() == [(1, 0), (1, 1), (1, 2)]


async def test_a_rehearsal_streams_from_the_candidate_and_not_from_what_serves():
    gate = open_gate(numbers=numbers_of(1))
    candidate = make_lane(gate, 2, numbers=numbers_of(2))
    chain = Chain.of(candidate, "reload").begin()
    assert await anext(candidate.entries["numbers"]()) == (2, 0)
    chain.leave()
    assert gate.calls == 0


async def test_a_stream_that_the_version_that_serves_no_longer_has_is_an_unknown_call():
    gate = open_gate(numbers=numbers_of(1))
    stream = open_stream(gate)
    await replaced(gate, other=numbers_of(2))
    with pytest.raises(UnknownCall):
        await anext(stream)


async def test_what_a_stream_raises_reaches_its_reader_and_ends_it():
    async def numbers():
        yield 1
        raise ValueError("no")

    gate = open_gate(numbers=numbers)
    stream = open_stream(gate)
    await anext(stream)
    with pytest.raises(ValueError, match="no"):
        await anext(stream)
    with pytest.raises(StopAsyncIteration):
        await anext(stream)
    assert gate.in_flight == 0


def noting_its_end(ended):
    async def numbers():
        try:
            yield 1
            yield 2
        finally:
            ended.append(1)

    return numbers


async def test_ending_a_stream_early_runs_its_finally_blocks():
    ended = []
    gate = open_gate(numbers=noting_its_end(ended))
    unread = open_stream(gate)
    await unread.aclose()
    assert gate.calls == 0
    stream = open_stream(gate)
    await anext(stream)
    await stream.aclose()
    assert ended == [1]
    assert gate.in_flight == 0


async def test_ending_a_stream_in_a_pause_waits_for_the_gate():
    ended = []
    gate = open_gate(numbers=noting_its_end(ended))
    stream = open_stream(gate)
    await anext(stream)
    drain = Drain([gate])
    drain.close()
    await drain.wait(LONG, {})
    closing = start(stream.aclose())
    await turns()
    assert ended == []
    drain.reopen()
    await closing
    assert ended == [1]


async def test_a_stream_can_be_ended_when_the_host_has_stopped():
    ended = []
    gate = open_gate(numbers=noting_its_end(ended))
    stream = open_stream(gate)
    await anext(stream)
    gate.stop("it is stopping")
    with pytest.raises(HostStopped):
        await anext(stream)
    await stream.aclose()
    assert ended == [1]


async def test_a_reader_that_is_cancelled_while_it_waits_at_the_gate_reads_nothing():
    gate = open_gate(numbers=numbers_of(1))
    stream = open_stream(gate)
    gate.close()
    item = start(anext(stream))
    await turns()
    item.cancel()
    await asyncio.wait([item])
    gate.reopen()
    assert gate.lane.state is LaneState.OPEN
    assert gate.calls == 0
    assert await anext(stream) == (1, 0)
    await stream.aclose()
