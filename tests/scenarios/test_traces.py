"""Reloads as OpenTelemetry spans, of a real host."""

import asyncio
import subprocess
import sys

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from replank import Host, Outcome
from replank.config import Config, ReloadConfig, TelemetryConfig
from replank.errors import ConfigError
from replank.instrumentation.events import ReloadEnded, ReloadStarted
from tests.unit.instrumentation.test_events import REPORT

LEDGER = """
from replank import Module, check

class Ledger(Module, version="{version}"):
    total: int = 0

    async def deposit(self, cents: int) -> int:
        self.total += cents
        return self.total

    async def hold(self, entered, released) -> str:
        entered.set()
        await released.wait()
        return "{version}"

    @check
    async def well(self):
        assert "{version}" != "bad", "not well"
"""


@pytest.fixture
def spans(monkeypatch):
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    return exporter


@pytest.fixture
async def running(tmp_path, spans):
    source = tmp_path / "ledger.py"
    source.write_text(LEDGER.format(version="1"))
    config = Config(telemetry=TelemetryConfig(traces=True), reload=ReloadConfig(probe=False))
    async with Host({"ledger": source}, data_dir=tmp_path / "data", config=config) as host:

        def reload(version):
            source.write_text(LEDGER.format(version=version))
            return host.reload("ledger", reason="test")

        yield host, reload


def by_name(spans):
    found = {}
    for span in spans.get_finished_spans():
        found.setdefault(span.name, []).append(span)
    return found


async def test_a_reload_is_a_span_and_its_phases_are_its_children(running, spans):
    _, reload = running
    report = await reload("2")
    found = by_name(spans)
    [span] = found["reload ledger"]
    assert span.attributes["replank.reload.id"] == report.id
    assert span.attributes["replank.reload.outcome"] == "committed"
    assert span.attributes["replank.reload.versions"] == ("ledger 1 -> 2",)
    assert span.attributes["replank.reload.reason"] == "test"
    assert span.status.is_ok
    assert span.parent is None
    phases = [one for one in spans.get_finished_spans() if one is not span]
    assert {one.name for one in phases} >= {"prepare", "drain", "swap", "commit"}
    for one in phases:
        assert one.parent.span_id == span.context.span_id
        assert span.start_time <= one.start_time <= one.end_time <= span.end_time
    pause = [one for one in phases if one.attributes["replank.phase.where"] == "pause"]
    [prepare] = found["prepare"]
    assert all(prepare.end_time <= one.start_time for one in pause)


async def test_a_reload_that_fails_is_an_error_with_its_cause(running, spans):
    _, reload = running
    assert (await reload("bad")).outcome is Outcome.REJECTED
    found = by_name(spans)
    [span] = found["reload ledger"]
    assert not span.status.is_ok
    assert span.status.description.startswith("verify: ")
    [event] = span.events
    assert event.attributes["exception.type"] == "CheckError"
    assert not found["verify"][0].status.is_ok


async def test_calls_that_wait_and_calls_that_ask_are_linked_with_the_reload(running, spans):
    host, reload = running
    tracer = trace.get_tracer("test")
    entered, released = asyncio.Event(), asyncio.Event()
    holding = asyncio.create_task(host["ledger"].hold(entered, released))
    await entered.wait()

    async def call():
        with tracer.start_as_current_span("call") as span:
            await host["ledger"].deposit(5)
            return span.get_span_context()

    async def not_traced():
        await host["ledger"].deposit(5)

    with tracer.start_as_current_span("asking") as asking:
        ticket = reload("2")
    while host.status().modules[0].gate == "open":
        await asyncio.sleep(0)
    calls = [asyncio.create_task(call()) for _ in range(70)]
    calls.append(asyncio.create_task(not_traced()))
    while host.status().modules[0].waiting < 71:
        await asyncio.sleep(0)
    released.set()
    assert (await ticket).committed
    contexts = {one.span_id for one in await asyncio.gather(*calls[:-1])}
    await holding
    [span] = by_name(spans)["reload ledger"]
    linked = [link for link in span.links if "replank.held_by" in link.attributes]
    assert len(linked) == 64
    assert {link.context.span_id for link in linked} <= contexts
    asked = [link for link in span.links if "replank.asked_for" in link.attributes]
    assert {link.context.span_id for link in asked} <= {asking.get_span_context().span_id}
    for one in by_name(spans)["call"]:
        assert [link.context.span_id for link in one.links] == [span.context.span_id]


async def test_a_host_that_has_stopped_traces_nothing_more(tmp_path, spans):
    (tmp_path / "ledger.py").write_text(LEDGER.format(version="1"))
    config = Config(telemetry=TelemetryConfig(traces=True), reload=ReloadConfig(probe=False))
    host = Host({"ledger": tmp_path / "ledger.py"}, data_dir=tmp_path / "data", config=config)
    async with host:
        assert host._routes.slot("ledger").gate.on_hold is not None
    assert host._routes.slot("ledger").gate.on_hold is None
    host.bus.publish(ReloadStarted(id="r9", modules=("ledger",)))
    host.bus.publish(ReloadEnded(id="r9", report=REPORT))
    assert spans.get_finished_spans() == ()


async def test_a_call_is_answered_whatever_a_tracer_raises(running, monkeypatch, caplog):
    host, reload = running
    entered, released = asyncio.Event(), asyncio.Event()
    holding = asyncio.create_task(host["ledger"].hold(entered, released))
    await entered.wait()
    monkeypatch.setattr(trace, "get_current_span", lambda *_: 1 / 0)
    ticket = reload("2")
    while host.status().modules[0].gate == "open":
        await asyncio.sleep(0)
    call = asyncio.create_task(host["ledger"].deposit(5))
    while host.status().modules[0].waiting < 1:
        await asyncio.sleep(0)
    released.set()
    assert await call == 5
    assert (await ticket).committed
    await holding
    assert "could not be traced" in caplog.text


def test_without_the_package_the_host_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr("replank.instrumentation.telemetry.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match="needs OpenTelemetry") as caught:
        Host({"a": tmp_path / "a.py"}, config=Config(telemetry=TelemetryConfig(traces=True)))
    assert "replank[otel]" in caught.value.do


def test_who_does_not_measure_or_trace_imports_nothing_for_it():
    code = "import replank.host, replank.control.server, sys; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(found.stdout.split())
    assert not {"opentelemetry", "prometheus_client"} & loaded
    assert "replank.host" in loaded
