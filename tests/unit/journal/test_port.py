"""One class of tests for what is behind the port, on disk and in memory."""

import asyncio
import shutil
import sqlite3
import threading

import pytest

from replank.errors import JournalError, UsageError
from replank.journal.embedded import EmbeddedPort
from replank.journal.memory import MemoryPort
from replank.journal.port import Entry, Moved, Value, aclose, last_position


@pytest.fixture(params=["embedded", "memory"])
async def port(request, tmp_path):
    port = MemoryPort() if request.param == "memory" else EmbeddedPort(tmp_path / "inbox.sqlite")
    if isinstance(port, EmbeddedPort):
        port.open()
    yield port
    await port.close()


class TestEveryPort:
    async def test_payloads_get_the_next_positions_in_their_order(self, port):
        assert await port.publish("a", [b"1", b"2"]) == range(1, 3)
        assert await port.publish("b", [b"x"]) == range(1, 2)
        assert await port.publish("a", [b"3"]) == range(3, 4)
        assert await port.read("a", 0, 10) == (Entry(1, b"1"), Entry(2, b"2"), Entry(3, b"3"))

    async def test_a_stream_is_read_in_pages_after_a_position(self, port):
        await port.publish("a", [b"%d" % n for n in range(10)])
        assert [e.position for e in await port.read("a", 4, 3)] == [5, 6, 7]
        assert await port.read("a", 10, 3) == ()
        assert await port.read("unknown", 0, 3) == ()

    async def test_to_publish_nothing_changes_nothing(self, port):
        assert not await port.publish("a", [])
        assert await last_position(port, "a") == 0

    async def test_a_truncated_stream_never_uses_a_position_twice(self, port):
        await port.publish("a", [b"1", b"2", b"3"])
        await port.truncate("a", 2)
        assert await port.read("a", 0, 10) == (Entry(3, b"3"),)
        await port.truncate("a", 3)
        assert await port.read("a", 0, 10) == ()
        assert await port.publish("a", [b"4"]) == range(4, 5)

    async def test_truncating_beyond_the_end_moves_the_end(self, port):
        await port.publish("a", [b"1"])
        await port.truncate("a", 7)
        await port.truncate("new", 3)
        assert await last_position(port, "a") == 7
        assert await port.publish("a", [b"8"]) == range(8, 9)
        assert await port.publish("new", [b"4"]) == range(4, 5)

    async def test_truncating_what_is_gone_or_unknown_changes_nothing(self, port):
        await port.publish("a", [b"1", b"2"])
        await port.truncate("a", 1)
        await port.truncate("a", 1)
        await port.truncate("a", 0)
        assert await port.read("a", 0, 10) == (Entry(2, b"2"),)

    async def test_a_long_stream_is_truncated_to_the_exact_place(self, port):
        await port.publish("a", [b"x"] * 5_000)
        await port.truncate("a", 4_321)
        left = await port.read("a", 0, 10_000)
        assert [left[0].position, left[-1].position, len(left)] == [4_322, 5_000, 679]

    async def test_a_key_is_made_and_changed_only_at_the_expected_version(self, port):
        assert await port.get("k") is None
        assert await port.compare_and_set("k", 1, b"no") is None
        assert await port.compare_and_set("k", 0, b"one") == 1
        assert await port.compare_and_set("k", 0, b"no") is None
        assert await port.compare_and_set("k", 1, b"two") == 2
        assert await port.get("k") == Value(2, b"two")

    async def test_of_many_who_set_a_key_at_once_exactly_one_does(self, port):
        answers = await asyncio.gather(
            *(port.compare_and_set("k", 0, b"%d" % n) for n in range(20))
        )
        assert sorted(filter(None, answers)) == [1]
        assert (await port.get("k")).data == b"%d" % answers.index(1)

    async def test_concurrent_publishers_lose_nothing_and_keep_their_own_order(self, port):
        async def sender(name):
            for n in range(20):
                await port.publish("a", [f"{name}:{n}".encode()])

        await asyncio.gather(*(sender(name) for name in range(10)))
        entries = await port.read("a", 0, 1_000)
        assert [e.position for e in entries] == list(range(1, 201))
        for name in range(10):
            own = [e.payload for e in entries if e.payload.startswith(b"%d:" % name)]
            assert own == [f"{name}:{n}".encode() for n in range(20)]

    async def test_a_watch_begins_with_where_it_stands_and_goes_on_with_each_move(self, port):
        await port.publish("a", [b"1", b"2"])
        watch = port.watch("a")
        assert await anext(watch) == Moved("a", 2)
        await port.publish("other", [b"x"])
        await port.publish("a", [b"3"])
        assert await anext(watch) == Moved("a", 3)
        await aclose(watch)

    async def test_a_slow_watcher_sees_the_last_position_only(self, port):
        watch = port.watch("a")
        assert await anext(watch) == Moved("a", 0)
        for n in range(5):
            await port.publish("a", [b"%d" % n])
        assert await anext(watch) == Moved("a", 5)
        await aclose(watch)

    async def test_a_prefix_is_watched_by_all_its_names_and_no_other(self, port):
        await port.publish("in/a", [b"1"])
        await port.publish("inner", [b"1"])
        await port.compare_and_set("in/k", 0, b"x")
        watch = port.watch("in/")
        assert [await anext(watch), await anext(watch)] == [Moved("in/a", 1), Moved("in/k", 1)]
        await port.publish("in/b", [b"1"])
        assert await anext(watch) == Moved("in/b", 1)
        await aclose(watch)

    async def test_a_watch_ends_when_the_port_closes(self, port):
        watch = port.watch("a")
        await anext(watch)
        pending = asyncio.create_task(anext(watch, None))
        await asyncio.wait((pending,), timeout=0)
        await port.close()
        assert await pending is None


