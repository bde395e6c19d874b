import asyncio
import datetime as dt
import enum
from dataclasses import dataclass

import msgspec
import pytest

from replank.errors import (
    HostStopped,
    JournalError,
    UnknownCall,
    WrongArguments,
)
from replank.journal.embedded import EmbeddedPort
from replank.journal.memory import MemoryPort
from replank.traffic.drain import Drain
from replank.traffic.durable import PAGE
from replank.traffic.messages import to_plain
from replank.traffic.payload import read_message
from tests.durable_helpers import Module, calls_of, message


async def turns(count=20):
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.fixture
async def port():
    return MemoryPort()


class BadDisk(MemoryPort):
    """A port whose next so many operations fail."""

    def __init__(self):
        super().__init__()
        self.failing = {"publish": 0, "read": 0}

    def _maybe_fail(self, verb):
        if self.failing[verb]:
            self.failing[verb] -= 1
            raise JournalError("disk error")

    async def publish(self, stream, payloads):
        self._maybe_fail("publish")
        return await super().publish(stream, payloads)

    async def read(self, stream, after, limit):
        self._maybe_fail("read")
        return await super().read(stream, after, limit)


class HeldDisk(MemoryPort):
    """A port that writes only when it is let."""

    def __init__(self):
        super().__init__()
        self.go = asyncio.Event()
        self.batches = []

    async def publish(self, stream, payloads):
        self.batches.append(len(payloads))
        await self.go.wait()
        return await super().publish(stream, payloads)


# -- accepting ----------------------------------------------------------------------------------


async def test_an_accepted_message_is_in_the_stream_before_it_is_handled(port):
    module = Module(port)
    await module.send("a")
    assert len(await port.read("inbox/ledger", 0, 9)) == 1
    assert (module.state, module.inbox.queued) == ([], 1)


async def test_messages_are_handled_in_the_order_in_which_they_were_accepted(port):
    module = Module(port)
    await module.send(*range(5))
    module.inbox.start()
    await module.send(*range(5, 10))
    await module.all_handled()
    assert module.state == list(range(10))
    await module.inbox.stop()


async def test_every_number_adds_up(port):
    async def fails(value: int) -> None:
        raise RuntimeError(value)

    module = Module(port)
    lane = module.load(1, module.note, fails)
    module.gate.first_open(lane)
    await module.send(1, 2)
    await module.inbox.put(message("fails", 3))
    module.inbox.start()
    await module.all_handled()
    seen = module.inbox.statistics()
    assert (seen.accepted, seen.handled, seen.failed, seen.queued, seen.position) == (3, 2, 1, 0, 3)
    ((failed, error),) = module.failures
    assert failed == message("fails", 3)
    assert isinstance(error, RuntimeError)
    await module.inbox.stop()


async def test_a_call_that_does_not_exist_is_refused_at_once(port):
    module = Module(port)
    with pytest.raises(UnknownCall):
        await module.inbox.put(message("nothing"))
    assert module.inbox.queued == 0


async def test_an_argument_that_cannot_be_written_is_refused_with_the_reason(port):
    module = Module(port)
    with pytest.raises(WrongArguments) as caught:
        await module.send(object())
    assert "schema" in caught.value.do
    with pytest.raises(WrongArguments):
        await module.send(1 << 80)
    assert module.inbox.queued == 0


async def test_a_message_that_the_disk_refuses_is_not_accepted_and_its_sender_is_told():
    port = BadDisk()
    module = Module(port)
    port.failing["publish"] = 1
    with pytest.raises(JournalError):
        await module.send("lost")
    await module.send("kept")
    module.inbox.start()
    await module.all_handled()
    assert module.state == ["kept"]
    assert module.inbox.accepted == 1
    await module.inbox.stop()


async def test_senders_that_come_while_the_disk_writes_share_the_next_write():
    port = HeldDisk()
    module = Module(port)
    first = asyncio.create_task(module.send("first"))
    await turns()
    others = [asyncio.create_task(module.send(n)) for n in range(50)]
    await turns()
    port.go.set()
    await asyncio.gather(first, *others)
    assert port.batches == [1, 50]


