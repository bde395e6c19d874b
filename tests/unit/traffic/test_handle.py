from __future__ import annotations

import asyncio
import copy
import inspect

import pytest

from replank.errors import HostStopped, UnknownCall, UsageError, WrongArguments
from replank.traffic.handle import Handle, check_arguments
from replank.traffic.messages import Inbox

from .parts import make_lane, open_gate, start, turns


async def echo(value=None):
    return value


async def newer(value=None):
    return ("new", value)


def make_handle(**methods):
    gate = open_gate(**methods)
    inbox = Inbox(gate, messages_max=10, on_failure=lambda *_: None)
    handle = Handle("ledger", inbox)
    handle._serve(gate.lane)
    return handle, gate, inbox


async def test_a_handle_calls_the_generation_that_serves():
    handle, gate, _ = make_handle(echo=echo)
    assert await handle.echo(1) == 1
    gate.close()
    lane = make_lane(gate, 2, echo=newer)
    handle._serve(lane)
    gate.reopen(lane)
    assert await handle.echo(1) == ("new", 1)


async def test_a_reference_kept_to_a_call_never_goes_stale():
    handle, gate, _ = make_handle(echo=echo)
    kept = handle.echo
    gate.close()
    lane = make_lane(gate, 2, echo=newer)
    handle._serve(lane)
    gate.reopen(lane)
    assert await kept(1) == ("new", 1)


async def test_a_call_that_is_gone_is_unknown_and_one_that_is_new_is_found():
    handle, gate, _ = make_handle(old=echo)
    gate.close()
    lane = make_lane(gate, 2, added=echo)
    handle._serve(lane)
    gate.reopen(lane)
    assert await handle.added(2) == 2
    with pytest.raises(UnknownCall) as refused:
        handle.old  # noqa: B018
    assert refused.value.expected == "added"
    assert refused.value.module == "ledger"


async def test_a_handle_that_serves_nothing_yet_says_so():
    _, _, inbox = make_handle()
    with pytest.raises(UnknownCall, match="no calls at all"):
        Handle("ledger", inbox).echo  # noqa: B018


async def test_a_handle_is_no_place_for_attributes():
    handle, _, _ = make_handle(echo=echo)
    with pytest.raises(UsageError) as refused:
        handle.echo = 5
    assert refused.value.do
    assert await handle.echo(3) == 3


async def test_special_names_are_no_calls():
    handle, _, _ = make_handle(echo=echo)
    assert not hasattr(handle, "__len__")
    assert not hasattr(handle.send, "__wrapped__")
    assert not hasattr(handle.blocking, "__wrapped__")
    assert not hasattr(handle, "unknown")
    assert repr(handle) == "<handle of ledger>"
    assert copy.copy(handle).echo is handle.echo


async def test_sending_queues_a_message_and_returns_when_it_is_accepted():
    handle, _, inbox = make_handle(echo=echo)
    assert await handle.send.echo(1) is None
    assert inbox.queued == 1
    inbox.start()
    await inbox.settle(10)
    await inbox.stop()
    assert inbox.handled == 1
    with pytest.raises(HostStopped):
        await handle.send.echo(2)


async def test_sending_to_an_unknown_call_is_refused():
    handle, _, _ = make_handle(echo=echo)
    with pytest.raises(UnknownCall):
        await handle.send.nothing(1)


async def test_a_call_named_like_a_part_of_the_handle_does_not_take_its_place():
    handle, gate, inbox = make_handle(send=echo, blocking=echo, echo=echo)
    await handle.send.echo(1)
    handle._serve(make_lane(gate, 2, echo=echo))
    handle._serve(make_lane(gate, 3, echo=echo))
    await handle.send.echo(1)
    assert inbox.queued == 2
    assert await asyncio.to_thread(handle.blocking.echo, 4) == 4


async def test_a_blocking_call_from_a_thread_waits_for_the_answer():
    handle, gate, _ = make_handle(echo=echo)
    gate.close()
    waiting = start(asyncio.to_thread(handle.blocking.echo, 5))
    while not gate.waiting:
        await asyncio.sleep(0)
    gate.reopen()
    assert await waiting == 5


async def test_a_blocking_call_raises_what_the_call_raises():
    async def failing():
        raise ValueError("no")

    handle, _, _ = make_handle(failing=failing)
    with pytest.raises(ValueError, match="no"):
        await asyncio.to_thread(handle.blocking.failing)
    with pytest.raises(UnknownCall):
        await asyncio.to_thread(handle.blocking.nothing)


async def test_a_blocking_call_on_the_loops_own_thread_is_refused_at_once():
    handle, _, _ = make_handle(echo=echo)
    with pytest.raises(UsageError) as refused:
        handle.blocking.echo(1)
    assert "await handle.echo" in refused.value.do


def test_arguments_that_fit_pass_and_others_are_refused_with_the_signature():
    signature = inspect.signature(lambda owner, cents=0: None)
    check_arguments("ledger", "deposit", signature, ("ada",), {"cents": 5})
    for args, kwargs in (((), {}), (("a", 1, 2), {}), (("a",), {"other": 1})):
        with pytest.raises(WrongArguments) as refused:
            check_arguments("ledger", "deposit", signature, args, kwargs)
        assert refused.value.expected == "deposit(owner, cents=0)"
        assert refused.value.module == "ledger"


async def test_a_call_on_a_handle_waits_at_a_closed_gate():
    handle, gate, _ = make_handle(echo=echo)
    gate.close()
    task = start(handle.echo(1))
    await turns()
    assert not task.done()
    gate.reopen()
    assert await task == 1
