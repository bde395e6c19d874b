from __future__ import annotations

import asyncio
import contextlib

import pytest

from replank.errors import HostStopped, ModuleDown, Overloaded, UnknownCall
from replank.traffic.calls import live_chain
from replank.traffic.gate import Gate
from replank.traffic.lane import LaneState

from .parts import call, held, make_lane, open_gate, start, turns


async def echo(value=None):
    return value


async def second(value=None):
    return ("second", value)


async def test_a_call_through_an_open_gate_runs_and_is_counted():
    gate = open_gate(echo=echo)
    assert await call(gate, "echo", 5) == 5
    assert (gate.calls, gate.in_flight, gate.waiting) == (1, 0, 0)


async def test_a_call_is_in_flight_until_it_ends_also_when_it_raises():
    step, _ = held()

    async def failing():
        await step()
        raise ValueError("no")

    gate = open_gate(failing=failing)
    task = start(call(gate, "failing"))
    await step.reached.wait()
    assert gate.in_flight == 1
    step.go.set()
    with pytest.raises(ValueError, match="no"):
        await task
    assert gate.in_flight == 0


async def test_a_call_at_a_closed_gate_waits_and_runs_on_the_lane_that_serves_then():
    gate = open_gate(echo=echo)
    gate.close()
    waiting = start(call(gate, "echo", 1))
    await turns()
    assert gate.waiting == 1
    gate.quiet()
    gate.reopen(make_lane(gate, 2, echo=second))
    assert await waiting == ("second", 1)
    assert gate.calls == 1


async def test_after_a_reopening_without_a_new_lane_the_old_one_serves():
    gate = open_gate(echo=echo)
    gate.close()
    waiting = start(call(gate, "echo", 1))
    await turns()
    gate.reopen()
    assert await waiting == 1
    assert gate.is_open


async def test_waiting_calls_run_in_order_of_arrival():
    order = []

    async def note(value):
        order.append(value)

    gate = open_gate(note=note)
    gate.close()
    tasks = [start(call(gate, "note", n)) for n in range(50)]
    await turns()
    gate.reopen()
    await asyncio.gather(*tasks)
    assert order == list(range(50))


async def test_calls_that_come_while_the_waiting_ones_start_do_not_overtake_them():
    order = []

    async def note(value):
        order.append(value)

    gate = open_gate(note=note)
    gate.close()
    tasks = [start(call(gate, "note", n)) for n in range(3)]
    await turns()
    gate.reopen()
    late = [start(call(gate, "note", n)) for n in range(3, 6)]
    assert not gate.is_open
    await asyncio.gather(*tasks, *late)
    assert order == [0, 1, 2, 3, 4, 5]
    await turns(3)
    assert gate.is_open


async def test_a_stale_release_of_an_earlier_opening_lets_nothing_overtake():
    """Closed and opened again within one turn of the loop: the first release is still queued."""
    order = []

    async def note(value):
        order.append(value)

    gate = open_gate(note=note)
    gate.close()
    early = start(call(gate, "note", 0))
    await turns()
    gate.reopen()
    gate.close()
    waiting = start(call(gate, "note", 1))

    async def closes_and_calls():
        gate.reopen()
        await call(gate, "note", 2)

    await asyncio.gather(early, waiting, start(closes_and_calls()))
    assert order == [0, 1, 2]


async def test_calls_that_wait_before_the_first_generation_are_not_overtaken():
    order = []

    async def note(value):
        order.append(value)

    gate = Gate("ledger")
    lane = make_lane(gate, 1, note=note)
    waiting = start(lane.entries["note"](1))
    await turns()
    gate.first_open(lane)
    await lane.entries["note"](2)
    await waiting
    assert order == [1, 2]


async def test_a_first_generation_that_nobody_waits_for_opens_at_once():
    gate = open_gate(echo=echo)
    assert gate.is_open


