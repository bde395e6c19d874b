import asyncio

import msgspec
import pytest

from replank.config import Config, HttpConfig
from replank.control.client import Client
from replank.control.server import ControlServer
from replank.control.wire import Closed, Gap
from replank.errors import UsageError
from replank.instrumentation.events import HostStarted, Warned

from .conftest import bearer, request, tcp


class Feed:
    """A reader of server-sent events over a raw connection."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer
        self.comments = 0

    async def open(self, path="/control/events", headers=None):
        self.writer.write(request("GET", path, headers=headers))
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        self.status = int(head.split()[1])
        return head

    async def _chunks(self):
        while size := int(await self.reader.readline(), 16):
            yield await self.reader.readexactly(size)
            await self.reader.readline()

    async def blocks(self):
        """Yield (id, event, data) of each event; count the comments."""
        text = b""
        async for chunk in self._chunks():
            text += chunk
            while b"\n\n" in text:
                block, _, text = text.partition(b"\n\n")
                if block.startswith(b":"):
                    self.comments += 1
                    continue
                fields = dict(line.split(b": ", 1) for line in block.split(b"\n"))
                data = msgspec.json.decode(fields[b"data"])
                yield fields.get(b"id", b"").decode(), fields[b"event"].decode(), data


@pytest.fixture
async def feed(server, token):
    async with tcp(server) as (reader, writer):
        feed = Feed(reader, writer)
        feed.token = token
        yield feed


async def take(blocks, count):
    return [await anext(blocks) for _ in range(count)]


async def test_events_need_the_token(server, ask):
    assert (await ask("GET", "/control/events")).status == 401


async def test_a_follower_gets_each_event_with_an_id_and_its_type(feed, host):
    head = await feed.open(headers=feed.token)
    assert "text/event-stream" in head
    blocks = feed.blocks()
    host.recent.note(Warned(text="one", module="ledger"))
    host.recent.note(Warned(text="line\nbreak"))
    (first, kind, data), (second, _, broken) = await take(blocks, 2)
    assert (kind, data["type"], data["text"]) == ("Warned", "Warned", "one")
    assert broken["text"] == "line\nbreak"
    assert first.partition("-")[0] == second.partition("-")[0] == host.recent.origin
    assert int(second.partition("-")[2]) == int(first.partition("-")[2]) + 1


async def test_a_reader_that_comes_back_goes_on_after_the_last_id_it_saw(feed, host):
    for text in "abc":
        host.recent.note(Warned(text=text))
    await feed.open(headers={**feed.token, "Last-Event-ID": f"{host.recent.origin}-1"})
    found = await take(feed.blocks(), 2)
    assert [data["text"] for _, _, data in found] == ["b", "c"]


@pytest.mark.parametrize(
    ("last_id", "missed"),
    [("{origin}-5", 15), ("deadbeef-7", None), ("x", None), ("{origin}-x", 0)],
)
async def test_what_a_reader_missed_for_good_is_told_first(feed, host, last_id, missed):
    for number in range(120):  # 100 are kept
        host.recent.note(Warned(text=str(number)))
    last_id = last_id.format(origin=host.recent.origin)
    await feed.open(headers={**feed.token, "Last-Event-ID": last_id})
    (_, kind, gap), (_, _, first) = await take(feed.blocks(), 2)
    assert kind == "Gap"
    assert gap["missed"] == (missed or None)
    assert first["text"] == "20"


async def test_only_the_wanted_types_and_only_what_is_kept(ask, token, host):
    host.recent.note(HostStarted(pid=1, modules=("ledger",)))
    host.recent.note(Warned(text="a"))
    host.recent.note(Warned(text="b"))
    answer = await ask("GET", "/control/events?follow=0&types=Warned&last=1", headers=token)
    assert answer.status == 200
    assert answer.body.count(b"event:") == 1
    assert b'"b"' in answer.body


@pytest.mark.parametrize(
    "query",
    ["follow=2", "last=-1", "last=x", "last=99999999999", "types=Nope", "since=1", "last=%C2%B2"],
)
async def test_a_wrong_question_is_refused_with_what_would_be_right(ask, token, query):
    answer = await ask("GET", f"/control/events?follow=0&{query}", headers=token)
    assert answer.status == 422
    assert answer.json["error"]


async def test_silence_is_filled_with_heartbeats(host, config):
    http = msgspec.structs.replace(config.http, heartbeat_s=0.001)
    async with ControlServer(host, msgspec.structs.replace(config, http=http)) as server:
        headers = bearer(server)
        async with tcp(server) as (reader, writer):
            feed = Feed(reader, writer)
            await feed.open(headers=headers)
            chunks = feed._chunks()
            for _ in range(4):
                assert (await anext(chunks)).startswith(b":")


async def test_events_that_a_reader_does_not_want_do_not_silence_the_heartbeat(host, config):
    http = msgspec.structs.replace(config.http, heartbeat_s=0.01)
    async with ControlServer(host, msgspec.structs.replace(config, http=http)) as server:
        async with tcp(server) as (reader, writer):
            feed = Feed(reader, writer)
            await feed.open("/control/events?types=HostStopped", bearer(server))

            async def chatter():
                while True:
                    host.recent.note(Warned(text="x"))
                    await asyncio.sleep(0)

            talking = asyncio.ensure_future(chatter())
            chunks = feed._chunks()
            async with asyncio.timeout(20):
                for _ in range(3):
                    assert (await anext(chunks)).startswith(b":")
            talking.cancel()


async def test_a_reader_that_falls_behind_gets_a_last_event_that_says_so(feed, host, server):
    """It stops reading; far more happens than is kept and than its connection holds."""
    await feed.open(headers=feed.token)
    for _ in range(400):
        for _ in range(50):
            host.recent.note(Warned(text="x" * 2_000))
        await asyncio.sleep(0)
    last = None
    async with asyncio.timeout(20):
        async for _, kind, data in feed.blocks():
            last = kind, data
    assert last[0] == "Overtaken"
    assert last[1]["missed"] > 0
    assert "Last-Event-ID" in last[1]["do"]
    assert server._feed.readers == 0


async def test_one_reader_too_many_is_refused_and_a_reader_that_goes_makes_room(host, config):
    http = msgspec.structs.replace(config.http, max_event_readers=1)
    async with ControlServer(host, msgspec.structs.replace(config, http=http)) as server:
        headers = bearer(server)
        async with tcp(server) as (reader, writer):
            feed = Feed(reader, writer)
            await feed.open(headers=headers)
            await anext(feed._chunks())
            async with tcp(server) as other:
                second = Feed(*other)
                await second.open(headers=headers)
                assert second.status == 429
        async with asyncio.timeout(10):
            while server._feed.readers:
                await asyncio.sleep(0)
        async with tcp(server) as other:
            third = Feed(*other)
            await third.open(headers=headers)
            assert third.status == 200


async def test_a_host_that_stops_says_so_and_does_not_wait_for_its_readers(host, tmp_path):
    config = Config(
        data_dir=str(tmp_path / "d"), http=HttpConfig(enabled=False, stop_timeout_s=1000)
    )
    server = ControlServer(host, config)
    await server.start()

    def read():
        with Client(server.contact) as client:
            items = client.events(last=0)
            got.append(next(items))
            loop.call_soon_threadsafe(asyncio.ensure_future, server.stop())
            got.extend(items)

    got, loop = [], asyncio.get_running_loop()
    reading = asyncio.ensure_future(asyncio.to_thread(read))
    async with asyncio.timeout(20):
        while not server._feed.readers:
            await asyncio.sleep(0)
        host.recent.note(Warned(text="a"))
        await reading
        await server.stop()
    assert isinstance(got[0][1], Warned)
    assert got[1:] == [(None, Closed(reason="the host stops"))]


async def test_the_client_reads_what_is_kept_and_what_the_feed_says(server, host):
    host.recent.note(Warned(text="a"))

    def read(**options):
        with Client(server.contact) as client:
            return list(client.events(follow=False, **options))

    assert [item.text for _, item in await asyncio.to_thread(read)] == ["a"]
    (_, gap), _ = await asyncio.to_thread(read, last_event_id="other-1")
    assert gap == Gap(missed=None)
    with pytest.raises(UsageError, match="types must be"):
        await asyncio.to_thread(read, types=["Nope"])
