"""Slow and endless clients, with a clock that the test turns."""

import asyncio
import socket

import pytest

from replank.control.protocol import HEAD_BYTES_MAX
from replank.instrumentation.events import Warned

from .conftest import bearer, exchange, request, tcp

HEAD = b"POST /modules/ledger/deposit HTTP/1.1\r\nHost: localhost\r\n"


def door_of(server):
    return server._doors[0]


class Clock:
    """Looks at the door's connections at moments that the test names."""

    def __init__(self, server):
        self.door = door_of(server)
        self.door._looking.cancel()

    def look(self, now):
        return self.door._patience.look(self.door._server.server_state.connections, now)

    async def until(self, ready):
        async with asyncio.timeout(10):
            while not any(ready(one) for one in self.door._server.server_state.connections):
                await asyncio.sleep(0)


@pytest.fixture
def clock(server):
    return Clock(server)


async def test_half_a_head_is_answered_408_after_its_limit(server, clock, host):
    async with tcp(server) as (reader, writer):
        writer.write(HEAD)
        await clock.until(lambda one: one.scope is not None)
        assert clock.look(100.0) == 0
        assert clock.look(109.9) == 0
        assert clock.look(110.0) == 1
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"head of the request did not arrive within 10 s" in answer
    assert host.ledger.total == 0


async def test_a_head_that_drips_in_gets_no_more_time_for_each_byte(server, clock):
    async with tcp(server) as (reader, writer):
        for now in range(100, 110):
            writer.write(b"GET /" if now == 100 else b"x")
            await writer.drain()
            await clock.until(lambda one: one.scope is not None)
            assert clock.look(float(now)) == 0
        for _ in range(10):  # what the server has not read when it closes would reset the answer
            await asyncio.sleep(0)
        assert clock.look(110.0) == 1
        assert (await reader.read()).startswith(b"HTTP/1.1 408 ")


async def test_a_connection_that_says_nothing_is_closed_without_a_word(server, clock):
    async with tcp(server) as (reader, _):
        await clock.until(lambda one: one.transport is not None)
        assert clock.look(0.0) == 0
        assert clock.look(11.0) == 1
        assert await reader.read() == b""


async def test_half_a_body_is_answered_408_and_the_call_is_never_made(server, clock, host):
    async with tcp(server) as (reader, writer):
        writer.write(HEAD + b"Content-Length: 100\r\n\r\n{")
        await clock.until(lambda one: one.cycle is not None)
        assert clock.look(0.0) == 0
        assert clock.look(29.0) == 0
        assert clock.look(30.0) == 1
        assert b"408" in await reader.read()
    async with tcp(server) as (reader, writer):
        raw = request("POST", "/modules/ledger/total_now")
        assert (await exchange(reader, writer, raw)).json == 0


async def test_a_long_call_and_an_idle_connection_are_nobodys_fault(server, clock, host):
    async with tcp(server) as (reader, writer), tcp(server) as idle:
        assert (await exchange(*idle, request("POST", "/modules/ledger/total_now"))).json == 0
        holding = asyncio.ensure_future(
            exchange(reader, writer, request("POST", "/modules/ledger/hold"))
        )
        await host.ledger.held.wait()
        assert clock.look(0.0) == 0
        assert clock.look(1_000_000.0) == 0
        host.ledger.released.set()
        assert (await holding).json == "released"
        assert (await exchange(*idle, request("POST", "/modules/ledger/total_now"))).status == 200


async def test_the_next_request_of_a_connection_has_its_own_time(server, clock):
    async with tcp(server) as (reader, writer):
        assert (
            await exchange(reader, writer, request("POST", "/modules/ledger/total_now"))
        ).json == 0
        writer.write(HEAD)
        await clock.until(lambda one: one.timeout_keep_alive_task is None)
        assert clock.look(500.0) == 0
        writer.write(b"Content-Length: 15\r\n\r\n" + b'{"owner":"ada"}')
        assert (await exchange(reader, writer, b"")).json == 1
        assert clock.look(600.0) == 0


async def test_a_reader_that_takes_nothing_of_its_answer_is_let_go(server, clock, host):
    async with tcp(server) as (_, writer):
        raw = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        writer.transport.pause_reading()
        writer.write(request("GET", "/control/events", headers=bearer(server)))

        def paused(one):
            host.recent.note(Warned(text="x" * 60_000))
            return one.flow.write_paused

        await clock.until(paused)
        for turn in range(3):  # what the kernel still takes is progress
            clock.look(float(turn))
            await asyncio.sleep(0)
        assert clock.look(100.0) == 1
        async with asyncio.timeout(10):
            while server._feed.readers:
                await asyncio.sleep(0)


@pytest.mark.parametrize("part", [b"X-A: " + b"a" * 1_000 + b"\r\n", b"a" * 4_000])
async def test_a_head_without_end_is_refused(server, part):
    async with tcp(server) as (reader, writer):
        writer.write(HEAD if part.startswith(b"X") else b"GET /")
        # Not one more than is refused: what nobody reads would reset the answer.
        for _ in range(HEAD_BYTES_MAX // len(part) + 1):
            writer.write(part)
            await asyncio.sleep(0)
        assert (await reader.read()).startswith(b"HTTP/1.1 431 ")


async def test_a_long_head_in_one_piece_is_refused_and_a_long_body_is_not(server, host):
    async with tcp(server) as (reader, writer):
        writer.write(HEAD + b"X-A: " + b"a" * (HEAD_BYTES_MAX + 9) + b"\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 431 ")
    async with tcp(server) as (reader, writer):
        raw = request("POST", "/modules/ledger/deposit", b" " * 9_000 + b'{"owner": "ada"}')
        assert (await exchange(reader, writer, raw)).json == 1