async def test_a_cancelled_waiting_call_never_runs():
    step, method = held()
    gate = open_gate(method=method)
    gate.close()
    waiting = start(call(gate, "method"))
    await turns()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert gate.waiting == 0
    gate.reopen()
    await turns()
    assert step.runs == 0
    assert gate.in_flight == 0


async def test_a_call_cancelled_after_its_release_but_before_its_start_never_runs():
    step, method = held()
    gate = open_gate(method=method)
    gate.close()
    waiting = start(call(gate, "method"))
    await turns()
    gate.reopen()
    assert gate.in_flight == 1
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert step.runs == 0
    assert gate.in_flight == 0


async def test_a_caller_whose_time_is_up_is_taken_out():
    gate = open_gate(echo=echo)
    gate.close()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001):
            await call(gate, "echo")
    assert gate.waiting == 0
    held_ = gate.reopen()
    assert held_.calls == 1
    assert held_.longest_wait_s > 0


async def test_what_was_held_is_told_when_the_gate_opens():
    gate = open_gate(echo=echo)
    gate.close()
    tasks = [start(call(gate, "echo")) for _ in range(3)]
    await turns()
    told = gate.reopen()
    assert told.calls == 3
    assert 0 < told.longest_wait_s <= told.closed_s
    await asyncio.gather(*tasks)


async def test_calls_that_wait_since_an_earlier_closing_are_counted_in_the_next():
    gate = open_gate(echo=echo)
    gate.close()
    first = start(call(gate, "echo"))
    await turns()
    late = start(call(gate, "echo"))
    asyncio.get_running_loop().call_soon(gate.close)
    gate.reopen()  # not open for all yet when the late one comes
    await turns()
    assert gate.waiting == 1
    assert gate.reopen().calls == 1
    await asyncio.gather(first, late)


async def test_too_many_waiting_calls_are_refused_and_counted():
    gate = open_gate(waiting_max=2, echo=echo)
    gate.close()
    tasks = [start(call(gate, "echo")) for _ in range(2)]
    await turns()
    with pytest.raises(Overloaded) as refused:
        await call(gate, "echo")
    assert refused.value.module == "ledger"
    assert refused.value.do
    assert gate.refused == 1
    gate.reopen()
    await asyncio.gather(*tasks)


async def test_a_call_that_the_new_version_no_longer_has_is_refused_with_its_name():
    gate = open_gate(gone=echo)
    gate.close()
    waiting = start(call(gate, "gone"))
    await turns()
    gate.reopen(make_lane(gate, 2, echo=echo))
    with pytest.raises(UnknownCall) as refused:
        await waiting
    assert refused.value.found == "gone"
    assert refused.value.expected == "echo"
    assert refused.value.serves == "generation 2"
    assert gate.in_flight == 0


async def test_a_stale_reference_leads_to_the_generation_that_serves():
    gate = open_gate(echo=echo)
    stale = gate.lane.entries["echo"]
    gate.close()
    gate.reopen(make_lane(gate, 2, echo=second))
    assert gate.is_open
    assert await stale(7) == ("second", 7)
    assert gate.calls == 1


async def test_a_stale_reference_waits_at_a_closed_gate_too():
    gate = open_gate(echo=echo)
    stale = gate.lane.entries["echo"]
    gate.close()
    gate.reopen(make_lane(gate, 2, echo=second))
    gate.close()
    waiting = start(stale(7))
    await turns()
    assert gate.waiting == 1
    gate.reopen(make_lane(gate, 3, echo=echo))
    assert await waiting == 7


async def test_a_nested_call_belongs_to_the_chain_of_the_outer_one():
    inner = open_gate("inner", echo=echo)
    touched = []

    async def outer():
        answer = await call(inner, "echo", 3)
        touched.extend(lane.gate.module for lane in live_chain().lanes)
        return answer

    gate = open_gate("outer", outer=outer)
    assert await call(gate, "outer") == 3
    assert touched == ["outer", "inner"]
    assert live_chain() is None


