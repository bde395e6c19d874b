from __future__ import annotations

import asyncio

import pytest

from replank.definition import read_call
from replank.errors import DefinitionError, HostStopped, StreamEnded, UnknownCall
from replank.module import query, stream
from replank.traffic.calls import Chain
from replank.traffic.drain import Drain
from replank.traffic.gate import Gate
from replank.traffic.lane import LaneState
from replank.traffic.moves import Moved, end_streams
from replank.traffic.streams import IDLE_S

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


# -- what becomes of open streams in a reload ------------------------------------------------------


def feed_of(generation, on_reload="finish", *, news=None, log=None):
    """Count up, from the resume value on; wait for news before each item when there are any."""

    @stream(on_reload=on_reload)
    async def numbers(start=0, *, resume=None):
        n = start if resume is None else resume[1] + 1
        try:
            while True:
                if news is not None:
                    await news.wait()
                yield generation, n
                n += 1
        finally:
            if log is not None:
                log.append(generation)

    return numbers


async def reload(gate, generation=2, **methods):
    drain = Drain([gate])
    drain.close()
    await drain.wait(LONG, {})
    return drain.reopen({gate.module: make_lane(gate, generation, **methods)})[gate.module].streams


async def test_a_stream_that_resumes_goes_on_in_the_new_version_after_the_last_item():
    log = []
    gate = open_gate(numbers=feed_of(1, "resume", log=log))
    read = gate.lane.entries["numbers"](5)
    assert [await anext(read), await anext(read)] == [(1, 5), (1, 6)]
    assert await reload(gate, numbers=feed_of(2, "resume")) == Moved(carried=1)
    assert log == []
    assert await anext(read) == (2, 7)
    assert log == [1]
    (resumed,) = read.resumed
    assert resumed.goes_on_in == "ledger (generation 2)"
    assert await reload(gate, 3, numbers=feed_of(3, "resume")) == Moved(carried=1)
    assert await anext(read) == (3, 8)
    await read.aclose()
    assert gate.in_flight == 0


async def test_a_stream_between_two_items_lets_go_of_its_version_although_nobody_reads_on():
    log = []
    gate = open_gate(numbers=feed_of(1, "resume", log=log))
    old, read = gate.lane, gate.lane.entries["numbers"]()
    await anext(read)
    assert await reload(gate, numbers=feed_of(2, "resume")) == Moved(carried=1)
    await turns()
    assert log == [1]
    assert len(old.streams) == 0
    end_streams(old, lambda _: StreamEnded("too late"))  # its time is up: it has left long ago
    assert await anext(read) == (2, 1)
    await read.aclose()
    assert [item async for item in read] == []


async def test_a_stream_of_which_nothing_was_read_resumes_at_its_beginning():
    gate = open_gate(numbers=feed_of(1, "resume", news=asyncio.Event()))
    read = gate.lane.entries["numbers"](5)
    item = start(anext(read))
    await turns()
    await reload(gate, numbers=feed_of(2, "resume"))
    assert await item == (2, 5)
    await read.aclose()


@pytest.mark.parametrize("at_rest", [True, False])
async def test_a_stream_that_ends_says_which_versions_and_what_to_do(at_rest):
    log = []
    news = asyncio.Event()
    gate = open_gate(numbers=feed_of(1, "end", news=news, log=log))
    read = gate.lane.entries["numbers"]()
    item = start(anext(read))
    await turns()
    if at_rest:
        news.set()
        assert await item == (1, 0)
    assert await reload(gate, numbers=numbers_of(2)) == Moved(ended=1)
    with pytest.raises(StreamEnded) as ended:
        await (anext(read) if at_rest else item)
    assert log == [1]
    assert ended.value.module == "ledger"
    assert "generation 1" in ended.value.found
    assert ended.value.serves == "ledger (generation 2)"
    assert "open numbers again" in ended.value.do
    with pytest.raises(StopAsyncIteration):
        await anext(read)
    assert gate.in_flight == 0


@pytest.mark.parametrize(
    ("successor", "why"),
    [
        ({"other": numbers_of(2)}, "no stream numbers"),
        ({"numbers": numbers_of(2)}, "takes no resume value"),
    ],
)
async def test_a_stream_that_cannot_resume_ends_and_says_why(successor, why):
    gate = open_gate(numbers=feed_of(1, "resume"))
    read = gate.lane.entries["numbers"]()
    await anext(read)
    assert await reload(gate, **successor) == Moved(ended=1)
    with pytest.raises(StreamEnded, match=why):
        await anext(read)


async def test_a_third_version_decides_too_when_the_stream_is_read_no_earlier():
    gate = open_gate(numbers=feed_of(1, "resume"))
    read = gate.lane.entries["numbers"]()
    await anext(read)
    await reload(gate, numbers=feed_of(2, "resume"))
    await reload(gate, 3, other=numbers_of(3))
    with pytest.raises(StreamEnded):
        await anext(read)


