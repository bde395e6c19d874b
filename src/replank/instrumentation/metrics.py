"""Metrics in the words of Prometheus, read from the host's own numbers when somebody asks.

Nothing is counted here: calls pay nothing for being measured. Each host has a registry of its own;
a program with a registry of its own adds the host's numbers to it: `registry.register(
HostCollector(host))`. Labels are names of modules, phases and outcomes, so that their number is
bounded by the configuration.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import cache
from importlib import metadata
from time import monotonic
from typing import Final, Protocol

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from replank.instrumentation.status import Gate, HostStatus, ModuleStatus
from replank.instrumentation.tally import Histogram, Tally
from replank.report import Outcome

_SIZE_EVERY_S: Final = 30.0
"""A state's size is an estimate from a sample; looking more often would tell nothing new."""


class Measured(Protocol):
    """What metrics read of a host."""

    tally: Tally

    def status(self) -> HostStatus:
        """Return what is true now."""

    def state_size(self, name: str) -> tuple[int, int]:
        """Return a state's records and about how many bytes they take."""


class HostCollector(Collector):
    """Give a registry the numbers of one host.

    Args:
        host: The host.
        clock: Seconds that only rise.
    """

    def __init__(self, host: Measured, *, clock: Callable[[], float] = monotonic) -> None:
        self._host = host
        self._clock = clock
        self._sizes: dict[str, tuple[float, int, tuple[int, int]]] = {}

    def describe(self) -> Iterator[Metric]:
        """Describe nothing: a host that is not started has nothing to say when it is registered."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Read the host's numbers."""
        status = self._host.status()
        yield from _of_host(status)
        yield from _of_modules(status.modules)
        yield from self._of_states(status.modules)
        yield from _of_workers(status.modules, self._host.tally)
        yield from _of_reloads(self._host.tally)

    def _of_states(self, modules: tuple[ModuleStatus, ...]) -> Iterator[Metric]:
        records = GaugeMetricFamily(
            "replank_state_records", "Records in a module's tables.", labels=["module"]
        )
        size = GaugeMetricFamily(
            "replank_state_bytes",
            "About how many bytes a module's state takes in a snapshot.",
            labels=["module"],
        )
        for module in modules:
            count, bytes_ = self._size(module)
            records.add_metric([module.name], count)
            size.add_metric([module.name], bytes_)
        yield records
        yield size

    def _size(self, module: ModuleStatus) -> tuple[int, int]:
        now = self._clock()
        looked = self._sizes.get(module.name)
        if looked is None or looked[1] != module.generation or now - looked[0] >= _SIZE_EVERY_S:
            looked = (now, module.generation, self._host.state_size(module.name))
            self._sizes[module.name] = looked
        return looked[2]


