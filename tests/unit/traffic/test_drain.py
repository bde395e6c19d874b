from __future__ import annotations

import asyncio

import pytest

from replank.errors import CallAborted, PhaseTimeout
from replank.traffic.calls import CANCELLED_BY_DRAIN, find_blockers
from replank.traffic.drain import Drain
from replank.traffic.gate import Gate
from replank.traffic.lane import LaneState
from replank.traffic.outliving import AbortedChain

from .parts import call, held, make_lane, open_gate, start, turns

LONG = 30.0


async def echo(value=None):
    return value


async def test_a_drain_of_idle_gates_is_quiet_at_once():
    gates = [open_gate("a", echo=echo), open_gate("b", echo=echo)]
    drain = Drain(gates)
    drain.close()
    drained = await drain.wait(LONG, {})
    assert drained.modules == ("a", "b")
    assert all(gate.lane.state is LaneState.QUIET for gate in gates)
    told = drain.reopen()
    assert set(told) == {"a", "b"}
    assert all(gate.is_open for gate in gates)


async def test_a_drain_waits_for_what_is_in_flight():
    step, pause = held("done")
    gate = open_gate(slow=pause)
    task = start(call(gate, "slow"))
    await step.reached.wait()
    drain = Drain([gate])
    drain.close()
    waiting = start(drain.wait(LONG, {}))
    await turns()
    assert not waiting.done()
    step.go.set()
    drained = await waiting
    assert drained.detached == drained.cancelled == ()
    assert await task == "done"


async def test_a_drain_that_is_too_slow_names_who_blocks_and_the_gate_opens_again():
    step, pause = held("done")
    gate = open_gate(slow=pause)
    tasks = [start(call(gate, "slow")) for _ in range(7)]
    await step.reached.wait()
    await turns()
    drain = Drain([gate])
    drain.close()
    with pytest.raises(PhaseTimeout) as failed:
        await drain.wait(0.001, {"ledger": "abort"})
    assert failed.value.module == "ledger"
    assert "ledger.slow" in failed.value.found
    assert "and 2 more" in failed.value.found
    assert "7 call(s)" in failed.value.what
    drain.reopen()
    step.go.set()
    assert await asyncio.gather(*tasks) == ["done"] * 7
    assert not any(lane.on_empty for lane in [gate.lane])


async def test_chains_between_two_draining_modules_are_let_through_to_their_end():
    """Each holds one module and needs the other: were they to wait, both drains would hang."""
    a, b = Gate("a"), Gate("b")
    first, hold_first = held()
    second, hold_second = held()

    async def a_then_b():
        await hold_first()
        return await call(b, "echo", "b")

    async def b_then_a():
        await hold_second()
        return await call(a, "echo", "a")

    a.first_open(make_lane(a, 1, go=a_then_b, echo=echo))
    b.first_open(make_lane(b, 1, go=b_then_a, echo=echo))
    tasks = [start(call(a, "go")), start(call(b, "go"))]
    await first.reached.wait()
    await second.reached.wait()
    drain = Drain([a, b])
    drain.close()
    waiting = start(drain.wait(LONG, {}))
    first.go.set()
    second.go.set()
    await waiting
    assert [task.result() for task in tasks] == ["b", "a"]


async def test_two_drains_at_the_same_time_let_each_others_chains_through():
    a, b = Gate("a"), Gate("b")
    first, hold_first = held()
    second, hold_second = held()

    async def a_then_b():
        await hold_first()
        return await call(b, "echo", "b")

    async def b_then_a():
        await hold_second()
        return await call(a, "echo", "a")

    a.first_open(make_lane(a, 1, go=a_then_b, echo=echo))
    b.first_open(make_lane(b, 1, go=b_then_a, echo=echo))
    tasks = [start(call(a, "go")), start(call(b, "go"))]
    await first.reached.wait()
    await second.reached.wait()
    drains = [Drain([a]), Drain([b])]
    for drain in drains:
        drain.close()
    waiting = [start(drain.wait(LONG, {})) for drain in drains]
    first.go.set()
    second.go.set()
    await asyncio.gather(*waiting)
    assert [task.result() for task in tasks] == ["b", "a"]