@pytest.mark.parametrize("mark", [query, stream(on_reload="end"), stream(on_reload="resume")])
async def test_a_stream_that_waits_for_news_and_may_be_cut_holds_up_nobody(mark):
    @mark
    async def numbers(*, resume=None):
        await asyncio.Event().wait()
        yield 1

    gate = open_gate(numbers=numbers)
    read = gate.lane.entries["numbers"]()
    item = start(anext(read))
    await turns()
    assert gate.in_flight == 1
    drain = Drain([gate])
    drain.close()
    assert gate.in_flight == 0
    await drain.wait(LONG, {})
    drain.reopen()
    item.cancel()
    await asyncio.wait([item])


async def test_a_stream_that_has_waited_for_long_holds_up_nobody_and_finishes_where_it_began():
    news = asyncio.Event()
    gate = open_gate(numbers=feed_of(1, news=news))
    old = gate.lane
    read = gate.lane.entries["numbers"]()
    item = start(anext(read))
    await turns()
    read._since -= IDLE_S
    assert await reload(gate, numbers=feed_of(2)) == Moved(finishing=1)
    assert (old.in_flight, old.outlived) == (0, True)
    news.set()
    assert await item == (1, 0)
    assert await anext(read) == (1, 1)
    await read.aclose()
    assert old.outlived is False


async def test_a_stream_just_begun_to_compute_its_item_is_waited_for_a_moment():
    gate = open_gate(numbers=feed_of(1, news=asyncio.Event()))
    item = start(anext(gate.lane.entries["numbers"]()))
    await turns()
    drain = Drain([gate])
    drain.close()
    assert gate.in_flight == 1
    await drain.wait(LONG, {})  # ends when the stream counts as idle
    drain.reopen()
    item.cancel()
    await asyncio.wait([item])


async def test_a_stream_kept_in_a_pause_takes_no_step_until_the_gate_opens_again():
    news = asyncio.Event()
    gate = open_gate(numbers=feed_of(1, "end", news=news))
    read = gate.lane.entries["numbers"]()
    item = start(anext(read))
    await turns()
    drain = Drain([gate])
    drain.close()
    await drain.wait(LONG, {})
    news.set()
    await turns()
    assert not item.done()
    drain.reopen()  # rolled back
    assert await item == (1, 0)
    assert read.resumed == []
    await read.aclose()
    assert gate.in_flight == 0


async def test_a_stream_that_calls_another_module_is_in_flight_and_waited_for():
    step, pause = held("done")
    other = open_gate("other", slow=pause)

    @stream(on_reload="end")
    async def numbers():
        yield await call(other, "slow")

    gate = open_gate(numbers=numbers)
    item = start(anext(gate.lane.entries["numbers"]()))
    await step.reached.wait()
    drain = Drain([gate])
    drain.close()
    assert gate.in_flight == 1
    step.go.set()
    await drain.wait(LONG, {})
    drain.reopen()
    assert await item == "done"


async def test_a_stream_that_swallows_its_end_is_moved_all_the_same():
    @stream(on_reload="resume")
    async def numbers(*, resume=None):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return
        yield 1

    gate = open_gate(numbers=numbers)

    async def reader():
        item = await anext(gate.lane.entries["numbers"]())
        return item, asyncio.current_task().cancelling()

    item = start(reader())
    await turns()
    await reload(gate, numbers=feed_of(2, "resume"))
    assert await item == ((2, 0), 0)


async def test_a_reader_that_is_cancelled_in_the_pause_is_cancelled():
    gate = open_gate(numbers=feed_of(1, "resume", news=asyncio.Event()))
    item = start(anext(gate.lane.entries["numbers"]()))
    await turns()
    drain = Drain([gate])
    drain.close()
    await drain.wait(LONG, {})
    item.cancel()
    drain.reopen({"ledger": make_lane(gate, 2, numbers=feed_of(2, "resume"))})
    with pytest.raises(asyncio.CancelledError):
        await item
    assert gate.in_flight == 0


async def test_a_stream_that_waits_for_news_ends_when_the_host_stops():
    gate = open_gate(numbers=feed_of(1, news=asyncio.Event()))
    item = start(anext(gate.lane.entries["numbers"]()))
    await turns()
    gate.stop("it is stopping")
    with pytest.raises(HostStopped):
        await item


async def test_a_stream_that_nobody_holds_any_more_is_not_open():
    gate = open_gate(numbers=numbers_of(1))
    read = gate.lane.entries["numbers"]()
    await anext(read)
    assert len(gate.lane.streams) == 1
    del read
    assert len(gate.lane.streams) == 0


def test_a_mark_that_could_not_be_kept_is_refused():
    async def numbers():
        yield 1

    async def call():
        return 1

    with pytest.raises(DefinitionError, match="takes no resume value"):
        read_call("numbers", stream(on_reload="resume")(numbers), "ledger", bound=False)
    with pytest.raises(DefinitionError, match="is none"):
        read_call("call", stream(on_reload="end")(call), "ledger", bound=False)
    with pytest.raises(DefinitionError, match="takes 'finish'"):
        stream(on_reload="later")