def make_exposition(host: Measured) -> Callable[[], bytes]:
    """Return a function that writes one host's metrics as Prometheus reads them.

    Args:
        host: The host.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(HostCollector(host))
    return lambda: generate_latest(registry)


def _of_host(status: HostStatus) -> Iterator[Metric]:
    info = GaugeMetricFamily(
        "replank_info", "Versions of Replank and Python.", labels=["version", "python"]
    )
    info.add_metric([_own_version(), platform.python_version()], 1)
    yield info
    started = GaugeMetricFamily("replank_host_start_time_seconds", "When the host began to serve.")
    started.add_metric([], _unix(status.started_at))
    yield started


def _of_modules(modules: tuple[ModuleStatus, ...]) -> Iterator[Metric]:
    info = GaugeMetricFamily(
        "replank_module_info",
        "What serves: always 1.",
        labels=["module", "label", "digest", "schema"],
    )
    for one in modules:
        info.add_metric([one.name, one.label, one.digest, str(one.schema)], 1)
    yield info
    for name, text, read in _MODULE_GAUGES:
        gauge = GaugeMetricFamily(f"replank_{name}", text, labels=["module"])
        for one in modules:
            gauge.add_metric([one.name], read(one))
        yield gauge
    for name, text, read in _MODULE_COUNTERS:
        counter = CounterMetricFamily(f"replank_{name}", text, labels=["module"])
        for one in modules:
            counter.add_metric([one.name], read(one))
        yield counter


Read = Callable[[ModuleStatus], float]

_MODULE_GAUGES: Final[tuple[tuple[str, str, Read], ...]] = (
    ("module_generation", "Number of the generation that serves.", lambda one: one.generation),
    (
        "generations_alive",
        "Generations in memory: 2 after a reload; a number that only rises is a leak.",
        lambda one: one.generations_alive,
    ),
    ("gate_open", "1 when new calls enter, 0 while they wait.", lambda one: one.gate is Gate.OPEN),
    ("calls_in_flight", "Calls that entered and have not left.", lambda one: one.in_flight),
    ("calls_waiting", "Calls held at the closed gate.", lambda one: one.waiting),
    ("messages_queued", "Messages not handled yet.", lambda one: one.messages_queued),
    (
        "messages_lost",
        "Accepted, and neither handled nor failed nor queued: 0, or a mistake of Replank.",
        lambda one: one.messages_lost,
    ),
    (
        "worker_memory_bytes",
        "Resident memory of an isolated module's process; 0 for one in the host.",
        lambda one: one.memory_bytes,
    ),
    (
        "worker_down",
        "1 when an isolated module takes no calls until it is reloaded.",
        lambda one: bool(one.down),
    ),
)
_MODULE_COUNTERS: Final[tuple[tuple[str, str, Read], ...]] = (
    ("calls", "Calls that entered.", lambda one: one.calls),
    (
        "calls_refused",
        "Calls refused because too many waited; never executed.",
        lambda one: one.calls_refused,
    ),
    ("messages_accepted", "Messages accepted.", lambda one: one.messages_accepted),
    ("messages_handled", "Messages handled.", lambda one: one.messages_handled),
    ("messages_failed", "Messages whose handling raised.", lambda one: one.messages_failed),
)


def _of_workers(modules: tuple[ModuleStatus, ...], tally: Tally) -> Iterator[Metric]:
    ends = "Ends of an isolated module's process that nobody asked for."
    for name, text, found in (
        ("worker_ends", ends, tally.worker_ends),
        ("worker_restarts", "Starts of another process in its place.", tally.worker_restarts),
    ):
        counter = CounterMetricFamily(f"replank_{name}", text, labels=["module"])
        for one in modules:
            counter.add_metric([one.name], found[one.name])
        yield counter


def _of_reloads(tally: Tally) -> Iterator[Metric]:
    reloads = CounterMetricFamily(
        "replank_reloads",
        "Reloads by outcome and, when they did not commit, by the phase that failed.",
        labels=["outcome", "phase"],
    )
    for outcome in Outcome:  # from the first scrape on, or a rate would miss the first failure
        if not any(key[0] == outcome for key in tally.reloads):
            reloads.add_metric([outcome, ""], 0)
    for (ended, phase), count in sorted(tally.reloads.items()):
        reloads.add_metric([ended, phase], count)
    yield reloads
    for name, text, value in (
        ("rollbacks", "Commits that went back to a version before.", tally.rollbacks),
        ("calls_held", "Calls that waited because of a reload.", tally.calls_held),
        ("messages_held", "Messages that waited because of a reload.", tally.messages_held),
        ("records_migrated", "Records migrated by committed reloads.", tally.records_migrated),
        ("warnings", "Warnings for the operator.", tally.warnings),
    ):
        counter = CounterMetricFamily(f"replank_{name}", text)
        counter.add_metric([], value)
        yield counter
    for name, text, value in (
        ("reloads_running", "Reloads under way.", tally.running),
        (
            "last_reload_success_timestamp_seconds",
            "When a reload last committed; 0 before the first.",
            int(tally.last_success_at),
        ),
        (
            "last_reload_successful",
            "1 when the last reload committed, or there was none.",
            int(tally.last_committed is not False),
        ),
    ):
        gauge = GaugeMetricFamily(f"replank_{name}", text)
        gauge.add_metric([], value)
        yield gauge
    yield from _times_of(tally)


def _times_of(tally: Tally) -> Iterator[Metric]:
    failures = CounterMetricFamily(
        "replank_timer_failures", "Timers and tasks that raised.", labels=["module"]
    )
    for module, count in sorted(tally.timer_failures.items()):
        failures.add_metric([module], count)
    yield failures
    pause = HistogramMetricFamily(
        "replank_reload_pause_seconds", "Longest wait of a call because of a reload."
    )
    pause.add_metric([], *_parts(tally.pauses))
    yield pause
    total = HistogramMetricFamily("replank_reload_seconds", "A reload from first to last phase.")
    total.add_metric([], *_parts(tally.totals))
    yield total
    phases = HistogramMetricFamily(
        "replank_reload_phase_seconds",
        "One phase of a reload: window while the old version serves, pause while calls wait.",
        labels=["phase", "where"],
    )
    for (phase, where), histogram in sorted(tally.phases.items()):
        phases.add_metric([phase, where], *_parts(histogram))
    yield phases


def _parts(histogram: Histogram) -> tuple[list[tuple[str, float]], float]:
    buckets = [(str(bound), float(count)) for bound, count in histogram.cumulative()]
    return [*buckets, ("+Inf", float(histogram.count))], histogram.total


def _unix(text: str) -> float:
    return datetime.fromisoformat(text).timestamp() if text else 0.0


@cache
def _own_version() -> str:
    try:
        return metadata.version("replank")
    except metadata.PackageNotFoundError:
        return "unknown"


__all__ = ["HostCollector", "Measured", "make_exposition"]
