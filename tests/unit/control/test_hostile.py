"""Requests that mean harm, or none at all: never a 5xx, never a reload, and the next one is served."""

import asyncio
import random

from .conftest import exchange, request, tcp

HEADS = [
    b"GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"POST /modules/ledger/%64eposit%00 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n",
    b"POST /modules/ledger/deposit HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
    b"POST /modules/ledger/deposit HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999\r\n\r\n",
    b"POST /modules/ledger/deposit HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
    b"POST http://localhost/modules/ledger/deposit HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 2\r\n\r\n{}",
    b"CONNECT localhost:1 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /control/status HTTP/1.0\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"\r\n\r\n\r\n",
]


async def status_of(server, raw):
    """Return the status of the answer, or None when the connection is just closed."""
    async with tcp(server) as (reader, writer):
        writer.write(raw)
        writer.write_eof()
        try:
            first = await reader.readline()
        except ConnectionError:
            return None
        return int(first.split()[1]) if first.startswith(b"HTTP/") else None


async def test_hostile_heads_are_refused_and_the_next_request_is_served(server, host):
    for raw in HEADS:
        status = await status_of(server, raw)
        assert status is None or 400 <= status < 500, raw
    assert host.reloads == []
    assert host.ledger.total == 0
    async with tcp(server) as (reader, writer):
        raw = request("POST", "/modules/ledger/deposit", {"owner": "ada"})
        assert (await exchange(reader, writer, raw)).json == 1


async def test_garbled_requests_never_make_the_host_stumble(server, host):
    chance = random.Random(7)
    good = request(
        "POST", "/control/reload", {"modules": ["ledger"]}, {"Authorization": "Bearer x"}
    )
    for _ in range(150):
        raw = bytearray(good)
        for _ in range(chance.randint(1, 6)):
            raw[chance.randrange(len(raw))] = chance.randrange(256)
        status = await status_of(server, bytes(raw[: chance.randint(1, len(raw))]))
        assert status is None or 400 <= status < 500, bytes(raw)
    assert host.reloads == []


async def test_a_client_that_goes_in_the_middle_of_its_request_leaves_nothing_behind(server):
    for cut in (10, 40, -1):
        async with tcp(server) as (_, writer):
            writer.write(request("POST", "/modules/ledger/deposit", {"owner": "ada"})[:cut])
    async with tcp(server) as (reader, writer):
        raw = request("POST", "/modules/ledger/total_now")
        assert (await exchange(reader, writer, raw)).json == 0
    for _ in range(5):
        await asyncio.sleep(0)
    assert [t for t in asyncio.all_tasks() if "run_asgi" in repr(t.get_coro())] == []
