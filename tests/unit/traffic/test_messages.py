from __future__ import annotations

import asyncio
import datetime as dt
import inspect
import sys
import typing
from decimal import Decimal

import msgspec
import pytest

from replank.definition import Call, CallKind
from replank.errors import HostStopped, UnknownCall
from replank.traffic.drain import Drain
from replank.traffic.messages import Inbox, Message, from_plain, to_plain

from .parts import held, make_lane, open_gate, start, turns

LONG = 30.0


class Parts:
    """An inbox at a gate whose one call notes what it is sent."""

    def __init__(self, messages_max=1_000, **methods):
        self.seen = []
        self.failures = []

        async def note(value):
            self.seen.append(value)

        self.gate = open_gate(note=note, **methods)
        self.inbox = Inbox(
            self.gate,
            messages_max=messages_max,
            on_failure=lambda message, error: self.failures.append((message, error)),
        )

    async def put(self, value, call="note"):
        await self.inbox.put(Message(call, (value,), {}))


async def settled(parts: Parts) -> None:
    await parts.inbox.settle(LONG)
    await parts.inbox.stop()


async def test_messages_are_handled_one_after_the_other_in_order():
    parts = Parts()
    for n in range(100):
        await parts.put(n)
    assert parts.inbox.queued == 100
    parts.inbox.start()
    await settled(parts)
    assert parts.seen == list(range(100))
    assert (parts.inbox.accepted, parts.inbox.handled, parts.inbox.queued) == (100, 100, 0)


async def test_a_message_that_raises_is_told_and_the_queue_goes_on():
    async def failing(value):
        raise ValueError(value)

    parts = Parts(failing=failing)
    parts.inbox.start()
    await parts.put("bad", "failing")
    await parts.put("good")
    await settled(parts)
    assert parts.seen == ["good"]
    ((message, error),) = parts.failures
    assert message.call == "failing"
    assert str(error) == "bad"
    assert (parts.inbox.handled, parts.inbox.failed) == (1, 1)


@pytest.mark.parametrize("raised", [SystemExit(3), asyncio.CancelledError(), BaseException("x")])
async def test_what_a_handler_raises_never_ends_the_worker(raised):
    async def failing(value):
        raise raised

    parts = Parts(failing=failing)
    parts.inbox.start()
    await parts.put("bad", "failing")
    await parts.put("good")
    await settled(parts)
    assert parts.seen == ["good"]
    assert parts.inbox.failed == 1


async def test_an_unknown_call_is_refused_when_it_is_sent():
    parts = Parts()
    with pytest.raises(UnknownCall) as refused:
        await parts.put(1, "nothing")
    assert refused.value.expected == "note"
    assert parts.inbox.accepted == 0


async def test_a_message_whose_call_is_gone_after_a_reload_fails_with_a_clear_error():
    parts = Parts()
    await parts.put(1)
    parts.gate.close()
    parts.gate.reopen(make_lane(parts.gate, 2, other=held()[1]))
    parts.inbox.start()
    await settled(parts)
    ((_, error),) = parts.failures
    assert isinstance(error, UnknownCall)


async def test_a_message_stays_in_the_queue_while_the_gate_is_closed():
    parts = Parts()
    parts.gate.close()
    parts.inbox.start()
    await parts.put(1)
    await turns()
    assert parts.seen == []
    assert parts.inbox.queued == 1
    assert parts.gate.in_flight == 0
    parts.gate.reopen()
    await settled(parts)
    assert parts.seen == [1]


async def test_a_message_in_flight_is_drained_and_the_backlog_is_not():
    step, pause = held()
    parts = Parts(slow=pause)
    parts.inbox.start()
    await parts.put(0, "slow")
    for n in range(50):
        await parts.put(n)
    await step.reached.wait()
    drain = Drain([parts.gate])
    drain.close()
    step.go.set()
    await drain.wait(LONG, {})
    await turns()
    assert parts.seen == []
    assert parts.inbox.queued == 50
    drain.reopen()
    await settled(parts)
    assert parts.seen == list(range(50))


