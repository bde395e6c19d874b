"""Open streams over a reload, in the program and over HTTP: carried, ended, or left finishing."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from replank import Host
from replank.config import Config, HttpConfig, ModuleConfig, ReloadConfig
from replank.control.server import ControlServer
from replank.errors import StateSealed, StreamEnded
from replank.instrumentation.events import GenerationRetired

FEED = """
import asyncio
from collections.abc import AsyncIterator
from replank import Module, Record, stream

class Item(Record):
    number: int
    by: str = "{label}"

class Feed(Module, version="{label}"):
    seen: int = 0
    inner: dict[str, list[int]]

    async def on_start(self) -> None:
        self.news = asyncio.Semaphore(0)

    async def tell(self) -> None:
        self.news.release()

    @stream(on_reload="resume")
    async def watch(self, start: int = 0, *, resume: Item | None = None) -> AsyncIterator[Item]:
        if resume is None:
            yield (resume := Item(start))
        while True:
            await self.news.acquire()
            yield (resume := Item(resume.number + 1))

    @stream(on_reload="end")
    async def wait(self) -> AsyncIterator[int]:
        yield 1
        await self.news.acquire()
        yield 2

    async def finish(self, write: str = "") -> AsyncIterator[str]:
        yield "{label}"
        if write == "field":
            self.seen += 1
        elif write == "inside":
            self.inner.setdefault("a", []).append(1) if not self.inner else self.inner["a"].append(1)
        yield "{label}"

    async def fill(self) -> None:
        self.inner["a"] = []

    async def read(self) -> tuple:
        return self.seen, dict(self.inner)
"""


@contextlib.asynccontextmanager
async def feeding(folder: Path, **reload: Any) -> AsyncIterator[tuple[Host, Any, list[Any]]]:
    source = folder / "feed.py"
    source.write_text(FEED.format(label=1))
    config = Config(
        modules={"feed": ModuleConfig(source=str(source))},
        reload=ReloadConfig(probe=False, **reload),
        data_dir=str(folder / "data"),
        http=HttpConfig(port=0, stop_timeout_s=1),
    )

    async def next_version(label: int = 2) -> Any:
        source.write_text(FEED.format(label=label))
        report = await host.reload("feed")
        assert report.committed, report
        return report

    events: list[Any] = []
    async with Host(config=config) as host:
        host.subscribe(events.append)
        yield host, next_version, events


async def test_streams_are_carried_ended_and_left_finishing_and_the_report_counts_them(
    tmp_path: Path,
) -> None:
    async with feeding(tmp_path) as (host, next_version, _):
        feed = host["feed"]
        watched, waited, finished = feed.watch(7), feed.wait(), feed.finish()
        first = await anext(watched)
        assert (first.number, first.by) == (7, "1")
        assert [await anext(waited), await anext(finished)] == [1, "1"]
        waiting = asyncio.create_task(anext(waited))
        await asyncio.sleep(0)
        report = await next_version()
        counts = (report.streams_carried, report.streams_ended, report.streams_finishing)
        assert counts == (1, 1, 1)
        assert report.pause_s < 1
        await feed.tell()
        item = await anext(watched)
        assert (item.number, item.by) == (8, "2")
        assert type(item) is not type(first)
        with pytest.raises(StreamEnded) as ended:
            await waiting
        assert ended.value.serves == "feed 2 (generation 2)"
        assert [one async for one in finished] == ["1"]
        await watched.aclose()


@pytest.mark.parametrize("write", ["field", "inside"])
async def test_a_finishing_stream_that_writes_is_refused(tmp_path: Path, write: str) -> None:
    async with feeding(tmp_path) as (host, next_version, _):
        feed = host["feed"]
        await feed.fill()
        finished = feed.finish(write)
        await anext(finished)
        await next_version()
        with pytest.raises(StateSealed, match="state takes no more writes"):
            async for _ in finished:
                pass
        assert await feed.read() == (0, {"a": []})


async def test_the_old_version_is_let_go_when_its_last_stream_has_ended(tmp_path: Path) -> None:
    async with feeding(tmp_path) as (host, next_version, events):
        finished = host["feed"].finish()
        await anext(finished)
        await next_version()
        await asyncio.sleep(0)
        assert not [one for one in events if isinstance(one, GenerationRetired)]
        await finished.aclose()
        while not [one for one in events if isinstance(one, GenerationRetired)]:
            await asyncio.sleep(0)


async def test_a_slow_reader_of_a_carried_stream_does_not_keep_the_old_version_in_memory(
    tmp_path: Path,
) -> None:
    async with feeding(tmp_path) as (host, next_version, events):
        watched = host["feed"].watch()
        old = weakref.ref(type(await anext(watched)))
        await next_version()
        while not [one for one in events if isinstance(one, GenerationRetired)]:
            await asyncio.sleep(0)
        gc.collect()
        assert old() is None
        await host["feed"].tell()
        assert (await anext(watched)).number == 1
        await watched.aclose()


async def test_a_stream_that_never_finishes_is_ended_after_its_time(tmp_path: Path) -> None:
    async with feeding(tmp_path, stream_timeout_s=0.01) as (host, next_version, events):
        finished = host["feed"].finish()
        await anext(finished)
        await next_version()
        while not [one for one in events if isinstance(one, GenerationRetired)]:
            await asyncio.sleep(0)
        with pytest.raises(StreamEnded, match="did not finish in its version"):
            await anext(finished)


async def test_the_host_stops_although_a_stream_is_open(tmp_path: Path) -> None:
    async with feeding(tmp_path) as (host, next_version, _):
        finished, waited = host["feed"].finish(), host["feed"].wait()
        await anext(finished)
        await next_version()
        waited = host["feed"].wait()
        await anext(waited)
        waiting = asyncio.create_task(anext(waited))
        await asyncio.sleep(0)
    results = await asyncio.gather(waiting, anext(finished), return_exceptions=True)
    assert [type(one).__name__ for one in results] == ["HostStopped", "StreamEnded"]


class Lines:
    """One streamed answer, read line by line."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self.reader = reader
        self.left: list[bytes] = []

    async def next(self) -> Any:
        while not self.left:
            size = int(await self.reader.readline(), 16)
            self.left = (await self.reader.readexactly(size)).splitlines()
            await self.reader.readline()
        return msgspec.json.decode(self.left.pop(0))


