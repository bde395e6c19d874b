"""Every control route, as a table: the routes are made from it, and so is the OpenAPI document."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from replank.control import wire
from replank.control.schedule_routes import (
    CancelRequest,
    PauseRequest,
    Schedule,
    ScheduleRequest,
)
from replank.instrumentation.status import HostStatus
from replank.live_config import ConfigReport
from replank.report import Plan, ProbationReport, ReloadReport
from replank.report_state import ReadmissionReport
from replank.scheduling.entries import Scheduled
from replank.state.exchange import ImportReport, StateReport
from replank.state.quarantine import Quarantined

PREFIX: Final = "/control/"
HISTORY_LIMIT_MAX: Final = 1_000
JSON: Final = "application/json"
LINES: Final = "application/x-ndjson"


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a query, or a header."""

    name: str
    schema: dict[str, Any]
    text: str
    where: str = "query"
    required: bool = False


@dataclass(frozen=True, slots=True)
class Operation:
    """One route: what it takes, and what it answers.

    Attributes:
        path: Below the prefix.
        handler: Name of the method of `ControlRoutes`, without its underscore.
        answers: By media type, the record that is answered, or a plain schema.
        body: The record that is read from the body.
        status: Of an answer that is no error.
        refusals: Statuses of its own, beside those that every route has.
    """

    path: str
    method: str
    handler: str
    summary: str
    answers: dict[str, Any]
    body: Any = None
    parameters: tuple[Parameter, ...] = ()
    status: int = 200
    refusals: tuple[int, ...] = ()


_MODULE: Final = Parameter("module", {"type": "string"}, "Name of a module.")
_EVENT: Final = {
    "type": "object",
    "properties": {name: {"type": "string"} for name in ("id", "event", "data")},
    "required": ["event", "data"],
}
_BINARY: Final = {"type": "string", "format": "binary"}

_MODULE_PARAMETERS: Final = (
    Parameter("module", {"type": "string"}, "Name of the module.", required=True),
)
OPERATIONS: Final = (
    Operation(
        "version", "GET", "version", "Who answers, and in which protocol.", {JSON: wire.Hello}
    ),
    Operation("status", "GET", "status", "What serves now.", {JSON: HostStatus}),
    Operation(
        "history",
        "GET",
        "history",
        "The last reloads, newest first.",
        {JSON: tuple[ReloadReport, ...]},
        parameters=(
            Parameter(
                "limit",
                {"type": "integer", "minimum": 1, "maximum": HISTORY_LIMIT_MAX, "default": 20},
                "How many at most.",
            ),
            _MODULE,
        ),
    ),
    Operation(
        "events",
        "GET",
        "events",
        "What happens, as server-sent events.",
        {"text/event-stream": _EVENT},
        parameters=(
            Parameter(
                "follow",
                {"type": "string", "enum": ["0", "1"], "default": "1"},
                "0: end after what is kept.",
            ),
            Parameter(
                "last",
                {"type": "integer", "minimum": 0, "maximum": wire.EVENTS_LAST_MAX},
                "Begin with so many of those that are kept.",
            ),
            Parameter("types", {"type": "string"}, "Only these, separated by commas."),
            Parameter("Last-Event-ID", {"type": "string"}, "Go on after this one.", "header"),
        ),
        refusals=(429,),
    ),
    Operation(
        "probation",
        "GET",
        "probation",
        "How a version on probation does, or how it went.",
        {JSON: ProbationReport},
        parameters=(_MODULE,),
    ),
    Operation(
        "probation",
        "POST",
        "decide",
        "End a probation for good, let it stand still, or go on.",
        {JSON: ProbationReport},
        wire.ProbationRequest,
    ),
    Operation(
        "plan",
        "POST",
        "plan",
        "What a reload would do; nothing changes.",
        {JSON: Plan},
        wire.PlanRequest,
    ),
    Operation(
        "reload",
        "POST",
        "reload",
        "Reload modules, all or none; a failed reload is reported, with status 200.",
        {JSON: ReloadReport, LINES: wire.Line},
        wire.ReloadRequest,
        refusals=(409,),
    ),
    Operation(
        "rollback",
        "POST",
        "rollback",
        "Go back to the version before, keeping the writes since.",
        {JSON: ReloadReport, LINES: wire.Line},
        wire.RollbackRequest,
        refusals=(409,),
    ),
    Operation(
        "abort",
        "POST",
        "abort",
        "End a probation by going back, keeping the writes since.",
        {JSON: ReloadReport, LINES: wire.Line},
        wire.AbortRequest,
        refusals=(409,),
    ),
    Operation(
        "stop",
        "POST",
        "stop",
        "Drain and stop the host.",
        {JSON: dict[str, bool]},
        dict[str, Any],
        status=202,
        refusals=(409,),
    ),
    Operation("schedule", "GET", "scheduled", "What waits for its time.", {JSON: Schedule}),
    Operation(
        "schedule",
        "POST",
        "schedule",
        "Have modules reloaded at their time.",
        {JSON: Scheduled},
        ScheduleRequest,
        status=201,
        refusals=(409,),
    ),
    Operation(
        "schedule/cancel",
        "POST",
        "cancel",
        "Forget a reload that waits.",
        {JSON: Scheduled},
        CancelRequest,
        refusals=(409,),
    ),
    Operation(
        "schedule/pause",
        "POST",
        "pause",
        "Let reloads wait until they are resumed.",
        {JSON: Schedule},
        PauseRequest,
    ),
    Operation(
        "schedule/resume",
        "POST",
        "resume",
        "Let paused reloads go on.",
        {JSON: Schedule},
        PauseRequest,
    ),
    Operation(
        "config/reload",
        "POST",
        "reload_config",
        "Read the configuration again.",
        {JSON: ConfigReport},
        dict[str, Any],
        refusals=(409,),
    ),
    Operation(
        "state",
        "GET",
        "describe_state",
        "Which fields a module's state has.",
        {JSON: StateReport},
        parameters=_MODULE_PARAMETERS,
    ),
    Operation(
        "state/export",
        "POST",
        "export_state",
        "A module's state as JSON, all of one moment.",
        {JSON: {"type": "object"}},
        wire.StateRequest,
    ),
    Operation(
        "state/sample",
        "POST",
        "sample_state",
        "A copy of a module's state in the format of snapshots; no call waits.",
        {"application/octet-stream": _BINARY},
        wire.StateRequest,
    ),
    Operation(
        "state/import",
        "POST",
        "import_state",
        "Replace a module's state by an export, all of it or nothing.",
        {JSON: ImportReport},
        wire.ImportRequest,
    ),
    Operation(
        "state/quarantined",
        "GET",
        "quarantined",
        "List the records of a module that did not migrate and are kept.",
        {JSON: tuple[Quarantined, ...]},
        parameters=_MODULE_PARAMETERS,
    ),
    Operation(
        "state/take-back",
        "POST",
        "take_back",
        "Migrate records that were set aside again and put them in, or forget them.",
        {JSON: ReadmissionReport},
        wire.TakeBackRequest,
    ),
    Operation("openapi.json", "GET", "openapi", "This description.", {JSON: {"type": "object"}}),
)

__all__ = ["HISTORY_LIMIT_MAX", "JSON", "LINES", "OPERATIONS", "PREFIX", "Operation", "Parameter"]