async def test_a_chain_stays_in_flight_in_every_module_until_its_outermost_call_ends():
    inner = open_gate("inner", echo=echo)
    step, pause = held()

    async def outer():
        await call(inner, "echo")
        await pause()

    gate = open_gate("outer", outer=outer)
    task = start(call(gate, "outer"))
    await step.reached.wait()
    assert (gate.in_flight, inner.in_flight) == (1, 1)
    step.go.set()
    await task
    assert (gate.in_flight, inner.in_flight) == (0, 0)


async def test_a_chain_in_flight_enters_its_own_closed_module_again():
    step, pause = held()
    gate = Gate("ledger")

    async def outer():
        await pause()
        return await call(gate, "echo", "nested")

    gate.first_open(make_lane(gate, 1, outer=outer, echo=echo))
    task = start(call(gate, "outer"))
    await step.reached.wait()
    gate.close()
    step.go.set()
    assert await task == "nested"
    assert gate.calls == 2


async def test_a_chain_that_no_drain_waits_for_waits_at_a_closed_gate():
    inner = open_gate("inner", echo=echo)

    async def outer():
        return await call(inner, "echo", 1)

    gate = open_gate("outer", outer=outer)
    inner.close()
    task = start(call(gate, "outer"))
    await turns()
    assert inner.waiting == 1
    inner.reopen(make_lane(inner, 2, echo=second))
    assert await task == ("second", 1)
    assert inner.in_flight == 0


async def test_a_chain_that_ended_while_its_branch_waited_gives_the_branch_a_chain_of_its_own():
    inner = open_gate("inner", echo=echo)
    branches = []

    async def outer():
        branches.append(start(call(inner, "echo", 1)))

    gate = open_gate("outer", outer=outer)
    inner.close()
    await call(gate, "outer")
    await turns()
    assert inner.waiting == 1
    inner.reopen()
    assert inner.in_flight == 1
    assert await branches[0] == 1
    assert inner.in_flight == 0


async def test_a_nested_call_that_its_epoch_does_not_have_is_an_unknown_call():
    step, pause = held()
    gate = Gate("ledger")

    async def outer(entry):
        await pause()
        return await entry()

    gate.first_open(make_lane(gate, 1, outer=outer))
    newer = make_lane(gate, 2, added=echo)
    task = start(call(gate, "outer", newer.entries["added"]))
    await step.reached.wait()
    gate.close()
    step.go.set()
    with pytest.raises(UnknownCall):
        await task


async def test_a_sync_call_gives_the_same_answer_at_an_open_and_at_a_closed_gate():
    def numbers():
        return (n for n in range(3))

    gate = open_gate(numbers=numbers)
    assert list(await call(gate, "numbers")) == [0, 1, 2]
    gate.close()
    waiting = start(call(gate, "numbers"))
    await turns()
    gate.reopen()
    assert list(await waiting) == [0, 1, 2]


async def test_a_stopped_gate_refuses_waiting_and_later_calls():
    gate = open_gate(echo=echo)
    gate.close()
    waiting = start(call(gate, "echo"))
    opened = start(gate.opened())
    await turns()
    gate.stop("it is stopping")
    for refused in (waiting, opened, call(gate, "echo")):
        with pytest.raises(HostStopped, match="it is stopping"):
            await refused


async def test_a_stopped_gate_refuses_also_the_nested_calls_of_what_is_in_flight():
    step, pause = held()
    gate = Gate("ledger")

    async def outer():
        await pause()
        await call(gate, "echo")

    gate.first_open(make_lane(gate, 1, outer=outer, echo=echo))
    task = start(call(gate, "outer"))
    await step.reached.wait()
    gate.stop("it is stopping")
    step.go.set()
    with pytest.raises(HostStopped):
        await task