async def test_a_drain_that_cancels_a_message_fails_it_and_the_worker_goes_on():
    step, pause = held()
    parts = Parts(slow=pause)
    parts.inbox.start()
    await parts.put(0, "slow")
    await parts.put("after")
    await step.reached.wait()
    drain = Drain([parts.gate])
    drain.close()
    drained = await drain.wait(0.001, {"ledger": "cancel"})
    assert len(drained.cancelled) == 1
    drain.reopen()
    await settled(parts)
    assert parts.seen == ["after"]
    assert parts.inbox.failed == 1


async def test_a_sender_waits_while_the_queue_is_full_and_all_arrive_in_order():
    parts = Parts(messages_max=2)
    senders = [start(parts.put(n)) for n in range(20)]
    await turns()
    assert parts.inbox.queued == 2
    assert [one.done() for one in senders] == [True, True] + [False] * 18
    parts.inbox.start()
    await asyncio.gather(*senders)
    await settled(parts)
    assert parts.seen == list(range(20))


async def test_a_later_sender_never_overtakes_one_that_waits():
    step, pause = held()
    parts = Parts(messages_max=1, slow=pause)
    parts.inbox.start()
    await parts.put(0, "slow")
    await step.reached.wait()
    await parts.put("first")
    waits = start(parts.put("second"))
    await turns()
    step.go.set()
    await asyncio.sleep(0)
    late = start(parts.put("third"))
    await asyncio.gather(waits, late)
    await settled(parts)
    assert parts.seen == ["first", "second", "third"]


async def test_a_sender_is_let_in_as_soon_as_a_message_is_taken_not_when_it_is_done():
    step, pause = held()
    parts = Parts(messages_max=1, slow=pause)
    await parts.put(0, "slow")
    waits = start(parts.put("next"))
    await turns()
    parts.inbox.start()
    await step.reached.wait()
    await turns()
    assert waits.done()
    step.go.set()
    await settled(parts)


async def test_a_sender_that_gives_up_while_it_waits_sends_nothing():
    parts = Parts(messages_max=1)
    await parts.put("kept")
    waits = [start(parts.put(n)) for n in ("cancelled", "sent")]
    await turns()
    waits[0].cancel()
    await turns()
    parts.inbox.start()
    await asyncio.wait(waits)
    await settled(parts)
    assert parts.seen == ["kept", "sent"]
    assert parts.inbox.accepted == 2


async def test_a_sender_cancelled_between_its_turn_and_its_waking_sends_nothing():
    parts = Parts(messages_max=1)
    parts.gate.close()
    await parts.put("kept")
    waits = start(parts.put("cancelled"))
    await turns()
    parts.inbox._queue.popleft()
    parts.inbox._make_room()
    assert parts.inbox.queued == 1
    waits.cancel()
    await asyncio.wait([waits])
    assert waits.cancelled()
    assert parts.inbox.queued == 0
    assert parts.inbox.accepted == 1


async def test_a_message_withdrawn_while_the_worker_waits_at_the_gate_leaves_the_worker_well():
    parts = Parts(messages_max=1)
    parts.gate.close()
    parts.inbox.start()
    await parts.put("taken")
    waits = start(parts.put("withdrawn"))
    await turns()
    parts.inbox._queue.popleft()
    parts.inbox._make_room()
    waits.cancel()
    await asyncio.wait([waits])
    parts.gate.reopen()
    await turns()
    await parts.put("after")
    await settled(parts)
    assert parts.seen == ["after"]


async def test_settle_refuses_new_messages_also_those_whose_senders_wait():
    parts = Parts(messages_max=1)
    await parts.put(1)
    waits = start(parts.put(2))
    await turns()
    settling = start(parts.inbox.settle(LONG))
    await turns()
    for refused in (waits, parts.put(3), parts.put(4, "nothing")):
        with pytest.raises(HostStopped):
            await refused
    parts.inbox.start()
    await settling
    await parts.inbox.stop()
    assert parts.seen == [1]


