"""One transaction: what takes part, what each phase took, and how to take it all back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter

from replank.code.generation import Generation, KnownWay
from replank.code.probe import TestCounts
from replank.code.store import Version
from replank.coordinator.choices import AS_CONFIGURED, Choices
from replank.coordinator.phases import Course, Where
from replank.coordinator.slot import Slot, WayBack
from replank.errors import PhaseTimeout
from replank.instrumentation.events import Event, PhaseEnded, PhaseStarted
from replank.isolation.invariants import RemoteInvariants
from replank.report import (
    ModuleReport,
    Phase,
    PhaseOutcome,
    PhaseReport,
    ReplayReport,
)
from replank.schema import difference
from replank.state.bad_policy import REPORTED
from replank.state.holder import Transfer
from replank.traffic.drain import Drain, Drained
from replank.traffic.gate import Held
from replank.verification.contract import ContractChange
from replank.verification.effects import Effects
from replank.verification.invariants import Invariants

_FLUSH_AFTER_S = 0.05


@dataclass(eq=False, slots=True)
class Participant:
    """One module of a transaction, filled phase by phase."""

    slot: Slot
    source: Path | None
    """Where to read the candidate's source; None for an already stored version."""
    digest: str | None
    """The stored version to go to; None to read the source."""
    old: Generation
    version: Version | None = None
    candidate: Generation | None = None
    migration: KnownWay | None = None
    transfer: Transfer | None = None
    slow_checks: frozenset[str] = frozenset()
    """Checks that passed in the rehearsal and are too slow to be repeated in the pause."""
    expect: str | None = None
    """The digest that the candidate must have; None for any."""
    signer: str | None = None
    """Who has signed the candidate."""
    replay: ReplayReport | None = None
    """How recent queries were answered."""
    tests: TestCounts | None = None
    """How its own tests went; None when it has none."""
    type_checker: str | None = None
    """What found no error in it; None when no type checker was asked."""
    contract_changes: tuple[ContractChange, ...] = ()
    """What the candidate offers otherwise than what serves."""
    resume: tuple[str, ...] = ()
    """Spawned methods of the old version that the new one goes on with."""
    quarantined: str = ""
    """Where the records are kept that did not migrate; "" when all of them did."""
    invariants: Invariants | RemoteInvariants | None = None
    """What a reload must not change, and what the old version said of it."""

    @property
    def name(self) -> str:
        """The module's name."""
        return self.slot.name

    @property
    def new(self) -> Generation:
        """The candidate, which Prepare has loaded."""
        assert self.candidate is not None, f"{self.name} is not prepared"
        return self.candidate

    @property
    def path(self) -> KnownWay:
        """The way between the schemas, which Prepare has found."""
        assert self.migration is not None, f"{self.name} is not prepared"
        return self.migration

    @property
    def state(self) -> Transfer:
        """The way of its state, which Prepare has found."""
        assert self.transfer is not None, f"{self.name} is not prepared"
        return self.transfer

    def prepared(self) -> str:
        """Name the candidate and what it has passed, for the operator."""
        passed = [f"{self.tests.passed} tests passed"] if self.tests else []
        passed += [f"{self.type_checker} finds no error"] if self.type_checker else []
        told = f" ({', '.join(passed)})" if passed else ""
        return f"{self.name} {self.new.definition.label}{told}"

    def report(self) -> ModuleReport:
        """Return what happened to this module."""
        old, new = self.old, self.candidate
        bad = self.transfer.bad_records() if self.transfer else []
        meter = self.transfer.meter if self.transfer else None
        return ModuleReport(
            name=self.name,
            version_from=old.definition.label,
            version_to=new.definition.label if new else "",
            digest_from=old.version.digest,
            digest_to=self.version.digest if self.version else "",
            generation_from=old.number,
            generation_to=new.number if new else 0,
            schema_from=old.definition.schema.version,
            schema_to=new.definition.schema.version if new else 0,
            records_migrated=self.transfer.records if self.transfer else 0,
            mode=self.transfer.mode if self.transfer else "eager",
            predicted=meter.predicted if meter else None,
            measured=meter.measured if meter else None,
            quarantined=sum(not one.filled for one in bad),
            defaulted=sum(bool(one.filled) for one in bad),
            bad_records=tuple(one.report() for one in bad[:REPORTED]),
            replay=self.replay,
            signer=self.signer,
            tests_passed=self.tests.passed if self.tests else 0,
            tests_skipped=self.tests.skipped if self.tests else 0,
            type_checker=self.type_checker,
            schema_changes=self.schema_changes,
            contract_changes=tuple(map(str, self.contract_changes)),
            steps=tuple(self.migration.steps) if self.migration else (),
        )

    @property
    def schema_changes(self) -> tuple[str, ...]:
        """One line for each difference of the old and the new state."""
        if self.candidate is None:
            return ()
        found = difference(self.old.definition.schema, self.candidate.definition.schema)
        return tuple(change.text for change in found)