async def test_a_gate_that_was_stopped_while_it_released_stays_shut():
    gate = open_gate(echo=echo)
    gate.close()
    waiting = start(call(gate, "echo", 1))
    await turns()
    gate.reopen()
    gate.stop("it is stopping")
    assert await waiting == 1
    await turns()
    assert not gate.is_open


async def test_opened_returns_when_the_gate_is_open_and_only_then():
    gate = open_gate(echo=echo)
    await gate.opened()
    gate.close()
    opened = start(gate.opened())
    await turns()
    assert not opened.done()
    gate.reopen()
    await opened


async def test_a_gate_under_constant_load_opens_at_last():
    """New calls arrive each turn while the waiting ones start; the release has a bound."""
    gate = open_gate(echo=echo)
    gate.close()
    tasks = [start(call(gate, "echo"))]
    await turns()
    gate.reopen()
    for _ in range(3_000):
        tasks.append(start(call(gate, "echo")))
        await asyncio.sleep(0)
        if gate.is_open:
            break
    assert gate.is_open
    await asyncio.gather(*tasks)
    assert gate.calls == len(tasks)


async def test_the_longest_call_is_measured():
    gate = open_gate(echo=echo)
    gate.lane.timed = True
    await call(gate, "echo")
    assert gate.longest_call_s > 0


async def test_a_gate_cannot_be_closed_twice_or_opened_when_it_is_not_closed():
    gate = open_gate(echo=echo)
    with pytest.raises(AssertionError):
        gate.reopen()
    with pytest.raises(AssertionError):
        gate.quiet()
    gate.close()
    with pytest.raises(AssertionError):
        gate.close()


async def test_the_states_of_a_lane_through_one_reload():
    gate = Gate("ledger")
    old = make_lane(gate, 1, echo=echo)
    seen = [old.state]
    gate.first_open(old)
    seen.append(old.state)
    gate.close()
    seen.append(old.state)
    gate.quiet()
    seen.append(old.state)
    new = make_lane(gate, 2, echo=echo)
    gate.reopen(new)
    seen.append(old.state)
    assert seen == list(LaneState)
    assert new.state is LaneState.OPEN


async def test_cancelling_all_of_many_waiting_calls_leaves_nothing_behind():
    gate = open_gate(echo=echo)
    gate.close()
    tasks = [start(call(gate, "echo")) for _ in range(200)]
    await turns()
    for task in reversed(tasks):
        task.cancel()
    for task in tasks:
        with contextlib.suppress(asyncio.CancelledError):
            await task
    assert gate.waiting == 0
    gate.reopen()
    assert gate.is_open
    assert gate.calls == 0


async def test_an_interrupted_gate_holds_what_comes_until_it_is_closed_and_opened_again():
    gate = open_gate(echo=echo)
    gate.interrupt()
    waiting = start(call(gate, "echo", 1))
    opened = start(gate.opened())
    await turns()
    assert (gate.waiting, opened.done()) == (1, False)
    gate.close()
    assert gate.reopen().calls == 1
    assert await waiting == 1
    await opened


async def test_a_gate_that_refuses_answers_every_call_until_another_generation_serves():
    gate = open_gate(echo=echo)
    gate.interrupt()
    waiting = start(call(gate, "echo", 1))
    opened = start(gate.opened())
    await turns()
    gate.refuse(lambda: ModuleDown("down", module="m"))
    with pytest.raises(ModuleDown):
        await waiting
    with pytest.raises(ModuleDown):
        await call(gate, "echo", 2)
    gate.close()
    gate.quiet()
    gate.reopen()  # a reload that failed
    with pytest.raises(ModuleDown):
        await call(gate, "echo", 3)
    assert not opened.done()  # its inbox waits
    gate.close()
    gate.quiet()
    gate.reopen(make_lane(gate, 2, echo=second))
    assert await call(gate, "echo", 4) == ("second", 4)
    await opened
