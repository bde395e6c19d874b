import asyncio
import contextlib
from pathlib import Path

import msgspec
import pytest

from replank.config import Config, HttpConfig
from replank.control.server import ControlServer

from .fake_host import FakeHost


@pytest.fixture
async def host():
    return FakeHost()


@pytest.fixture
def config(tmp_path):
    http = HttpConfig(port=0, max_body_bytes=10_000, allowed_hosts=("shop.local",))
    return Config(data_dir=str(tmp_path / "data"), http=http)


@pytest.fixture
async def stops():
    return []


@pytest.fixture
async def server(host, config, stops):
    async with ControlServer(host, config, on_stop=lambda: stops.append(1)) as server:
        yield server


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self):
        return msgspec.json.decode(self.body)

    @property
    def lines(self):
        return [msgspec.json.decode(line) for line in self.body.splitlines()]


async def exchange(reader, writer, raw):
    """Send bytes and read one answer, by length or by chunks."""
    writer.write(raw)
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    status = int(head[0].split()[1])
    headers = {k.lower(): v for k, _, v in (h.partition(": ") for h in head[1:] if h)}
    if "content-length" in headers:
        body = await reader.readexactly(int(headers["content-length"]))
    else:
        body = b""
        while size := int(await reader.readline(), 16):
            body += await reader.readexactly(size)
            await reader.readline()
    return Answer(status, headers, body)


def request(method, path, body=b"", headers=None, host="localhost"):
    if not isinstance(body, bytes):
        body = msgspec.json.encode(body)
    lines = {"Host": host, "Content-Length": str(len(body)), **(headers or {})}
    head = "".join(f"{k}: {v}\r\n" for k, v in lines.items() if v is not None)
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body


@contextlib.asynccontextmanager
async def tcp(server):
    port = int(server.contact.http.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def bearer(server):
    """Return the header that bears the token."""
    return {"Authorization": f"Bearer {Path(server.contact.token_file).read_text().strip()}"}


@pytest.fixture
def token(server):
    return bearer(server)


@pytest.fixture
def ask(server):
    """Ask over TCP, one connection a request."""

    async def ask(method, path, body=b"", headers=None, host="localhost"):
        async with tcp(server) as (reader, writer):
            return await exchange(reader, writer, request(method, path, body, headers, host))

    return ask