@dataclass(slots=True)
class _Times:
    pause: float = 0.0
    window: float = 0.0
    outcome: PhaseOutcome = PhaseOutcome.DONE
    detail: str = ""


@dataclass(eq=False, slots=True)
class Transaction:
    """One reload of one or more modules, all or none."""

    id: str
    participants: dict[str, Participant]
    reason: str
    publish: Callable[[Event], None]
    back: WayBack | None = None
    """The probation whose old generations are to serve again; None for a reload."""
    allow_breaking: frozenset[str] = frozenset()
    """Calls that may change under their users."""
    choices: Choices = AS_CONFIGURED
    started_at: str = field(default_factory=lambda: datetime.now(UTC).isoformat())
    started: float = field(default_factory=perf_counter)
    course: Course = field(default_factory=Course)
    phase: Phase = Phase.PREPARE
    drain: Drain | None = None
    drained: Drained | None = None
    moments: list[asyncio.Lock] = field(default_factory=list)
    """Held so that no save freezes a state while the gates are closed."""
    held: dict[str, Held] = field(default_factory=dict)
    messages_held: int = 0
    expect_changes: frozenset[str] = frozenset()
    """Queries whose replayed answers may change."""
    cause: str = ""
    """What made it necessary, for the report."""
    warnings: list[str] = field(default_factory=list)
    checks_passed: int = 0
    digests: tuple[str, str] = ("", "")
    effects: Effects = field(default_factory=Effects)
    """What the candidates did outside themselves."""
    undo_left: list[str] = field(default_factory=list)
    """What of it could not be taken back."""
    decided: bool = False
    """Whether the commit record is on the disk."""
    limit_s: float = 0.0
    """Seconds that the part of the phase that runs may take."""
    _times: dict[Phase, _Times] = field(default_factory=dict)
    _undo: list[tuple[str, Callable[[], Awaitable[None] | None]]] = field(default_factory=list)
    _buffer: list[Event] = field(default_factory=list)
    _flush: asyncio.TimerHandle | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The modules' names, in order."""
        return tuple(sorted(self.participants))

    def each(self) -> list[Participant]:
        """Return the participants in order of their names."""
        if len(self.participants) == 1:
            return list(self.participants.values())
        return [self.participants[name] for name in self.names]

    def goes_back(self, one: Participant) -> bool:
        """Whether a module goes to an older version, which may lack what the newer one has."""
        old, new = one.old.definition.schema, one.new.definition.schema
        if old.fingerprint == new.fingerprint:
            return False
        return self.reason == "rollback" or new.version < old.version

    async def run(
        self,
        phase: Phase,
        where: Where,
        work: Callable[[Transaction], Awaitable[str | None]],
        deadline_s: float,
    ) -> None:
        """Run one part of one phase, timed and told.

        Args:
            phase: Which phase.
            where: In the window or in the pause.
            work: What to do; returns a detail for the operator.
            deadline_s: Seconds that it may take.

        Raises:
            PhaseTimeout: The deadline passed.
            Exception: What the work raised.
        """
        self.course.enter(phase, where)
        self.phase = phase
        self._tell(PhaseStarted(id=self.id, phase=phase, where=where), where)
        times = self._times.setdefault(phase, _Times())
        began = perf_counter()
        try:
            async with asyncio.timeout(deadline_s) as deadline:
                times.detail = await work(self) or times.detail
        except BaseException as error:
            times.outcome = PhaseOutcome.FAILED
            if isinstance(error, TimeoutError) and deadline.expired():
                raise _overdue(phase, where, deadline_s) from error
            raise
        finally:
            took = perf_counter() - began
            if where == "window":
                times.window += took
            else:
                times.pause += took
            ended = PhaseEnded(
                id=self.id,
                phase=phase,
                where=where,
                outcome=times.outcome,
                seconds=took,
                detail=times.detail,
            )
            self._tell(ended, where)

    def on_undo(self, label: str, action: Callable[[], Awaitable[None] | None]) -> None:
        """Note how to take back what is about to be done.

        Args:
            label: What it takes back, for the operator.
            action: Does it; must work when only half was done.
        """
        self._undo.append((label, action))

    async def undo(self) -> tuple[str, ...]:
        """Take everything back in reverse order.

        Returns:
            What failed on the way, and what could not be taken back; each failure is told and
            the rest goes on.
        """
        failures = []
        while self._undo:
            label, action = self._undo.pop()
            try:
                result = action()
                if result is not None:
                    await result
            except GeneratorExit:
                raise
            except BaseException as error:  # whatever it is, the rest must be taken back too
                failures.append(f"{label}: {type(error).__name__}: {error}")
        for times in self._times.values():
            if times.outcome is PhaseOutcome.DONE:
                times.outcome = PhaseOutcome.UNDONE
        return (*failures, *self.undo_left)

    def release_tasks(self) -> None:
        """Let the tasks of the generations that served go on."""
        for one in self.each():
            one.slot.tasks.release()

    def release_moments(self) -> None:
        """Let the states be saved again."""
        while self.moments:
            self.moments.pop().release()

    def forget_undo(self) -> None:
        """Pass the point of no return: from here only forward."""
        self._undo.clear()
        self.effects.forget()
        self.decided = True

    def flush(self) -> None:
        """Tell the events of the pause, which were kept back so as not to lengthen it."""
        if self._flush is not None:
            self._flush.cancel()
            self._flush = None
        kept, self._buffer = self._buffer, []
        for event in kept:
            self.publish(event)

    def phase_reports(self) -> tuple[PhaseReport, ...]:
        """Return what each phase took, in the order of the table."""
        return tuple(
            PhaseReport(
                name=phase,
                outcome=times.outcome,
                seconds=times.window if phase is Phase.PREPARE else times.pause,
                window_seconds=0.0 if phase is Phase.PREPARE else times.window,
                detail=times.detail,
            )
            for phase in Phase
            if (times := self._times.get(phase)) is not None
        )

    def _tell(self, event: Event, where: Where) -> None:
        if self.reason == "plan":
            return  # nothing is reloaded, so nobody is told of phases of a reload
        if where == "window":
            self.publish(event)
            return
        self._buffer.append(event)
        if self._flush is None:
            self._flush = asyncio.get_running_loop().call_later(_FLUSH_AFTER_S, self.flush)


def _overdue(phase: Phase, where: Where, deadline_s: float) -> PhaseTimeout:
    return PhaseTimeout(
        f"{phase} did not end within {deadline_s:g} s",
        phase=phase,
        found=f"still at work in the {where}",
        expected=f"an end within {phase}_timeout_s = {deadline_s:g}",
        do=f"make the candidate faster, or raise reload.{phase}_timeout_s",
    )