async def test_a_branch_that_waits_at_one_drain_is_let_through_when_another_awaits_its_chain():
    """One branch of a chain waits at b; then a is drained too, and another branch enters b.

    The drain of b now waits for the chain, so the branch that waits at b must not wait for it.
    """
    a, b = open_gate("a", echo=echo), open_gate("b", echo=echo)
    step, pause = held()

    async def both():
        await call(a, "echo")
        waits = start(call(b, "echo", "branch"))
        await pause()
        through = await call(b, "echo", "direct")
        return through, await waits

    api = open_gate("api", both=both)
    drain_b, drain_a = Drain([b]), Drain([a])
    task = start(call(api, "both"))
    drain_b.close()
    await step.reached.wait()
    await turns()
    assert b.waiting == 1
    drain_a.close()
    waiting = [start(drain_a.wait(LONG, {})), start(drain_b.wait(LONG, {}))]
    step.go.set()
    async with asyncio.timeout(5):
        await asyncio.gather(*waiting)
    assert task.result() == ("direct", "branch")
    assert b.waiting == 0


async def test_a_branch_that_waits_at_a_quiet_gate_goes_on_waiting():
    a, b = open_gate("a", echo=echo), open_gate("b", echo=echo)

    async def both():
        await call(a, "echo")
        return await call(b, "echo", "branch")

    api = open_gate("api", both=both)
    drain_b = Drain([b])
    drain_b.close()
    await drain_b.wait(LONG, {})
    task = start(call(api, "both"))
    await turns()
    drain_a = Drain([a])
    drain_a.close()
    await turns()
    assert b.waiting == 1
    drain_b.reopen()
    await drain_a.wait(LONG, {})
    assert task.result() == "branch"


async def test_nothing_enters_a_quiet_lane_not_even_an_awaited_chain():
    a, b = Gate("a"), Gate("b")
    step, pause = held()

    async def a_then_b():
        await pause()
        return await call(b, "echo", 1)

    a.first_open(make_lane(a, 1, go=a_then_b))
    b.first_open(make_lane(b, 1, echo=echo))
    task = start(call(a, "go"))
    await step.reached.wait()
    quiet, other = Drain([b]), Drain([a])
    quiet.close()
    await quiet.wait(LONG, {})
    other.close()
    step.go.set()
    await turns()
    assert b.waiting == 1
    assert b.calls == 0
    quiet.reopen()
    await other.wait(LONG, {})
    assert await task == 1


async def test_the_policy_cancel_cancels_what_outlives_the_deadline():
    step, pause = held()
    gate = open_gate(slow=pause)
    task = start(call(gate, "slow"))
    await step.reached.wait()
    drain = Drain([gate])
    drain.close()
    drained = await drain.wait(0.001, {"ledger": "cancel"})
    assert [one.call for one in drained.cancelled] == ["slow"]
    with pytest.raises(CallAborted, match="ledger: drain: the call was ended after"):
        await task


async def test_a_call_that_ends_well_although_it_was_cancelled_is_answered():
    step, pause = held()

    async def slow():
        try:
            await pause()
        except asyncio.CancelledError:
            return "in time"

    gate = open_gate(slow=slow)
    task = start(call(gate, "slow"))
    await step.reached.wait()
    drain = Drain([gate])
    drain.close()
    await drain.wait(0.001, {"ledger": "cancel"})
    assert await task == "in time"


