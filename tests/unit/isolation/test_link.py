"""The link: requests in both directions, cancellation, the end of the other side."""

from __future__ import annotations

import asyncio
import contextvars
import socket
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import pytest

from replank.isolation.link import Link, LinkEnded
from replank.isolation.values import pack, tell, unpack


class Side:
    """One end; answers `echo` at once, `wait` when it is told to, and may raise."""

    link: Link

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.waiting = asyncio.Event()
        self.ends: list[str] = []
        self.told: list[Any] = []
        self.over = asyncio.Event()
        self.swallows = False

    def serve(self, number: int, name: str, body: bytes) -> Coroutine[Any, Any, bytes] | bytes:
        del number
        if name == "echo":
            return body
        if name == "raise":
            raise KeyError(unpack(body))
        return self.wait(body)

    async def wait(self, body: bytes) -> bytes:
        self.waiting.set()
        while True:
            try:
                await self.go.wait()
            except asyncio.CancelledError:
                self.ends.append("cancelled")
                if self.swallows:
                    continue
                raise
            return body

    def tell(self, name: str, body: bytes) -> None:
        self.told.append((name, unpack(body)))

    def failed(self, error: BaseException) -> bytes:
        return pack(tuple(tell(error, None, "")))

    def stuck(self, name: str) -> None:
        self.ends.append(f"{name} is stuck")

    def ended(self) -> None:
        self.over.set()


@pytest.fixture
async def sides() -> AsyncIterator[tuple[Side, Side]]:
    one, other = Side(), Side()
    socks = socket.socketpair()
    for side, sock in zip((one, other), socks, strict=True):
        side.link = await Link.over(sock, side, "the other end", unpack)
    yield one, other
    for side in (one, other):
        side.link.close()
        await side.over.wait()


async def test_both_ends_ask_at_once_and_large_bodies_arrive_whole(sides):
    one, other = sides
    bodies = [pack(n) for n in range(200)] + [pack(b"x" * size) for size in (70_000, 3_000_000, 0)]
    asked = [side.link.ask("echo", body) for body in bodies for side in (one, other)]
    assert await asyncio.gather(*asked) == [body for body in bodies for _ in "ab"]


async def test_what_is_told_comes_in_order_with_what_is_asked(sides):
    one, other = sides
    for number in range(5):
        one.link.tell("note", pack(number))
    await one.link.ask("echo", b"")
    assert other.told == [("note", number) for number in range(5)]


async def test_an_exception_of_the_other_end_is_raised_here(sides):
    one, _ = sides
    with pytest.raises(KeyError, match="no") as failed:
        await one.link.ask("raise", pack("no"))
    assert "raised in the other end" in failed.value.__notes__[0]


async def test_a_cancelled_request_is_cancelled_there_and_awaited(sides):
    one, other = sides
    task = asyncio.create_task(one.link.ask("wait", b""))
    await other.waiting.wait()
    task.cancel("enough")
    with pytest.raises(asyncio.CancelledError, match="enough"):
        await task
    assert other.ends == ["cancelled"]
    assert await one.link.ask("echo", b"on") == b"on"


async def test_one_that_is_cancelled_before_it_began_is_answered_too(sides):
    one, other = sides
    other.go.set()
    task = asyncio.create_task(one.link.ask("wait", b""))
    await asyncio.sleep(0)  # it is sent, and the other end has not read it
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_one_that_goes_on_is_awaited_for_ever_or_for_as_long_as_there_is_patience(sides):
    one, other = sides
    other.swallows = True
    task = asyncio.create_task(one.link.ask("wait", b"", None, 0.01))
    await other.waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert one.ends == ["wait is stuck"]
    other.waiting.clear()
    task = asyncio.create_task(one.link.ask("wait", b""))
    await other.waiting.wait()
    task.cancel()
    await one.link.ask("echo", b"")
    assert not task.done()
    other.go.set()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_the_end_of_the_other_side_ends_what_is_awaited_and_running(sides):
    one, other = sides
    task = asyncio.create_task(one.link.ask("wait", b""))
    await other.waiting.wait()
    other.link.close()
    with pytest.raises(LinkEnded):
        await task
    await one.over.wait()
    with pytest.raises(LinkEnded):
        await one.link.ask("echo", b"")
    one.link.tell("note", pack(1))  # nobody is there: nothing happens
    await asyncio.sleep(0)
    assert other.ends == ["cancelled"]


async def test_the_context_of_a_request_is_kept_while_it_is_answered(sides):
    one, other = sides
    context = contextvars.copy_context()
    task = asyncio.create_task(one.link.ask("wait", b"", context))
    await other.waiting.wait()
    assert list(one.link.contexts.values()) == [context]
    other.go.set()
    await task
    assert one.link.contexts == {}