async def test_a_full_inbox_makes_senders_wait_in_the_order_of_their_coming(port):
    module = Module(port, messages_max=2)
    senders = [asyncio.create_task(module.send(n)) for n in range(5)]
    await turns()
    assert [one.done() for one in senders] == [True, True, False, False, False]
    assert module.inbox.queued == 2
    module.inbox.start()
    await asyncio.gather(*senders)
    await module.all_handled()
    assert module.state == [0, 1, 2, 3, 4]
    await module.inbox.stop()


async def test_the_limit_is_never_passed(port):
    seen = []

    async def note(value: int) -> None:
        seen.append(module.inbox.queued)
        await asyncio.sleep(0)

    module = Module(port, ([], 0), note, messages_max=3)
    module.inbox.start()
    await asyncio.gather(*(module.send(n) for n in range(50)))
    await module.all_handled()
    assert len(seen) == 50
    assert max(seen) <= 3
    await module.inbox.stop()


async def test_a_sender_that_gives_up_while_it_waits_for_room_has_sent_nothing(port):
    module = Module(port, messages_max=1)
    await module.send("a")
    waiting = asyncio.create_task(module.send("given up"))
    await turns()
    waiting.cancel()
    await asyncio.wait((waiting,))
    module.inbox.start()
    await module.send("b")
    await module.all_handled()
    assert module.state == ["a", "b"]
    await module.inbox.stop()


async def test_a_sender_cancelled_while_the_disk_writes_may_have_sent_and_order_is_kept():
    port = HeldDisk()
    module = Module(port)
    module.inbox.start()
    cut = asyncio.create_task(module.send("cut"))
    await turns()
    cut.cancel()
    await asyncio.wait((cut,))
    port.go.set()
    await module.send("after")
    await module.all_handled()
    assert module.state == ["cut", "after"]
    await module.inbox.stop()


# -- handling -----------------------------------------------------------------------------------


async def test_a_backlog_longer_than_memory_is_handled_in_order(port):
    module = Module(port)
    count = PAGE * 3 + 7
    await asyncio.gather(*(module.send(n) for n in range(count)))
    assert len(module.inbox._page) <= count
    module.inbox.start()
    await module.all_handled()
    assert module.state == list(range(count))
    await module.inbox.stop()


async def test_messages_published_while_a_page_is_read_are_neither_lost_nor_doubled(port):
    module = Module(port)
    await asyncio.gather(*(module.send(n) for n in range(PAGE * 2)))
    module.inbox.start()

    async def sender(start):
        for n in range(start, start + 300):
            await module.send(n)

    await asyncio.gather(sender(1_000), sender(2_000))
    await module.all_handled()
    assert sorted(module.state) == sorted(
        [*range(PAGE * 2), *range(1_000, 1_300), *range(2_000, 2_300)]
    )
    for start in (1_000, 2_000):
        own = [n for n in module.state if start <= n < start + 300]
        assert own == sorted(own)
    await module.inbox.stop()


async def test_a_backlog_of_a_hundred_thousand_lengthens_neither_start_nor_drain(tmp_path):
    port = EmbeddedPort(tmp_path / "inbox.sqlite").open()
    payload = msgspec.msgpack.encode(to_plain(message("note", 1)))
    for _ in range(10):
        await port.publish("inbox/ledger", [payload] * 10_000)
    module = Module(port)
    loop = asyncio.get_running_loop()
    began = loop.time()
    module.inbox.start()
    await module.inbox._opened()
    started_s = loop.time() - began
    assert module.inbox.queued == 100_000
    assert len(module.inbox._page) <= PAGE
    while len(module.state) < 10:
        await asyncio.sleep(0)
    drain = Drain([module.gate])
    began = loop.time()
    drain.close()
    await drain.wait(1.0, {})
    drained_s = loop.time() - began
    assert module.inbox.queued > 99_000
    assert len(module.inbox._page) <= PAGE
    assert (started_s < 0.5, drained_s < 0.05) == (True, True), (started_s, drained_s)
    drain.reopen()
    await module.inbox.settle(1.0)
    await module.inbox.stop()
    await port.close()


async def test_handlers_that_never_wait_do_not_keep_the_loop_to_themselves(port):
    module = Module(port)
    await asyncio.gather(*(module.send(n) for n in range(1_000)))
    longest, last = 0.0, 0.0
    loop = asyncio.get_running_loop()
    module.inbox.start()
    last = loop.time()
    rounds = 0
    while module.inbox.queued:
        await asyncio.sleep(0)
        longest, last, rounds = max(longest, loop.time() - last), loop.time(), rounds + 1
    assert rounds > 3
    assert longest < 0.1
    await module.inbox.stop()


