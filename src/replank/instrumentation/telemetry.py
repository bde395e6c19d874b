"""What a host remembers and tells of itself, in one place: last events, counts, traces."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any

from replank.config_http import TelemetryConfig
from replank.errors import ConfigError
from replank.instrumentation.events import Bus
from replank.instrumentation.recent import RecentEvents
from replank.instrumentation.tally import Tally


class Telemetry:
    """Listen to a host's bus from its first event on.

    Args:
        config: What is wanted.
        bus: The host's.

    Raises:
        ConfigError: Traces are wanted, and the package for them is missing.
    """

    def __init__(self, config: TelemetryConfig, bus: Bus) -> None:
        if config.traces and find_spec("opentelemetry") is None:
            raise ConfigError(
                "[telemetry] traces needs OpenTelemetry",
                found="no package opentelemetry",
                do="pip install 'replank[otel]', or leave traces out",
            )
        self.recent = RecentEvents(config.events_kept)
        self.tally = Tally()
        self._bus = bus
        self._traces = config.traces
        self._end_traces: Callable[[], None] | None = None
        bus.subscribe(self.recent.note)
        bus.subscribe(self.tally.note)

    def start(self, gates: Mapping[str, Any]) -> None:
        """Begin to trace, if that is wanted.

        Args:
            gates: Each module's gate, by name.
        """
        if self._traces:
            # Imported here: who does not trace pays nothing, and needs no package for it.
            from replank.instrumentation.tracing import trace_reloads  # noqa: PLC0415

            self._end_traces = trace_reloads(self._bus.subscribe, gates)

    def stop(self) -> None:
        """End tracing; events are kept and counted as long as there are any."""
        if self._end_traces is not None:
            self._end_traces()
            self._end_traces = None


__all__ = ["Telemetry"]