async def test_a_caller_that_is_cancelled_itself_is_not_told_that_the_drain_did_it():
    step, pause = held()
    gate = open_gate(slow=pause)
    task = start(call(gate, "slow"))
    await step.reached.wait()
    drain = Drain([gate])
    drain.close()
    waiting = start(drain.wait(0.001, {"ledger": "cancel"}))
    while not task.cancelling():
        await asyncio.sleep(0)
    task.cancel()
    await waiting
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_answer_given_while_a_cancellation_is_handled_further_out_is_an_answer():
    """What the caller is handling is not what leaves the call."""
    step, pause = held("answer")
    gate = open_gate(slow=pause)

    async def caller():
        try:
            raise asyncio.CancelledError(CANCELLED_BY_DRAIN)
        except asyncio.CancelledError:
            return await call(gate, "slow")

    task = start(caller())
    await step.reached.wait()
    (chain,) = gate.lane.chains
    (chain.blocker,) = find_blockers([gate.lane])
    chain.__class__ = AbortedChain
    step.go.set()
    assert await task == "answer"


async def test_the_policy_detach_leaves_it_on_the_old_lane():
    step, pause = held("old")
    gate = open_gate(slow=pause)
    old = gate.lane
    task = start(call(gate, "slow"))
    await step.reached.wait()
    drain = Drain([gate])
    drain.close()
    drained = await drain.wait(0.001, {"ledger": "detach"})
    assert [one.call for one in drained.detached] == ["slow"]
    drain.reopen({"ledger": make_lane(gate, 2, slow=echo)})
    assert len(old.chains) == 1
    assert old.state is LaneState.RETIRED
    step.go.set()
    assert await task == "old"
    assert not old.chains


@pytest.mark.parametrize("policy", ["cancel", "detach"])
async def test_the_policy_of_the_drained_module_counts_not_of_the_one_where_the_call_came_in(
    policy,
):
    step, pause = held("old")
    ledger = open_gate("ledger", slow=pause)

    async def outer():
        return await call(ledger, "slow")

    api = open_gate("api", outer=outer)
    task = start(call(api, "outer"))
    await step.reached.wait()
    drain = Drain([ledger])
    drain.close()
    drained = await drain.wait(0.001, {"ledger": policy})
    assert len(drained.cancelled) == (policy == "cancel")
    assert len(drained.detached) == (policy == "detach")
    step.go.set()
    await asyncio.wait([task])


async def test_a_chain_in_a_module_that_aborts_is_not_detached_for_another_ones_sake():
    step, pause = held()
    ledger = open_gate("ledger", slow=pause)

    async def outer():
        return await call(ledger, "slow")

    api = open_gate("api", outer=outer)
    task = start(call(api, "outer"))
    await step.reached.wait()
    drain = Drain([ledger, api])
    drain.close()
    with pytest.raises(PhaseTimeout):
        await drain.wait(0.001, {"ledger": "detach", "api": "abort"})
    drain.reopen()
    step.go.set()
    await task


async def test_a_drain_that_is_cancelled_can_be_opened_again():
    step, pause = held(1)
    gate = open_gate(slow=pause)
    task = start(call(gate, "slow"))
    await step.reached.wait()
    drain = Drain([gate])
    drain.close()
    waiting = start(drain.wait(LONG, {}))
    await turns()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    drain.reopen()
    step.go.set()
    assert await task == 1


async def test_a_call_released_but_not_yet_started_is_waited_for_by_the_next_drain():
    ran = []

    async def note():
        ran.append(1)

    gate = open_gate(note=note)
    first = Drain([gate])
    first.close()
    waiting = start(call(gate, "note"))
    await turns()
    await first.wait(LONG, {})
    first.reopen()
    second = Drain([gate])
    second.close()
    assert gate.in_flight == 1
    await second.wait(LONG, {})
    assert ran == [1]
    assert waiting.done()


async def test_all_gates_of_a_transaction_open_for_their_new_lanes():
    gates = [open_gate("a", echo=echo), open_gate("b", echo=echo)]

    async def newer(value=None):
        return ("new", value)

    drain = Drain(gates)
    drain.close()
    tasks = [start(call(gate, "echo", 1)) for gate in gates]
    await drain.wait(LONG, {})
    await turns()
    drain.reopen({gate.module: make_lane(gate, 2, echo=newer) for gate in gates})
    assert await asyncio.gather(*tasks) == [("new", 1), ("new", 1)]