async def opened(server: ControlServer, call: str) -> tuple[Lines, asyncio.StreamWriter]:
    assert server.contact is not None
    port = int(server.contact.http.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    path = f"POST /modules/feed/{call} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
    writer.write(path.encode())
    head = await reader.readuntil(b"\r\n\r\n")
    assert b"200" in head.splitlines()[0], head
    return Lines(reader), writer


async def test_over_http_a_stream_says_that_it_goes_on_in_another_version(tmp_path: Path) -> None:
    async with feeding(tmp_path) as (host, next_version, _):
        async with ControlServer(host, host.config) as server:
            lines, writer = await opened(server, "watch")
            assert await lines.next() == {"number": 0, "by": "1"}
            assert (await next_version()).streams_carried == 1
            await host["feed"].tell()
            assert await lines.next() == {
                "type": "Resumed",
                "module": "feed",
                "call": "watch",
                "came_from": "feed 1 (generation 1)",
                "goes_on_in": "feed 2 (generation 2)",
            }
            assert await lines.next() == {"number": 1, "by": "2"}
            writer.close()


async def test_over_http_a_stream_that_is_ended_says_so_in_its_last_line(tmp_path: Path) -> None:
    async with feeding(tmp_path) as (host, next_version, _):
        async with ControlServer(host, host.config) as server:
            lines, writer = await opened(server, "wait")
            assert await lines.next() == 1
            assert (await next_version()).streams_ended == 1
            last = await lines.next()
            assert (last["type"], last["status"]) == ("Failure", 503)
            facts = last["facts"]
            assert (facts["kind"], facts["module"]) == ("StreamEnded", "feed")
            assert "feed 1" in facts["found"]
            assert "feed 2" in facts["serves"]
            writer.close()
