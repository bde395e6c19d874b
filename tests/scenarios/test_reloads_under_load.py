"""Many reloads of a module with state, under calls and messages: nothing is lost."""

from __future__ import annotations

import asyncio
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from replank import Host, Outcome
from replank.config import Config, HttpConfig
from replank.control.server import ControlServer
from replank.demo.keepalive import Connection
from tests.scenarios.load import NOTHING_WRONG, Load

RELOADS = 200
RELOADS_OVER_HTTP = 40  # fifty connections in one process: the long form has run once by hand


async def settled(host: Host, name: str) -> None:
    """Return when every accepted message has been handled."""
    inbox = host._routes.slot(name).inbox
    while inbox.queued:
        await asyncio.sleep(0)


async def reload_often(host: Host, source: Path, load: Load, turns: int) -> None:
    """Reload to one version and back, with some answers between."""
    for turn in range(turns):
        version = "v2.py" if turn % 2 == 0 else "v1.py"
        report = await host.reload({"counter": source / version})
        assert report.outcome is Outcome.COMMITTED, report.error
        await load.some_answers(5)


async def test_reloads_with_migration_lose_double_and_reorder_nothing(
    tmp_path: Path, modules: Path
) -> None:
    async with Host({"counter": modules / "counter" / "v1.py"}, data_dir=tmp_path) as host:
        counter = host["counter"]
        async with Load(counter.add, counter.send.add) as load:
            await reload_often(host, modules / "counter", load, RELOADS)
        await settled(host, "counter")
        account = await counter.account()
    assert load.compare(account) == NOTHING_WRONG
    assert load.mixed_answers() == RELOADS


async def test_nothing_is_lost_doubled_or_reordered_over_http(
    tmp_path: Path, modules: Path
) -> None:
    config = Config(data_dir=str(tmp_path), http=HttpConfig(port=0))
    connections: dict[str, Connection] = {}
    source = modules / "counter"
    async with (
        Host({"counter": source / "v1.py"}, data_dir=tmp_path, config=config) as host,
        ControlServer(host, config) as server,
    ):
        assert server.contact is not None
        address = urlsplit(server.contact.http)

        async def call(sender: str, number: int) -> list[object]:
            if sender not in connections:
                connections[sender] = Connection(address.hostname, address.port)
            status, body = await connections[sender].post(
                "/modules/counter/add", {"sender": sender, "number": number}
            )
            assert status == 200, body
            return msgspec.json.decode(body)

        async with Load(call, host["counter"].send.add) as load:
            await reload_often(host, source, load, RELOADS_OVER_HTTP)
        for connection in connections.values():
            connection.close()
        await settled(host, "counter")
        account = await host["counter"].account()
    assert load.compare(account) == NOTHING_WRONG


async def test_the_load_notices_a_loss(tmp_path: Path, modules: Path) -> None:
    """The accounting can fail: a caller whose call is thrown away is seen as lost."""
    async with Host({"counter": modules / "counter" / "v1.py"}, data_dir=tmp_path) as host:
        counter = host["counter"]

        async def losing(sender: str, number: int) -> tuple[str]:
            if sender == "caller-3" and number > 2:
                return ("1.0",)
            return await counter.add(sender, number)

        async with Load(losing, counter.send.add, callers=5, senders=1) as load:
            await load.some_answers(200)
        await settled(host, "counter")
        account = await counter.account()
    assert load.compare(account)["lost"] == 1
    assert load.compare(account)["wrong_sums"] == 1