@pytest.fixture
async def disk(tmp_path):
    port = EmbeddedPort(tmp_path / "inbox.sqlite").open()
    yield port
    await port.close()


async def test_what_was_published_is_there_after_a_crash(disk, tmp_path):
    await disk.publish("a", [b"1", b"2"])
    await disk.compare_and_set("k", 0, b"v")
    await disk.truncate("a", 1)
    crashed = tmp_path / "crashed"  # what a killed process leaves: nothing closed
    crashed.mkdir()
    for file in tmp_path.glob("inbox.sqlite*"):
        shutil.copy(file, crashed)
    again = EmbeddedPort(crashed / "inbox.sqlite").open()
    assert await again.read("a", 0, 10) == (Entry(2, b"2"),)
    assert await again.get("k") == Value(1, b"v")
    await again.close()


async def test_those_who_wait_go_together_into_one_transaction(disk):
    await asyncio.gather(*(disk.publish("a", [b"x"]) for _ in range(500)))
    assert disk.transactions <= 3
    assert await last_position(disk, "a") == 500


async def test_a_publisher_that_gives_up_while_it_waits_writes_nothing(disk):
    held = threading.Event()
    disk._writer.submit(held.wait)
    first = asyncio.create_task(disk.publish("a", [b"1"]))
    await asyncio.wait((first,), timeout=0.01)  # its transaction is on its way
    second = asyncio.create_task(disk.publish("a", [b"2"]))
    await asyncio.wait((second,), timeout=0)
    second.cancel()
    held.set()
    assert await first == range(1, 2)
    await disk.publish("a", [b"3"])
    assert [e.payload for e in await disk.read("a", 0, 10)] == [b"1", b"3"]


async def test_more_publishers_than_may_wait_are_all_served_in_order(tmp_path):
    port = EmbeddedPort(tmp_path / "inbox.sqlite", waiting_max=3).open()
    await asyncio.gather(*(port.publish("a", [b"%d" % n]) for n in range(50)))
    assert [e.payload for e in await port.read("a", 0, 99)] == [b"%d" % n for n in range(50)]
    await port.close()


async def test_closing_writes_first_what_waits(tmp_path):
    port = EmbeddedPort(tmp_path / "inbox.sqlite").open()
    waiting = asyncio.gather(*(port.publish("a", [b"x"]) for _ in range(10)))
    await asyncio.wait((asyncio.ensure_future(waiting),), timeout=0)
    await port.close()
    await waiting
    with pytest.raises(JournalError, match="not open"):
        await port.publish("a", [b"x"])
    with pytest.raises(JournalError, match="not open"):
        await port.read("a", 0, 1)
    again = EmbeddedPort(tmp_path / "inbox.sqlite").open()
    assert await last_position(again, "a") == 10
    await again.close()
    await again.close()


async def test_a_payload_that_is_too_large_is_refused_and_the_others_are_kept(tmp_path):
    port = EmbeddedPort(tmp_path / "inbox.sqlite", payload_bytes_max=10).open()
    with pytest.raises(UsageError, match="too large"):
        await port.publish("a", [b"ok", b"x" * 11])
    with pytest.raises(UsageError, match="too large"):
        await port.compare_and_set("k", 0, b"x" * 11)
    assert await port.publish("a", [b"x" * 10]) == range(1, 2)
    await port.close()


async def test_when_the_disk_is_full_the_publisher_is_told_and_nothing_is_half_written(disk):
    await disk.publish("a", [b"1"])

    def limit(pages):
        disk._write_db.execute(f"PRAGMA max_page_count = {pages}")

    disk._writer.submit(limit, 1).result()
    with pytest.raises(JournalError) as caught:
        await disk.publish("a", [b"small", b"x" * 100_000])
    assert "free space" in caught.value.do
    disk._writer.submit(limit, 1_000_000).result()
    assert await disk.publish("a", [b"2"]) == range(2, 3)
    assert [e.payload for e in await disk.read("a", 0, 9)] == [b"1", b"2"]


def test_another_programs_file_is_refused(tmp_path):
    path = tmp_path / "inbox.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE theirs (x)")
    db.close()
    with pytest.raises(JournalError, match="not an inbox of Replank"):
        EmbeddedPort(path).open()


def test_a_newer_file_is_refused(tmp_path):
    path = tmp_path / "inbox.sqlite"
    asyncio.run(EmbeddedPort(path).open().close())
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(JournalError, match="newer Replank"):
        EmbeddedPort(path).open()


def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(tmp_path):
    path = tmp_path / "inbox.sqlite"
    path.write_bytes(b"not a database at all" * 100)
    with pytest.raises(JournalError) as caught:
        EmbeddedPort(path).open()
    assert "messages not yet handled are in it" in caught.value.do
    assert path.read_bytes().startswith(b"not a database")


def test_a_folder_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(JournalError, match="cannot be used"):
        EmbeddedPort(tmp_path / "missing" / "inbox.sqlite").open()
