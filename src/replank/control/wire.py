"""What travels between a host and its clients, and how an error becomes an answer.

Every answer is JSON. A reload that is followed live is one JSON object a line: the events, then one
`Report` (or one `Failure`). The protocol number is raised when an old client would misread that.
"""

from __future__ import annotations

import re
from typing import Any, Final, Literal, get_args

import msgspec

from replank import errors
from replank.config import WhenBusy
from replank.coordinator.choices import AS_CONFIGURED, Choices
from replank.instrumentation import events
from replank.report import ReloadReport
from replank.scheduling.entries import Priority
from replank.table import Table

PROTOCOL: Final = 1


class Facts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An error as JSON: the facts of a `ReplankError`, or kind and text of a module's own."""

    error: str
    kind: str
    module: str | None = None
    phase: str | None = None
    found: str | None = None
    expected: str | None = None
    serves: str | None = None
    do: str | None = None
    location: str | None = None
    path: str | None = None
    """Of wrong arguments: which one, as a path such as `$.cents`."""
    reason: str | None = None
    """Of wrong arguments: what is wrong with it."""


class Hello(msgspec.Struct, frozen=True, kw_only=True):
    """The handshake: who answers, and in which protocol."""

    protocol: int
    version: str
    pid: int


class ReloadRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /control/reload`."""

    modules: list[str] | dict[str, str | None]
    """Names, or names with a source other than the configured one (null: the configured one)."""
    reason: str = "http"
    stream: bool = False
    """Whether to answer with events as they happen."""
    allow_breaking: list[str] = []
    """Calls that may change although other modules use them: `deposit`, `ledger.deposit`, `*`."""
    choices: Choices = AS_CONFIGURED
    """What comes before the configuration this once."""
    expect_changes: list[str] = []
    """Queries whose replayed answers may change."""
    expect: dict[str, str] = {}
    """By module, the digest that its source must have."""
    priority: Priority = "normal"
    """"critical" passes over windows, quiet hours, limits and a pause of the schedule."""
    quiet_wait_s: float | None = None
    """Seconds to wait for quiet traffic at most."""
    retries: int | None = None
    """How often to try again when busy calls or the disk stopped it."""
    when_busy: WhenBusy | None = None
    """What becomes of it while its modules are being reloaded; null: as configured."""


class RollbackRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /control/rollback`."""

    module: str
    stream: bool = False


class ProbationRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /control/probation`."""

    module: str
    action: Literal["promote", "pause", "resume"]


class AbortRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /control/abort`."""

    module: str
    stream: bool = False


class PlanRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /control/plan`."""

    modules: list[str] | dict[str, str | None]
    allow_breaking: list[str] = []
    """As for a reload."""
    choices: Choices = AS_CONFIGURED
    expect_changes: list[str] = []
    rehearse: bool = False
    """Whether a forked copy of the host tries it on the real state."""


class TakeBackRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /control/state/take-back`."""

    module: str
    keys: list[str] = []
    """Only these; all when empty."""
    discard: bool = False
    """Whether to forget them instead."""


class StateRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /control/state/export` and `/control/state/sample`."""

    module: str


class ImportRequest(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """The body of `POST /control/state/import`."""

    module: str
    path: str | None = None
    """A file of the host's machine; over the Unix socket only."""
    document: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    """What an export answered."""


class Report(msgspec.Struct, frozen=True, tag_field="type", tag=True):
    """The last line of a stream: the reload ended, one way or the other."""

    report: ReloadReport


class Failure(msgspec.Struct, frozen=True, tag_field="type", tag=True):
    """The last line of a stream that ended with an error of ours."""

    status: int
    facts: Facts


class Resumed(msgspec.Struct, frozen=True, tag_field="type", tag=True, kw_only=True):
    """A line between two items of a stream: it goes on in another version of its module."""

    module: str
    call: str
    came_from: str
    goes_on_in: str


class Gap(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag=True):
    """To a reader of events that came back: what it has missed is no longer kept."""

    missed: int | None = None
    """How many; None when the host has been started again since."""
    do: str = "read the history for the reloads among them: /control/history"


class Overtaken(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag=True):
    """The last word to a reader of events that was too slow."""

    missed: int
    do: str


class Closed(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag=True):
    """The last word to a reader of events when nothing more will come."""

    reason: str


FeedItem = events.AnyEvent | Gap | Overtaken | Closed
"""What the feed of events can carry."""

EVENT_TYPES: Final = frozenset(kind.__name__ for kind in get_args(events.AnyEvent))
EVENTS_LAST_MAX: Final = 1_000_000

Line = (
    events.PhaseStarted
    | events.PhaseEnded
    | events.ReloadDeferred
    | events.ReloadStarted
    | events.ReloadEnded
    | Report
    | Failure
)
"""What one line of a stream can be."""


_STATUS: Final[tuple[tuple[type[errors.ReplankError], int], ...]] = (
    # The first that fits; subclasses before their bases.
    (errors.UnknownModule, 404),
    (errors.UnknownCall, 404),
    (errors.WrongArguments, 422),
    (errors.SelfReload, 409),
    (errors.UsageError, 400),
    # These may have done something before they ended: a client must look before it repeats them.
    (errors.CallAborted, 504),
    (errors.ModuleCrashed, 504),
    (errors.StateSealed, 409),
    (errors.TrafficError, 503),
    (errors.PhaseTimeout, 503),  # calls in flight did not end in time: try again
    (errors.ModuleError, 422),  # what was sent does not fit the module
)


def status_of(error: BaseException) -> int:
    """Return the HTTP status that an error is answered with.

    Args:
        error: What was raised.
    """
    for kind, status in _STATUS:
        if isinstance(error, kind):
            return status
    return 500


def facts_of(error: BaseException, *, public: bool) -> Facts:
    """Return what a client may read about an error.

    Args:
        error: What was raised: one of ours, or a module's own.
        public: Whether the client may be anyone on this machine: no paths of the host then.
    """
    if isinstance(error, errors.ReplankError):
        texts = {
            name: getattr(error, name)
            for name in ("module", "phase", "found", "expected", "serves", "do", "location")
        }
        facts = Facts(
            error=error.what,
            kind=error.kind,
            **texts,
            path=getattr(error, "path", None),
            reason=getattr(error, "reason", None),
        )
    else:
        # An OSError's text ends in the file's name, which is nobody's business.
        text = error.strerror if isinstance(error, OSError) else str(error)
        facts = Facts(error=text or type(error).__name__, kind=type(error).__name__)
    return _without_paths(facts) if public else facts


_ABSOLUTE_PATH: Final = re.compile(r"(?<![\w/.:$])(?:/[\w.@+~-]+){2,}")


def _without_paths(facts: Facts) -> Facts:
    """Keep only the last part of every absolute path."""
    changes: dict[str, Any] = {
        name: _ABSOLUTE_PATH.sub(lambda match: match[0].rpartition("/")[2], value)
        for name in facts.__struct_fields__
        if isinstance(value := getattr(facts, name), str)
    }
    return msgspec.structs.replace(facts, **changes)


_BY_KIND: Final = {
    name: kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, errors.ReplankError)
}
_BY_KIND["Refused"] = errors.UsageError


class CallFailed(errors.ModuleError):
    """A call ended with an exception of the module's own; `kind` is that exception's class.

    Args:
        facts: What the host said.
        module: Name of the module called.
    """

    def __init__(self, facts: Facts, module: str | None = None) -> None:
        super().__init__(f"{facts.kind}: {facts.error}", module=module)
        self.raised = facts.kind

    @property
    def kind(self) -> str:
        """The class name of the module's own exception."""
        return self.raised


def error_of(facts: Facts, module: str | None = None) -> errors.ReplankError:
    """Return the error that a host answered with, for its client to raise.

    Args:
        facts: What the host said.
        module: The module that was called, if any.
    """
    kind = _BY_KIND.get(facts.kind)
    if kind is None:
        return CallFailed(facts, module)
    return kind(
        facts.error,
        module=facts.module,
        phase=facts.phase,
        found=facts.found,
        expected=facts.expected,
        serves=facts.serves,
        do=facts.do,
        location=facts.location,
    )


def _plain(value: Any) -> Any:
    """Turn into JSON what msgspec does not know by itself."""
    if isinstance(value, complex):
        return [value.real, value.imag]
    if hasattr(value, "model_dump"):  # pydantic, without importing it
        return value.model_dump(mode="json")
    if hasattr(value, "_asdict"):
        return value._asdict()
    if hasattr(value, "__iter__") and hasattr(value, "__len__"):
        return list(value)
    raise TypeError(f"a {type(value).__name__} has no JSON form")


_encoder: Final = msgspec.json.Encoder(enc_hook=_plain)


def encode(value: Any) -> bytes:
    """Return a call's result as JSON.

    Args:
        value: Any JSON-like value, record, dataclass, date, Decimal, ...

    Raises:
        TypeError: It holds something without a JSON form.
        ValueError: It cannot be written, for example an int that is too large.
        RecursionError: It holds itself.
    """
    if isinstance(value, Table):
        # The encoder would read the storage of an open window, without what was written since.
        value = dict(value.items())
    return _encoder.encode(value)


def line(value: msgspec.Struct) -> bytes:
    """Return a record as one line of a stream.

    Args:
        value: An event, a `Report` or a `Failure`.
    """
    return msgspec.json.encode(value) + b"\n"


StreamKind = Literal["reload", "rollback"]
"""The control routes that can answer with a stream."""

__all__ = [
    "EVENTS_LAST_MAX",
    "EVENT_TYPES",
    "PROTOCOL",
    "CallFailed",
    "Closed",
    "Facts",
    "Failure",
    "FeedItem",
    "Gap",
    "Hello",
    "ImportRequest",
    "Line",
    "Overtaken",
    "PlanRequest",
    "ReloadRequest",
    "Report",
    "Resumed",
    "RollbackRequest",
    "StateRequest",
    "StreamKind",
    "encode",
    "error_of",
    "facts_of",
    "line",
    "status_of",
]