async def test_a_message_held_at_a_closed_gate_is_handled_by_the_version_that_serves_next(port):
    module = Module(port)
    module.inbox.start()
    drain = Drain([module.gate])
    drain.close()
    await drain.wait(1.0, {})
    await module.send("held")
    await turns()
    assert module.state == []
    seen = []

    async def note(value: str) -> None:
        seen.append(value)

    drain.reopen({"ledger": module.load(2, note)})
    await module.all_handled()
    assert (module.state, seen) == ([], ["held"])
    await module.inbox.stop()


async def test_a_drain_waits_for_the_message_in_flight_and_finds_its_position_advanced(port):
    reached, go = asyncio.Event(), asyncio.Event()

    async def note(value: int) -> None:
        reached.set()
        await go.wait()
        module.state.append(value)

    module = Module(port, ([], 0), note)
    module.inbox.start()
    await module.send(1, 2)
    await reached.wait()
    drain = Drain([module.gate])
    drain.close()
    assert module.inbox.mark().position == 0
    go.set()
    await drain.wait(1.0, {})
    assert (module.state, module.inbox.mark().position) == ([1], 1)
    drain.reopen()
    await module.all_handled()
    await module.inbox.stop()


async def test_the_disk_failing_to_read_is_told_and_tried_again():
    port = BadDisk()
    first = Module(port)
    await first.send(1, 2)
    await first.inbox.stop()
    module = Module(port)
    port.failing["read"] = 3
    module.inbox.start()
    await module.all_handled()
    assert module.state == [1, 2]
    assert [type(error) for _, error in module.failures] == [JournalError] * 3
    await module.inbox.stop()


# -- types --------------------------------------------------------------------------------------


class Colour(enum.Enum):
    RED = "red"


class Order(msgspec.Struct):
    name: str
    cents: int


@dataclass
class NewOrder:
    name: str
    cents: float
    note: str = "none"


def encoded(*args, **kwargs):
    return msgspec.msgpack.encode(to_plain(message("note", *args, **kwargs)))


def test_arguments_come_back_as_the_types_that_the_call_names():
    async def note(
        order: Order, /, at: dt.datetime, *rest: Colour, tags: set[str], **more: Order
    ) -> None: ...

    at = dt.datetime(2024, 2, 29, 12, tzinfo=dt.UTC)
    one = Order("a", 5)
    payload = encoded(one, at, Colour.RED, Colour.RED, tags={"x"}, extra=one)
    read = read_message(payload, calls_of(note), "ledger")
    assert read.args == (one, at, Colour.RED, Colour.RED)
    assert read.kwargs == {"tags": {"x"}, "extra": one}


def test_an_older_message_is_brought_to_the_types_of_the_new_version():
    async def note(order: NewOrder, count: int) -> None: ...

    read = read_message(encoded(Order("a", 5), "7"), calls_of(note), "ledger")
    assert read.args == (NewOrder("a", 5.0), 7)


def test_what_fits_as_it_is_is_not_converted():
    async def note(value: int | str) -> None: ...

    assert read_message(encoded("7"), calls_of(note), "ledger").args == ("7",)


def test_an_argument_without_a_type_or_of_a_type_that_is_not_understood_stays_plain():
    async def note(a, b: Order | NewOrder) -> None: ...  # two records: msgspec cannot tell them

    assert read_message(encoded(1, {"x": 2}), calls_of(note), "ledger").args == (1, {"x": 2})


