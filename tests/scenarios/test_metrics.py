"""What Prometheus reads after real reloads, over the wire, and what is built upon it."""

import asyncio
import gc
import json
import re
import urllib.request
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from replank import Host, Outcome
from replank.config import Config, HttpConfig, ModuleConfig, ReloadConfig
from replank.control.server import ControlServer
from replank.instrumentation.metrics import HostCollector

ROOT = Path(__file__).parents[2]
LEDGER = """
import asyncio
from replank import Module, Record, Table, check

class Account(Record):
    owner: str
    cents: int = 0

class Ledger(Module, version="{version}"):
    accounts: Table[str, Account]
    keep: list = []

    async def deposit(self, owner: str, cents: int) -> int:
        if cents < 0:
            raise ValueError("negative")
        self.accounts.setdefault(owner, Account(owner)).cents += cents
        return self.accounts[owner].cents

    @check
    async def well(self):
        assert "{version}" != "bad"
"""


class Scrape(dict):
    """Samples by name and labels: `scrape["replank_calls_total", "ledger"]`."""

    def __init__(self, text):
        super().__init__()
        self.names = set()
        for family in text_string_to_metric_families(text):
            assert family.documentation
            for sample in family.samples:
                self.names.add(sample.name)
                key = (sample.name, *sample.labels.values())
                assert key not in self
                self[key] = sample.value


@pytest.fixture
async def running(tmp_path):
    source = tmp_path / "ledger.py"
    source.write_text(LEDGER.format(version="1"))
    config = Config(http=HttpConfig(port=0), reload=ReloadConfig(probe=False))
    host = Host({"ledger": source}, data_dir=tmp_path / "data", config=config)
    async with host, ControlServer(host, host.config) as server:

        def scrape():
            with urllib.request.urlopen(f"{server.contact.http}/metrics") as answer:
                assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
                return Scrape(answer.read().decode())

        async def look():
            return await asyncio.to_thread(scrape)

        async def reload(version):
            source.write_text(LEDGER.format(version=version))
            return await host.reload("ledger")

        yield host, look, reload


async def test_calls_messages_state_and_reloads_are_what_they_were(running):
    host, look, reload = running
    first = await look()
    assert first["replank_reloads_total", "committed", ""] == 0
    assert first["replank_last_reload_success_timestamp_seconds",] == 0
    for number in range(50):
        await host["ledger"].deposit(f"owner {number}", 5)
    for cents in (1, 2, -1):
        await host["ledger"].send.deposit("ada", cents)
    while host.status().modules[0].messages_queued:
        await asyncio.sleep(0)
    assert (await reload("2")).outcome is Outcome.COMMITTED
    assert (await reload("2 +")).outcome is Outcome.COMMITTED
    assert (await reload("bad")).outcome is Outcome.REJECTED
    gc.collect()
    found = await look()
    ledger = {name: value for (name, *labels), value in found.items() if labels == ["ledger"]}
    assert ledger["replank_calls_total"] >= 50
    assert ledger["replank_calls_in_flight"] == ledger["replank_calls_waiting"] == 0
    assert ledger["replank_gate_open"] == 1
    assert ledger["replank_messages_accepted_total"] == 3
    assert ledger["replank_messages_handled_total"] == 2
    assert ledger["replank_messages_failed_total"] == 1
    assert ledger["replank_messages_lost"] == 0
    assert ledger["replank_state_records"] == 51
    assert 2_000 < ledger["replank_state_bytes"] < 100_000
    assert ledger["replank_module_generation"] == host.status().modules[0].generation
    assert found["replank_reloads_total", "committed", ""] == 2
    [(_, _, phase)] = [key for key in found if key[:2] == ("replank_reloads_total", "rejected")]
    assert phase == "verify"
    assert found["replank_reload_pause_seconds_count",] == 2
    assert found["replank_reload_seconds_count",] == 3
    assert found["replank_reload_phase_seconds_count", "commit", "pause"] == 2
    assert found["replank_reload_phase_seconds_count", "prepare", "window"] == 3
    assert found["replank_last_reload_successful",] == 0
    assert found["replank_last_reload_success_timestamp_seconds",] > 1e9
    assert found["replank_reloads_running",] == 0
    host._routes.slot("ledger").inbox.accepted += 3  # as a mistake in the books would
    assert (await look())["replank_messages_lost", "ledger"] == 3


async def test_generations_that_are_gone_are_not_alive_and_leaked_ones_are(running):
    host, look, reload = running
    leaked = host._routes.current("ledger").definition.owner
    for version in "234":
        assert (await reload(version)).committed
    while [kept.kind for kept in host.recent.after(0)].count("GenerationRetired") < 3:
        await asyncio.sleep(0)
    gc.collect()
    with_leak = (await look())["replank_generations_alive", "ledger"]
    del leaked
    gc.collect()
    without = (await look())["replank_generations_alive", "ledger"]
    assert with_leak == without + 1
    assert without <= 2  # what serves; the one replaced last is let go at the next reload


async def test_a_program_adds_a_host_to_its_own_registry(running):
    host, _, _ = running
    registry = CollectorRegistry()
    registry.register(HostCollector(host))
    assert registry.get_sample_value("replank_gate_open", {"module": "ledger"}) == 1


async def test_dashboard_and_alerts_ask_only_for_what_there_is(running):
    _, look, reload = running
    await reload("2")
    known = (await look()).names
    dashboard = (ROOT / "docs" / "metrics" / "grafana.json").read_text("utf-8")
    alerts = (ROOT / "docs" / "metrics" / "alerts.yml").read_text("utf-8")
    for text in (dashboard, alerts):
        asked = set(re.findall(r"\breplank_\w+", text))
        assert len(asked) >= 5
        assert asked <= known
    panels = json.loads(dashboard)["panels"]
    assert all(panel["targets"] for panel in panels)
    page = (ROOT / "docs" / "reference" / "metrics.md").read_text("utf-8")
    for name in known:
        base = re.sub(r"_(bucket|sum|count|created)$", "", name)
        assert f"`{base}`" in page, base


async def test_the_books_of_durable_messages_balance_over_reloads_and_a_restart(tmp_path):
    source = tmp_path / "ledger.py"
    source.write_text(LEDGER.format(version="1"))
    module = ModuleConfig(source=str(source), durable=True, persist="commit")
    config = Config(
        modules={"ledger": module},
        data_dir=str(tmp_path / "data"),
        reload=ReloadConfig(probe=False),
    )

    def books(host):
        one = host.status().modules[0]
        assert one.messages_lost == 0
        return one.messages_accepted, one.messages_handled, one.messages_failed

    async with Host(config=config) as host:
        for cents in range(-5, 45):
            await host["ledger"].send.deposit("ada", cents)
            books(host)
        source.write_text(LEDGER.format(version="2"))
        assert (await host.reload("ledger")).committed
        for _ in range(10):
            await host["ledger"].send.deposit("ada", 1)
            books(host)
        while host.status().modules[0].messages_queued:
            await asyncio.sleep(0)
        assert books(host) == (60, 55, 5)
    async with Host(config=config) as host:
        await host["ledger"].send.deposit("ada", 1)
        while host.status().modules[0].messages_queued:
            books(host)
            await asyncio.sleep(0)
        assert books(host) == (1, 1, 0)
