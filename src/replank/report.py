"""What a reload would do and what it did: frozen records that every client reads."""

from __future__ import annotations

import enum
from typing import Self

from replank.errors import ReloadFailed, ReplankError
from replank.report_state import BadRecordReport, ReportRecord, StateCost


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
    SUPERSEDED = "superseded"
    """It never began: a newer request for its modules has taken its place."""


class PhaseOutcome(enum.StrEnum):
    """How one phase ended."""

    DONE = "done"
    FAILED = "failed"
    UNDONE = "undone"


class PhaseReport(ReportRecord, frozen=True, kw_only=True):
    """One phase of one reload."""

    name: Phase
    outcome: PhaseOutcome = PhaseOutcome.DONE
    seconds: float = 0.0
    """Time spent while calls waited (Prepare: while the old version served)."""
    window_seconds: float = 0.0
    """Time spent on the rehearsed part, while the old version served."""
    detail: str = ""


class ReplayDifference(ReportRecord, frozen=True, kw_only=True):
    """One place where a candidate answered otherwise than what serves."""

    call: str
    arguments: str
    place: str
    """Within the answer, as a path."""
    before: str
    after: str


class ReplayReport(ReportRecord, frozen=True, kw_only=True):
    """What became of the recent queries that a candidate was asked."""

    asked: int = 0
    same: int = 0
    differed: int = 0
    expected: int = 0
    """Answers that differ, of calls that were declared to change."""
    noisy: int = 0
    """Queries that the old version itself answered in two ways."""
    not_asked: int = 0
    """Queries for which there was no time."""
    differences: tuple[ReplayDifference, ...] = ()


class ModuleReport(ReportRecord, frozen=True, kw_only=True):
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
    tests_passed: int = 0
    """How many of the candidate's own tests passed before it was loaded."""
    tests_skipped: int = 0
    type_checker: str | None = None
    """What found no error in the candidate; None when no type checker was asked."""
    replay: ReplayReport | None = None
    """Recent queries, asked again of both versions."""
    signer: str | None = None
    """Name of the key that signed the candidate; None when no signature is asked for."""
    schema_changes: tuple[str, ...] = ()
    """One line for each difference of the two schemas."""
    contract_changes: tuple[str, ...] = ()
    """One line for each difference of what the two versions offer."""
    steps: tuple[str, ...] = ()
    """The migration path, one line for each step."""
    quarantined: int = 0
    """Records that did not migrate and were set aside: `replank state show NAME --quarantined`."""
    defaulted: int = 0
    """Records of which a field did not migrate and got its default."""
    bad_records: tuple[BadRecordReport, ...] = ()
    """The first ones of both."""
    predicted: StateCost | None = None
    """What the plan expects; the pause by what was measured in the window."""
    measured: StateCost | None = None
    """What it took."""


class ErrorReport(ReportRecord, frozen=True, kw_only=True):
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


class Certificate(ReportRecord, frozen=True, kw_only=True):
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


class CallReport(ReportRecord, frozen=True, kw_only=True):
    """One call of a version on probation, beside the same call of the version before."""

    module: str
    call: str
    calls_before: int = 0
    """How many calls were looked at, not how many there were."""
    calls_after: int = 0
    errors_before: int = 0
    errors_after: int = 0
    median_before_s: float = 0.0
    median_after_s: float = 0.0
    tripped: str | None = None
    """What is wrong with it, with numbers."""
    slower: str | None = None
    """How much slower it is, with numbers; it trips when that lasts."""
    unjudged: str | None = None
    """Why nothing can be said about it yet; None when there were calls enough."""


class ProbationReport(ReportRecord, frozen=True, kw_only=True):
    """How a version does, or did, in the time after its commit."""

    id: str
    """The reload that committed it."""
    modules: tuple[str, ...]
    state: str
    """ "canary" (before the commit), "watching", "paused", "passed", "promoted" (by hand),
    "tripped", "returned" (by hand) or "ended" (by the next reload or a stop)."""
    left_s: float = 0.0
    share: float = 0.0
    """Share of the calls that a canary gets, from 0 to 1; 0 after the commit."""
    tripped: str | None = None
    """What made it go back, with numbers."""
    checks_passed: int = 0
    """How often a check was asked and passed."""
    calls: tuple[CallReport, ...] = ()
    growing: tuple[str, ...] = ()
    """What grows with the calls and is no declared state: a line each, with its name and size."""
    memory_before_bytes: int = 0
    """Memory of the whole process at the commit; 0 where the system does not say."""
    memory_bytes: int = 0
    """The same at the end, or now. It is shared by all modules, so it is told and never judged."""

    @property
    def unjudged(self) -> tuple[CallReport, ...]:
        """The calls about which nothing can be said."""
        return tuple(one for one in self.calls if one.unjudged is not None)


class ReloadReport(ReportRecord, frozen=True, kw_only=True):
    """The outcome of one reload of one or more modules."""

    id: str
    outcome: Outcome
    modules: tuple[ModuleReport, ...]
    phases: tuple[PhaseReport, ...] = ()
    reason: str = "call"
    cause: str = ""
    """What made it necessary, in words: for a rollback by a probation, what tripped."""
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
    probation: ProbationReport | None = None
    """How the time after the commit went; in the history, once that is over."""
    superseded_by: str = ""
    """Id of the reload that has taken the place of this one."""

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


class ModulePlan(ReportRecord, frozen=True, kw_only=True):
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
    predicted: StateCost | None = None
    """What the state's part of the reload would take, by a sample of the real state."""
    measured: StateCost | None = None
    """What the rehearsal of this plan took."""
    notes: tuple[str, ...] = ()
    """What else an operator should know of the state, one sentence each."""
    quarantined: int = 0
    """Records that would be set aside."""
    defaulted: int = 0
    """Records of which a field would get its default."""
    bad_records: tuple[BadRecordReport, ...] = ()
    """The first ones of both."""
    unchanged: bool = False
    """Whether the candidate is byte for byte what serves."""


class BadRecord(ReportRecord, frozen=True, kw_only=True):
    """A record that the reload could not take over."""

    module: str
    key: str
    field: str
    """Where in the state: `accounts['ada'].cents`."""
    message: str
    step: str = ""
    """The step that failed; "" when the value itself does not fit its new type."""
    old: str = ""
    """The old value."""
    new: str = ""
    """What was made of it, when that is what is wrong."""


class RehearsalReport(ReportRecord, frozen=True, kw_only=True):
    """What a rehearsal on a forked copy of the real state has found."""

    records: int = 0
    """Those that were migrated and checked."""
    bad: int = 0
    """How many could not be."""
    bad_records: tuple[BadRecord, ...] = ()
    """The first of them."""
    checks: tuple[str, ...] = ()
    """The checks and invariants that passed."""
    fork_s: float = 0.0
    """How long the host stood still for the copy of the process: the only pause."""
    window_s: float = 0.0
    """What the window took without traffic."""
    pause_s: float = 0.0
    """What calls would wait, beside the drain."""
    memory_bytes: int = 0
    """What the reload adds to the process's memory."""


class Plan(ReportRecord, frozen=True, kw_only=True):
    """What a reload would do; nothing was changed to find out."""

    modules: tuple[ModulePlan, ...]
    accepted: bool = True
    error: ErrorReport | None = None
    warnings: tuple[str, ...] = ()
    seconds: float = 0.0
    rehearsal: RehearsalReport | None = None
    """What a forked copy of the host found; None when none was asked for."""


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
