"""Events as log lines for people, on the standard logger `replank`."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any, Final, TextIO

import msgspec

from replank.instrumentation import events
from replank.report import ProbationReport, ReloadReport

logger: Final = logging.getLogger("replank")
"""The one logger; a library stays silent until the program asks for lines."""
logger.addHandler(logging.NullHandler())

_EVENT: Final = "replank_event"
"""The attribute of a log record that holds its event, for formatters that write fields."""
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
    events.WorkerEnded,
    events.WorkerGaveUp,
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
        logger.log(level, "%s", line_of(event), extra={_EVENT: event})


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


def _line_of_worker(
    event: events.WorkerEnded | events.WorkerRestarted | events.WorkerGaveUp,
) -> str:
    match event:
        case events.WorkerEnded():
            return f"{event.module}: its process {event.pid} ended: {event.how}"
        case events.WorkerRestarted():
            saved = f"of {event.saved_at}" if event.saved_at else "as at its first start"
            return f"{event.module}: serves in process {event.pid}, with its state {saved}"
        case events.WorkerGaveUp():
            return f"{event.module}: stays down: {event.error.message}"


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
    return _line_of_trigger(event)


def _line_of_old(event: events.GenerationRetired | events.GenerationLeaked) -> str:
    if isinstance(event, events.GenerationRetired):
        return f"{event.name}: generation {event.generation} retired"
    held = " -> ".join(event.holders)
    return f"{event.name}: generation {event.generation} is still in memory, held by {held}"


def _line_of_trigger(event: events.Event) -> str:
    match event:
        case events.CanaryMoved():
            share = f"{event.share:.1%}"
            return (
                f"reload {event.id} of {', '.join(event.modules)}: canary at {share} of the calls"
            )
        case events.ReloadDeferred():
            return f"request {event.id} for {', '.join(event.modules)} waits: {event.why}"
        case events.SourcesNoticed():
            return _line_of_notice(event)
        case events.ConfigReloaded():
            return _line_of_config(event)
        case events.WorkerEnded() | events.WorkerRestarted() | events.WorkerGaveUp():
            return _line_of_worker(event)
    return type(event).__name__


def _line_of_notice(event: events.SourcesNoticed) -> str:
    more = f" and {event.total - len(event.files)} more" if event.total > len(event.files) else ""
    done = f"reloading {', '.join(event.modules)}" if event.modules else "nothing to do"
    detail = f": {event.detail}" if event.detail else ""
    return f"changed: {', '.join(event.files)}{more}; {done}{detail}"


def _line_of_config(event: events.ConfigReloaded) -> str:
    parts = [f"{event.path} read again: {', '.join(event.applied) or 'nothing'} changed"]
    if event.needs_restart:
        parts.append(f"{', '.join(event.needs_restart)} needs a restart")
    return "; ".join(parts)


def _line_of_phase(event: events.PhaseStarted | events.PhaseEnded) -> str:
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
    return f"reload {event.id} of {names}: on probation for {event.seconds:.3g} s"


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


class JsonFormatter(logging.Formatter):
    """Write each record as one JSON object a line, with the fields of its event.

    Every line has `at` (Unix seconds), `level`, `logger` and `message`; a line about an event also
    has `type` and that event's fields, as they are sent to those who follow the events.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        fields: dict[str, Any] = {
            "at": round(record.created, 6),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        event = getattr(record, _EVENT, None)
        if event is not None:
            fields |= msgspec.to_builtins(event)
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        try:
            return msgspec.json.encode(fields).decode()
        except UnicodeEncodeError:  # a lone surrogate in a message of a module's own
            return json.dumps(fields, ensure_ascii=False).encode("utf-8", "replace").decode()


def log_to_stream(
    stream: TextIO | None = None, *, level: int = logging.INFO, as_json: bool = False
) -> logging.Handler:
    """Write log lines to a stream; the caller removes the handler when it is done.

    Args:
        stream: Where to; standard error when None.
        level: The least level written.
        as_json: Whether each line is a JSON object.

    Returns:
        The handler, for `logger.removeHandler`.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    plain = logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S")
    handler.setFormatter(JsonFormatter() if as_json else plain)
    logger.addHandler(handler)
    logger.setLevel(level)
    return handler


__all__ = [
    "JsonFormatter",
    "line_of",
    "line_of_probation",
    "line_of_report",
    "log_event",
    "log_to_stream",
    "logger",
]
