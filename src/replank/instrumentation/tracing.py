"""Reloads as OpenTelemetry spans: one a reload, its phases as children, calls linked.

Imported only when a host is told to trace; needs `opentelemetry-api`. Where the spans go is the
program's own affair: it sets a tracer provider, or is started with `opentelemetry-instrument`.

A reload is no part of the call that asked for it, nor of those it makes wait: it goes on when they
end. So it is a trace of its own, with links both ways.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final, Protocol

from opentelemetry import trace
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, TracerProvider

from replank.instrumentation import events
from replank.instrumentation.log import logger
from replank.report import ErrorReport, PhaseOutcome, ReloadReport

LINKS_MAX: Final = 64
"""Calls that a reload's span links to; each of them links to the reload, however many wait."""
_NS: Final = 1_000_000_000


class Holds(Protocol):
    """What tracing needs of a gate."""

    on_hold: Callable[[], None] | None
    """Called in the context of each call that has to wait."""


class _Reload:
    """The spans of one reload that runs."""

    def __init__(self, span: Span, modules: tuple[str, ...]) -> None:
        self.span = span
        self.modules = modules
        self.phases: dict[tuple[str, str], Span] = {}
        self.links = 0


class ReloadTracer:
    """Make spans from events; `note` is a listener for `Bus.subscribe`.

    Args:
        provider: Where spans go; the program's own by default.
    """

    def __init__(self, provider: TracerProvider | None = None) -> None:
        self._tracer = trace.get_tracer("replank", tracer_provider=provider)
        self._running: dict[str, _Reload] = {}

    def note(self, event: events.Event) -> None:
        """Begin, end or mark a span.

        Args:
            event: What happened; when it did is in it, for some are told late.
        """
        match event:
            case events.ReloadStarted():
                self._begin(event)
            case events.PhaseStarted():
                self._begin_phase(event)
            case events.PhaseEnded():
                self._end_phase(event)
            case events.ReloadEnded():
                self._end(event)

    def note_call(self, module: str) -> None:
        """Link a call that has to wait and the reload it waits for.

        Args:
            module: The module whose gate is closed.
        """
        span = trace.get_current_span()
        context = span.get_span_context()
        if not context.is_valid:
            return
        for reload in self._running.values():
            if module in reload.modules:
                span.add_link(reload.span.get_span_context(), {"replank.waits_for": module})
                if reload.links < LINKS_MAX:
                    reload.links += 1
                    reload.span.add_link(context, {"replank.held_by": module})

    def _begin(self, event: events.ReloadStarted) -> None:
        asking = trace.get_current_span().get_span_context()
        span = self._tracer.start_span(
            f"reload {', '.join(event.modules)}",
            context=trace.set_span_in_context(trace.INVALID_SPAN),
            kind=SpanKind.INTERNAL,
            links=[Link(asking, {"replank.asked_for": True})] if asking.is_valid else None,
            start_time=_ns(event.at),
            attributes={
                "replank.reload.id": event.id,
                "replank.reload.modules": event.modules,
                "replank.reload.reason": event.reason,
            },
        )
        self._running[event.id] = _Reload(span, event.modules)

    def _begin_phase(self, event: events.PhaseStarted) -> None:
        reload = self._running.get(event.id)
        if reload is not None:
            reload.phases[event.phase, event.where] = self._tracer.start_span(
                str(event.phase),
                context=trace.set_span_in_context(reload.span),
                start_time=_ns(event.at),
                attributes={"replank.phase.where": event.where},
            )

    def _end_phase(self, event: events.PhaseEnded) -> None:
        reload = self._running.get(event.id)
        span = reload.phases.pop((event.phase, event.where), None) if reload is not None else None
        if span is None:
            return
        if event.detail:
            span.set_attribute("replank.phase.detail", event.detail)
        if event.outcome is not PhaseOutcome.DONE:
            span.set_status(Status(StatusCode.ERROR, event.detail or str(event.outcome)))
        span.end(_ns(event.at))

    def _end(self, event: events.ReloadEnded) -> None:
        reload = self._running.pop(event.id, None)
        if reload is None:
            return
        end = _ns(event.at)
        for span in reload.phases.values():  # cut off: a phase that never told its end
            span.end(end)
        _describe(reload.span, event.report)
        if event.report.error is not None:
            _add_error(reload.span, event.report.error, end)
        reload.span.end(end)


def trace_reloads(
    subscribe: Callable[[events.Listener], Callable[[], None]],
    gates: Mapping[str, Holds],
    provider: TracerProvider | None = None,
) -> Callable[[], None]:
    """Trace every reload from now on.

    Args:
        subscribe: Of the host's bus.
        gates: Each module's gate, by name.
        provider: Where spans go; the program's own by default.

    Returns:
        A function that ends it.
    """
    tracer = ReloadTracer(provider)
    unsubscribe = subscribe(tracer.note)
    for name, gate in gates.items():
        gate.on_hold = partial(_quietly, tracer.note_call, name)

    def end() -> None:
        unsubscribe()
        for gate in gates.values():
            gate.on_hold = None

    return end


def _quietly(note: Callable[[str], None], module: str) -> None:
    # A call waits, and is answered, whatever a tracer of the program's own raises.
    try:
        note(module)
    except Exception:
        logger.exception("a call that waits for %s could not be traced", module)


def _describe(span: Span, report: ReloadReport) -> None:
    span.set_attributes(
        {
            "replank.reload.outcome": str(report.outcome),
            "replank.reload.pause_s": report.pause_s,
            "replank.reload.calls_held": report.calls_held,
            "replank.reload.messages_held": report.messages_held,
            "replank.reload.versions": tuple(
                f"{one.name} {one.version_from} -> {one.version_to}" for one in report.modules
            ),
        }
    )


def _add_error(span: Span, error: ErrorReport, at: int) -> None:
    span.set_status(Status(StatusCode.ERROR, f"{error.phase}: {error.message}"))
    span.add_event(
        "exception",
        {
            "exception.type": error.kind,
            "exception.message": error.message,
            "exception.stacktrace": error.traceback,
            "replank.phase": error.phase,
        },
        timestamp=at,
    )


def _ns(at: float) -> int:
    return int(at * _NS)


__all__ = ["LINKS_MAX", "Holds", "ReloadTracer", "trace_reloads"]
