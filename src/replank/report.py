"""What a reload would do and what it did: frozen records that every client reads."""

from __future__ import annotations

import enum
from typing import Any, Self

import msgspec

from replank.errors import ReloadFailed, ReplankError


class Phase(enum.StrEnum):
    """The eight phases, in order."""

    PREPARE = "prepare"
    DRAIN = "drain"
    SNAPSHOT = "snapshot"
    MIGRATE = "migrate"
    SWAP = "swap"
    RESTORE = "restore"
    VERIFY = "verify"
    COMMIT = "commit"


class Outcome(enum.StrEnum):
    """How a reload ended."""

    COMMITTED = "committed"
    ROLLED_BACK = "rolled_back"
    REJECTED = "rejected"


class PhaseOutcome(enum.StrEnum):
    """How one phase ended."""

    DONE = "done"
    FAILED = "failed"
    UNDONE = "undone"


class _Record(msgspec.Struct, frozen=True, kw_only=True):
    def to_dict(self) -> dict[str, Any]:
        """Return the record as plain JSON-able values."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return plain

    def to_json(self) -> str:
        """Return the record as one line of JSON."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read a record that `to_json` wrote."""
        return msgspec.json.decode(text, type=cls)


class PhaseReport(_Record, frozen=True, kw_only=True):
    """One phase of one reload."""

    name: Phase
    outcome: PhaseOutcome = PhaseOutcome.DONE
    seconds: float = 0.0
    """Time spent while calls waited (Prepare: while the old version served)."""
    window_seconds: float = 0.0
    """Time spent on the rehearsed part, while the old version served."""
    detail: str = ""


class ModuleReport(_Record, frozen=True, kw_only=True):
    """What happened to one module in a reload; `*_to` is the candidate, committed or not."""

    name: str
    version_from: str = ""
    version_to: str = ""
    digest_from: str = ""
    digest_to: str = ""
    generation_from: int = 0
    generation_to: int = 0
    schema_from: int = 0
    schema_to: int = 0
    records_migrated: int = 0
    mode: str = "eager"


class ErrorReport(_Record, frozen=True, kw_only=True):
    """Why a reload did not commit."""

    phase: str
    module: str | None
    kind: str
    message: str
    location: str | None = None
    traceback: str = ""
    """Traceback of the candidate, with its own file names and source lines."""
    found: str | None = None
    expected: str | None = None
    serves: str | None = None
    do: str | None = None
    undo_errors: tuple[str, ...] = ()
    """What failed while taking the reload back; never replaces the first error."""


class Certificate(_Record, frozen=True, kw_only=True):
    """What was proven before the gates opened."""

    records_migrated: int = 0
    checks_run: int = 0
    checks_passed: int = 0
    state_digest_before: str = ""
    state_digest_after: str = ""
    messages_in: int = 0
    messages_answered: int = 0
    messages_queued: int = 0
    longest_wait_s: float = 0.0
    longest_call_before_s: float = 0.0


class ReloadReport(_Record, frozen=True, kw_only=True):
    """The outcome of one reload of one or more modules."""

    id: str
    outcome: Outcome
    modules: tuple[ModuleReport, ...]
    phases: tuple[PhaseReport, ...] = ()
    reason: str = "call"
    started_at: str = ""
    pause_s: float = 0.0
    """Longest time that a call waited because of this reload."""
    closed_s: float = 0.0
    """Longest time that a gate was closed."""
    total_s: float = 0.0
    calls_held: int = 0
    messages_held: int = 0
    streams_carried: int = 0
    """Open streams that go on in the new version."""
    streams_ended: int = 0
    """Open streams that were ended with an error."""
    streams_finishing: int = 0
    """Open streams that go on in the old version, which writes no more."""
    error: ErrorReport | None = None
    warnings: tuple[str, ...] = ()
    certificate: Certificate | None = None

    @property
    def committed(self) -> bool:
        """Whether the new versions serve."""
        return self.outcome is Outcome.COMMITTED

    def raise_for_outcome(self) -> Self:
        """Return the report itself when the reload committed.

        Raises:
            ReloadFailed: The reload was rejected or rolled back.
        """
        if self.error is None:
            return self
        raise ReloadFailed(
            f"the reload was {self.outcome.replace('_', ' ')}: {self.error.message}",
            module=self.error.module,
            phase=self.error.phase,
            found=self.error.found,
            expected=self.error.expected,
            serves=self.error.serves,
            do=self.error.do,
            location=self.error.location,
        )


class ModulePlan(_Record, frozen=True, kw_only=True):
    """What a reload would do to one module."""

    name: str
    version_from: str
    version_to: str
    digest_from: str
    digest_to: str
    generation_from: int
    schema_from: int
    schema_to: int
    schema_changes: tuple[str, ...] = ()
    """One line for each difference of the two schemas."""
    steps: tuple[str, ...] = ()
    """The migration path, one line for each step."""
    contract_changes: tuple[str, ...] = ()
    carried: tuple[str, ...] = ()
    """State that is handed over as it is."""
    snapshotted: tuple[str, ...] = ()
    """State that is copied and, if need be, migrated."""
    mode: str = "eager"
    records: int = 0
    state_bytes: int = 0
    predicted_pause_s: float = 0.0
    downgrade: bool = True
    """Whether a rollback after commit can keep new writes."""
    unchanged: bool = False
    """Whether the candidate is byte for byte what serves."""


class Plan(_Record, frozen=True, kw_only=True):
    """What a reload would do; nothing was changed to find out."""

    modules: tuple[ModulePlan, ...]
    accepted: bool = True
    error: ErrorReport | None = None
    warnings: tuple[str, ...] = ()
    seconds: float = 0.0


def describe(error: BaseException, *, phase: str, module: str | None, serves: str) -> ErrorReport:
    """Turn any exception into the record that operators read.

    Args:
        error: What was raised.
        phase: The phase in which it was raised, when the error does not say so itself.
        module: The module concerned, when the error does not say so itself.
        serves: What serves now.
    """
    if isinstance(error, ReplankError):
        return ErrorReport(
            phase=error.phase or phase,
            module=error.module or module,
            kind=error.kind,
            message=error.what,
            location=error.location,
            traceback=error.candidate_traceback,
            found=error.found,
            expected=error.expected,
            serves=error.serves or serves,
            do=error.do,
        )
    return ErrorReport(
        phase=phase,
        module=module,
        kind=type(error).__name__,
        message=str(error) or type(error).__name__,
        serves=serves,
    )