@pytest.mark.parametrize(
    ("payload", "error", "says"),
    [
        (encoded("no number"), WrongArguments, "value: Expected `int`"),
        (encoded(1, 2), WrongArguments, "too many positional"),
        (encoded(), WrongArguments, "missing a required argument"),
        (encoded(other=1), WrongArguments, "argument"),
        (msgspec.msgpack.encode(to_plain(message("gone", 1))), UnknownCall, "gone"),
        (b"\xc1 no messagepack", UnknownCall, "no call"),
        (b"\x01", UnknownCall, "no call"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_reason(payload, error, says):
    async def note(value: int) -> None: ...

    with pytest.raises(error) as caught:
        read_message(payload, calls_of(note), "ledger")
    assert says in str(caught.value)


async def test_a_backlog_is_migrated_by_a_reload_that_changes_the_message(port):
    module = Module(port)
    module.gate.close()
    await asyncio.gather(*(module.send(Order(f"o{n}", n)) for n in range(300)))
    seen = []

    async def note(order: NewOrder) -> None:
        seen.append(order)

    module.inbox.start()
    module.gate.reopen(module.load(2, note))
    await module.all_handled()
    assert seen == [NewOrder(f"o{n}", float(n)) for n in range(300)]
    await module.inbox.stop()


async def test_what_the_new_version_cannot_read_goes_to_the_dead_letters_and_is_told(port):
    module = Module(port)
    await module.send(1, "no number", 3)
    seen = []

    async def note(value: int) -> None:
        seen.append(value)

    module.gate.close()
    module.gate.reopen(module.load(2, note))
    module.inbox.start()
    await module.all_handled()
    assert seen == [1, 3]
    assert (module.inbox.handled, module.inbox.failed) == (2, 1)
    ((failed, error),) = module.failures
    assert failed == message("note", "no number")
    assert isinstance(error, WrongArguments)
    (letter,) = await module.inbox.dead_letters()
    assert letter.position == 2
    assert "Expected `int`" in letter.reason
    assert letter.payload == encoded("no number")
    await module.inbox.stop()


async def test_a_message_is_counted_only_when_its_dead_letter_is_on_the_disk():
    port = BadDisk()
    module = Module(port)
    await module.send("no number")

    async def note(value: int) -> None: ...

    module.gate.close()
    module.gate.reopen(module.load(2, note))
    port.failing["publish"] = 2
    module.inbox.start()
    await module.all_handled()
    assert [type(error) for _, error in module.failures] == [JournalError] * 2 + [WrongArguments]
    assert len(await module.inbox.dead_letters()) == 1
    await module.inbox.stop()


# -- stop, start and crash ----------------------------------------------------------------------


async def test_after_a_crash_what_the_snapshot_had_not_seen_is_handled_again_and_nothing_else(port):
    module = Module(port)
    module.inbox.start()
    await module.send(1, 2, 3)
    await module.all_handled()
    saved = await module.save()
    await module.send(4, 5)
    await module.all_handled()
    await module.inbox.stop()  # the state in memory is lost
    again = Module(port, saved)
    again.inbox.start()
    await again.all_handled()
    assert saved == ([1, 2, 3], 3)
    assert again.state == [1, 2, 3, 4, 5]
    assert again.inbox.accepted == 2
    await again.inbox.stop()


async def test_an_opened_inbox_knows_its_backlog_before_anything_is_handled(port):
    """A host that waited for `queued` to be 0 would otherwise take a backlog for none."""
    first = Module(port)
    await first.send(1, 2, 3)
    await first.inbox.stop()
    module = Module(port, ([], 1))
    await module.inbox.open()
    assert (module.inbox.queued, module.inbox.accepted) == (2, 2)
    module.inbox.start()
    await module.all_handled()
    assert module.state == [2, 3]
    await module.inbox.stop()


async def test_opening_tells_at_once_that_the_disk_cannot_be_read():
    port = BadDisk()
    port.failing["read"] = 1
    module = Module(port)
    with pytest.raises(JournalError):
        await module.inbox.open()
    await module.inbox.open()
    await module.inbox.stop()


async def test_without_any_snapshot_everything_is_handled_again(port):
    module = Module(port)
    module.inbox.start()
    await module.send(1, 2)
    await module.all_handled()
    await module.inbox.stop()
    again = Module(port)
    again.inbox.start()
    await again.all_handled()
    assert again.state == [1, 2]
    await again.inbox.stop()


async def test_a_stop_refuses_new_messages_and_leaves_the_backlog_on_the_disk(port):
    module = Module(port, messages_max=2)
    await module.send(1, 2)
    waiting = asyncio.create_task(module.send(3))
    await turns()
    await module.inbox.settle(1.0)
    with pytest.raises(HostStopped):
        await waiting
    with pytest.raises(HostStopped):
        await module.send(4)
    assert await module.inbox.stop() == []
    again = Module(port, (module.state, module.inbox.mark().position))
    again.inbox.start()
    await again.all_handled()
    assert again.state == [1, 2]
    await again.inbox.stop()


async def test_settling_lets_what_is_being_written_be_accepted():
    port = HeldDisk()
    module = Module(port)
    sending = asyncio.create_task(module.send(1))
    await turns()
    settling = asyncio.create_task(module.inbox.settle(5.0))
    await turns()
    assert not settling.done()
    port.go.set()
    await settling
    await sending
    assert module.inbox.queued == 1
    await module.inbox.stop()


async def test_a_message_that_the_stop_cuts_off_is_handled_at_the_next_start(port):
    reached = asyncio.Event()

    async def note(value: int) -> None:
        reached.set()
        await asyncio.Event().wait()

    module = Module(port, ([], 0), note)
    module.inbox.start()
    await module.send(1)
    await reached.wait()
    await module.inbox.stop()
    assert module.inbox.mark().position == 0
    again = Module(port, ([], module.inbox.mark().position))
    again.inbox.start()
    await again.all_handled()
    assert again.state == [1]
    await again.inbox.stop()


async def test_stopping_while_the_disk_does_not_answer_ends():
    port = BadDisk()
    module = Module(port, retry_s=60.0)
    port.failing["read"] = 1_000
    module.inbox.start()
    waiting = asyncio.create_task(module.send(1))
    await turns()
    await module.inbox.stop()
    with pytest.raises(HostStopped):
        await waiting


async def test_messages_from_a_plain_inbox_come_first_and_stay_in_the_snapshot_until_handled(port):
    module = Module(port)
    await module.send("durable")
    module.inbox.put_back([message("note", "old 1"), message("note", "old 2")])
    assert module.inbox.queued == 3
    mark = module.inbox.mark()
    assert [plain["args"] for plain in mark.messages] == [["old 1"], ["old 2"]]
    module.inbox.start()
    await module.all_handled()
    assert module.state == ["old 1", "old 2", "durable"]
    assert (module.inbox.mark().messages, module.inbox.accepted) == ((), 3)
    await module.inbox.stop()


async def test_messages_from_a_plain_inbox_that_are_left_at_a_stop_are_given_back(port):
    module = Module(port)
    module.inbox.put_back([message("note", 1)])
    assert await module.inbox.stop() == [message("note", 1)]


async def test_a_lost_inbox_file_is_told_and_new_messages_are_not_taken_for_handled(port):
    module = Module(port, (["handled before"], 500))
    module.inbox.start()
    await module.send("new")
    await module.all_handled()
    assert module.state == ["handled before", "new"]
    assert module.inbox.position == 501
    ((_, error),) = module.failures
    assert "older than the state" in error.what
    await module.inbox.stop()


async def test_a_state_older_than_what_was_forgotten_is_told_and_the_rest_is_handled(port):
    first = Module(port)
    await first.send(*range(10))
    await first.inbox.stop()
    await port.truncate("inbox/ledger", 4)
    module = Module(port, ([], 1))
    module.inbox.start()
    await module.all_handled()
    assert module.state == [4, 5, 6, 7, 8, 9]
    ((_, error),) = module.failures
    assert "messages 2 to 4" in error.found
    await module.inbox.stop()


# -- forgetting ---------------------------------------------------------------------------------


async def test_a_message_is_forgotten_only_when_no_kept_snapshot_needs_it(port):
    module = Module(port, snapshots_kept=3)
    module.inbox.start()
    await module.send(*range(10))
    await module.all_handled()

    async def kept():
        return [entry.position for entry in await port.read("inbox/ledger", 0, 99)]

    await module.inbox.saved(2)
    await module.inbox.saved(5)
    assert await kept() == list(range(1, 11))
    await module.inbox.saved(7)
    assert await kept() == list(range(3, 11))
    await module.inbox.saved(10)
    assert await kept() == list(range(6, 11))
    await module.inbox.stop()


async def test_what_was_saved_is_remembered_by_the_next_run(port):
    for position in (2, 5, 7):
        module = Module(port, snapshots_kept=3)
        if position == 2:
            await module.send(*range(10))
        await module.inbox.saved(position)
        await module.inbox.stop()
    assert (await port.read("inbox/ledger", 0, 1))[0].position == 3


async def test_a_save_is_asked_for_after_so_many_handled_messages(port):
    asked = []
    module = Module(port, save_after=4, ask_save=lambda: asked.append(module.inbox.position))
    module.inbox.start()
    await module.send(*range(10))
    await module.all_handled()
    assert asked == [4, 8]
    await module.inbox.stop()