async def test_settle_gives_up_at_its_deadline_and_stop_returns_what_is_left():
    step, pause = held()
    parts = Parts(slow=pause)
    parts.inbox.start()
    await parts.put(0, "slow")
    await parts.put("left")
    await step.reached.wait()
    await parts.inbox.settle(0.001)
    left = await parts.inbox.stop()
    assert [message.args for message in left] == [("left",)]
    assert parts.inbox.failed == 1  # the one that was being handled is told, not lost in silence
    assert parts.inbox.accepted == parts.inbox.handled + parts.inbox.failed + len(left)


async def test_stop_before_start_returns_everything():
    parts = Parts()
    await parts.put(1)
    assert len(await parts.inbox.stop()) == 1
    assert parts.inbox.queued == 0


async def test_stop_while_the_worker_waits_at_a_stopped_gate_keeps_the_messages():
    parts = Parts()
    parts.gate.close()
    parts.inbox.start()
    await parts.put(1)
    await turns()
    parts.gate.stop("it is stopping")
    await turns()
    assert len(await parts.inbox.stop()) == 1


async def test_a_handler_that_swallows_its_cancellation_does_not_keep_stop_from_ending():
    reached = asyncio.Event()

    async def stubborn(value):
        reached.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return

    parts = Parts(stubborn=stubborn)
    parts.inbox.start()
    await parts.put(0, "stubborn")
    await parts.put("left")
    await reached.wait()
    async with asyncio.timeout(5):
        left = await parts.inbox.stop()
    assert [message.args for message in left] == [("left",)]
    assert parts.seen == []


async def test_messages_put_back_come_first_and_may_exceed_the_limit():
    parts = Parts(messages_max=2)
    parts.inbox.put_back([Message("note", (n,), {}) for n in range(5)])
    waits = start(parts.put("later"))
    await turns()
    assert not waits.done()
    parts.inbox.start()
    await waits
    await settled(parts)
    assert parts.seen == [0, 1, 2, 3, 4, "later"]
    assert parts.inbox.accepted == 6


# -- to disk and back ---------------------------------------------------------------------------


class Item(msgspec.Struct):
    name: str
    price: Decimal


def described(function) -> dict[str, Call]:
    hints = typing.get_type_hints(function)
    signature = inspect.signature(function)
    call = Call(function.__name__, CallKind.SYNC, False, signature, hints, function)
    return {function.__name__: call}


def there_and_back(function, *args, **kwargs) -> Message:
    plain = to_plain(Message(function.__name__, args, kwargs))
    return from_plain(plain, described(function))


def test_arguments_come_back_with_their_types():
    def f(item: Item, at: dt.datetime, raw: bytes, *, tags: set[str]):
        pass

    item, at = Item("a", Decimal("1.50")), dt.datetime(2026, 1, 2, tzinfo=dt.UTC)
    back = there_and_back(f, item, at, b"\x00", tags={"x"})
    assert back == Message("f", (item, at, b"\x00"), {"tags": {"x"}})


def test_the_hints_of_variadic_parameters_are_for_each_of_their_values():
    def f(first: str, *rest: Decimal, flag: bool = False, **named: Decimal):
        pass

    one = Decimal(1)
    back = there_and_back(f, "a", one, one, one, flag=True, x=one)
    assert back == Message("f", ("a", one, one, one), {"flag": True, "x": one})


def test_positional_arguments_never_take_the_type_of_a_keyword_only_parameter():
    def f(*rest, flag: bool):
        pass

    back = there_and_back(f, "1", 1, "yes", flag=True)
    assert back.args == ("1", 1, "yes")
    assert type(back.args[1]) is int


def test_text_is_not_taken_for_a_number_or_none():
    def f(a: int | None, b: bool):
        pass

    assert there_and_back(f, "5", "true").args == ("5", "true")


def test_values_that_do_not_fit_and_calls_that_are_gone_pass_as_they_are():
    def f(a: int):
        pass

    plain = to_plain(Message("f", ("no number",), {"other": [1]}))
    expected = Message("f", ("no number",), {"other": [1]})
    assert from_plain(plain, described(f)) == expected
    assert from_plain(plain, {}) == expected


def test_arguments_without_a_schema_are_refused():
    with pytest.raises(TypeError):
        to_plain(Message("f", (sys,), {}))
