"""Events as log lines for people, on the standard logger `replank`."""

from __future__ import annotations

import logging
import sys
from typing import Final, TextIO

from replank.instrumentation import events
from replank.report import ProbationReport, ReloadReport

logger: Final = logging.getLogger("replank")
"""The one logger; a library stays silent until the program asks for lines."""
logger.addHandler(logging.NullHandler())

_DETAILS: Final = (
    events.PhaseStarted,
    events.PhaseEnded,
    events.ProbationStarted,
    events.GenerationRetired,
)
"""Only worth a line when somebody looks for the cause of something."""
_WARNINGS: Final = (
    events.Warned,
    events.MessageFailed,
    events.TimerFailed,
    events.GenerationLeaked,
)


def log_event(event: events.Event) -> None:
    """Write one event as one log line; a listener for `Bus.subscribe`.

    Args:
        event: What happened.
    """
    level = logging.INFO
    if isinstance(event, _DETAILS):
        level = logging.DEBUG
    elif isinstance(event, _WARNINGS):
        level = logging.WARNING
    if logger.isEnabledFor(level):
        logger.log(level, "%s", line_of(event))


def line_of(event: events.Event) -> str:
    """Return one line about an event.

    Args:
        event: What happened.
    """
    match event:
        case events.HostStarted():
            return f"host started, pid {event.pid}: {', '.join(event.modules) or 'no modules'}"
        case events.HostStopped():
            return f"host stopped, pid {event.pid}"
        case events.MessageFailed():
            return f"{event.module}: message {event.call} failed: {event.error.message}"
        case events.TimerFailed():
            return f"{event.module}: timer {event.timer} failed: {event.error.message}"
        case events.Warned():
            return f"{event.module}: {event.text}" if event.module else event.text
        case _:
            return _line_of_change(event)


def _line_of_change(event: events.Event) -> str:
    match event:
        case events.ModuleLoaded():
            return f"{event.name} {event.label} serves (generation {event.generation})"
        case events.ReloadStarted():
            return f"reload {event.id} of {', '.join(event.modules)} started ({event.reason})"
        case events.PhaseStarted() | events.PhaseEnded():
            return _line_of_phase(event)
        case events.ReloadEnded() | events.ProbationStarted() | events.ProbationEnded():
            return _line_of_end(event)
        case events.GenerationRetired() | events.GenerationLeaked():
            return _line_of_old(event)
        case _:
            return type(event).__name__


def _line_of_old(event: events.GenerationRetired | events.GenerationLeaked) -> str:
    if isinstance(event, events.GenerationRetired):
        return f"{event.name}: generation {event.generation} retired"
    held = " -> ".join(event.holders)
    return f"{event.name}: generation {event.generation} is still in memory, held by {held}"


def _line_of_phase(event: events.PhaseEvent) -> str:
    head = f"reload {event.id}: {event.phase}"
    if isinstance(event, events.PhaseStarted):
        return f"{head} ({event.where})"
    detail = f": {event.detail}" if event.detail else ""
    return f"{head} {event.outcome} in {event.seconds * 1e3:.1f} ms{detail}"


def _line_of_end(
    event: events.ReloadEnded | events.ProbationStarted | events.ProbationEnded,
) -> str:
    if isinstance(event, events.ReloadEnded):
        return line_of_report(event.report)
    if isinstance(event, events.ProbationEnded):
        return line_of_probation(event.report)
    names = ", ".join(event.modules)
    return f"reload {event.id} of {names}: on probation for {event.seconds:g} s"


def line_of_probation(report: ProbationReport) -> str:
    """Return one line about how a probation goes or went.

    Args:
        report: Its report.
    """
    head = f"reload {report.id} of {', '.join(report.modules)}: probation {report.state}"
    if report.tripped is not None:
        return f"{head}: {report.tripped}"
    called = [one for one in report.unjudged if one.unjudged != "not called"]
    few = ", ".join(f"{one.module}.{one.call} ({one.unjudged})" for one in called)
    judged = len(report.calls) - len(report.unjudged)
    told = f"{head}: {judged} methods compared, {report.checks_passed} checks passed"
    return f"{told}; too few calls to judge {few}" if few else told


def line_of_report(report: ReloadReport) -> str:
    """Return one line about how a reload ended.

    Args:
        report: Its report.
    """
    names = ", ".join(module.name for module in report.modules)
    head = f"reload {report.id} of {names} {report.outcome.replace('_', ' ')}"
    if report.error is None:
        return f"{head}: pause {report.pause_s * 1e3:.1f} ms, total {report.total_s * 1e3:.0f} ms"
    where = f" ({report.error.location})" if report.error.location else ""
    return f"{head} in {report.error.phase}: {report.error.message}{where}"


def log_to_stream(stream: TextIO | None = None, *, level: int = logging.INFO) -> logging.Handler:
    """Write log lines to a stream; the caller removes the handler when it is done.

    Args:
        stream: Where to; standard error when None.
        level: The least level written.

    Returns:
        The handler, for `logger.removeHandler`.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    logger.addHandler(handler)
    logger.setLevel(level)
    return handler


__all__ = ["line_of", "line_of_probation", "line_of_report", "log_event", "log_to_stream", "logger"]
