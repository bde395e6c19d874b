"""What must hold after every failed reload, one function each; all return what they found wrong."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from replank.coordinator.phases import SPECS, Where
from replank.report import Outcome, Phase, PhaseOutcome, ReloadReport
from tests.faults import hooks
from tests.faults.rig import Interpreter, Rig, busy_workers, threads_at_rest


@dataclass(frozen=True)
class Expected:
    """How a trial must end."""

    phase: Phase
    where: Where
    kinds: frozenset[str] = frozenset()
    """Names of the error's class; any when empty."""
    outcome: Outcome | None = None
    """None: as the phase table says."""
    told: bool = True
    """Whether the history must have it: not when the journal itself could not be written."""

    @property
    def ends(self) -> Outcome:
        return self.outcome or SPECS[self.phase].failure(self.where)


@dataclass
class Trial:
    """One reload that has ended, and what it was done to."""

    rig: Rig
    report: ReloadReport
    expected: Expected

    @property
    def label(self) -> str:
        """The version that must serve."""
        return "2" if self.expected.ends is Outcome.COMMITTED else "1"


async def outcome_is_as_the_phase_table_says(trial: Trial) -> Iterator[str]:
    report, expected = trial.report, trial.expected
    found = []
    if report.outcome is not expected.ends:
        found.append(f"outcome {report.outcome}, expected {expected.ends}: {report.error}")
    error = report.error
    if report.outcome is Outcome.COMMITTED:
        return iter(found)
    if error is None:
        return iter([*found, "there is no error in the report"])
    if error.phase != expected.phase:
        found.append(f"the error names {error.phase}, expected {expected.phase}: {error}")
    if expected.kinds and error.kind not in expected.kinds:
        found.append(f"the error is a {error.kind}, expected one of {set(expected.kinds)}: {error}")
    if error.undo_errors:
        found.append(f"undo failed: {error.undo_errors}")
    if not error.serves or any(
        f"{n} 1 (generation 1)" not in error.serves for n in trial.rig.names
    ):
        found.append(f"the error does not say what serves: {error.serves}")
    failed = [p.name for p in report.phases if p.outcome is PhaseOutcome.FAILED]
    if failed not in ([expected.phase], []):
        found.append(f"these phases failed: {failed}")
    waited = report.outcome is Outcome.ROLLED_BACK
    if not waited and (report.pause_s or report.calls_held):
        found.append(f"calls waited, but it was {report.outcome}")
    return iter(found)


async def what_serves_is_whole(trial: Trial) -> Iterator[str]:
    """Old version with old state and every write since, or new complete; never a mixture."""
    rig = trial.rig
    found = []
    for name in rig.names:
        state = await rig.host[name].read()
        if state["label"] != trial.label:
            found.append(f"{name} is served by {state['label']}, expected {trial.label}")
        if state["amount"] != len(state["log"]):
            found.append(f"{name}: {state['amount']} != {len(state['log'])} calls")
    mixed = sorted({label for label in rig.account.labels if "+" in label})
    if mixed:
        found.append(f"calls saw two versions: {mixed}")
    return iter(found)


async def every_call_is_answered_once(trial: Trial) -> Iterator[str]:
    """Compare the callers' account with the modules': nothing lost, doubled, or out of order."""
    rig = trial.rig
    found = [f"a caller got an error: {error}" for error in rig.account.errors]
    for name in rig.names:
        log = [tuple(entry) for entry in (await rig.host[name].read())["log"]]
        known = rig.account.answered.get(name, []) + rig.account.sent.get(name, [])
        found += _compared(name, log, known)
        executed = rig.account.gave_up & set(log)
        if executed:
            found.append(f"{name} executed calls whose callers had given up: {sorted(executed)}")
    return iter(found)


def _compared(name: str, log: list[tuple[str, int]], known: list[tuple[str, int]]) -> list[str]:
    found = []
    if len(set(log)) != len(log):
        found.append(f"{name} executed {len(log) - len(set(log))} calls twice")
    if lost := set(known) - set(log):
        found.append(f"{name} lost {len(lost)}: {sorted(lost)[:3]}")
    if more := set(log) - set(known):
        found.append(f"{name} executed {len(more)} that nobody knows: {sorted(more)[:3]}")
    for caller in {one for one, _ in log}:
        numbers = [number for who, number in log if who == caller]
        if numbers != sorted(numbers):
            found.append(f"{name} executed the calls of {caller} out of order")
    return found


async def gates_are_open_and_nobody_waits(trial: Trial) -> Iterator[str]:
    found = []
    for module in trial.rig.host.status().modules:
        if module.gate != "open":
            found.append(f"the gate of {module.name} is {module.gate}")
        if module.waiting or module.in_flight:
            found.append(f"{module.name}: {module.waiting} wait, {module.in_flight} in flight")
    if trial.rig.host._scheduler.running or trial.rig.host._scheduler.waiting:
        found.append("the scheduler still runs something")
    return iter(found)


async def the_interpreter_is_as_before(trial: Trial) -> Iterator[str]:
    """No leaked task, thread or listener; collector and switch interval as they were."""
    await threads_at_rest()
    before, now = trial.rig.before, Interpreter.now(trial.rig.host)
    found = [
        f"{name}: {getattr(before, name)} before, {getattr(now, name)} now"
        for name in Interpreter.__dataclass_fields__
        if getattr(before, name) != getattr(now, name)
    ]
    busy = busy_workers()
    if busy:
        found.append(f"worker threads are still at work: {busy}")
    return iter(found)


async def the_candidate_is_gone(trial: Trial) -> Iterator[str]:
    """Nothing of a generation that does not serve is loaded, started, or lies about half written."""
    rig = trial.rig
    serving = sorted(rig.host._routes.current(name).code.private_name for name in rig.names)
    loaded = sorted(
        name for name in list(sys.modules) if name.partition("@")[0] in rig.names and "@" in name
    )
    found = []
    if loaded != serving:
        found.append(f"loaded are {loaded}, serving {serving}")
    if hooks.started_and_not_stopped() != serving:
        found.append(f"started and not stopped: {hooks.started_and_not_stopped()}, not {serving}")
    litter = [str(path) for path in (rig.folder / "data").rglob(".*")]
    if litter:
        found.append(f"left on the disk: {litter}")
    return iter(found)


async def the_history_tells_it(trial: Trial) -> Iterator[str]:
    if not trial.expected.told:
        told = any("not written to the journal" in text for text in trial.report.warnings)
        return iter([] if told else ["the report does not say that the journal lacks it"])
    (last, *_) = await trial.rig.host.history(1)
    if last != trial.report:
        return iter([f"the history has {last}, not {trial.report}"])
    return iter([])


async def the_next_good_reload_commits(trial: Trial) -> Iterator[str]:
    rig = trial.rig
    rig.relax()
    rig.write("3", schema=2)
    report = await rig.reload()
    if report.outcome is not Outcome.COMMITTED:
        return iter([f"the next reload was {report.outcome}: {report.error}"])
    after = Trial(rig, report, Expected(Phase.COMMIT, "pause", outcome=Outcome.COMMITTED))
    found = []
    for name in rig.names:
        label = (await rig.host[name].read())["label"]
        if label != "3":
            found.append(f"after the next reload {name} is served by {label}")
    for checker in (
        every_call_is_answered_once,
        gates_are_open_and_nobody_waits,
        the_interpreter_is_as_before,
        the_candidate_is_gone,
        the_history_tells_it,
    ):
        found += [f"after the next reload: {one}" for one in await checker(after)]
    return iter(found)


Checker = Callable[[Trial], Awaitable[Iterator[str]]]

ALL: tuple[Checker, ...] = (
    outcome_is_as_the_phase_table_says,
    what_serves_is_whole,
    every_call_is_answered_once,
    gates_are_open_and_nobody_waits,
    the_interpreter_is_as_before,
    the_candidate_is_gone,
    the_history_tells_it,
    the_next_good_reload_commits,
)


async def problems(trial: Trial) -> list[str]:
    """Run all checkers; the last one reloads once more."""
    found: list[str] = []
    for checker in ALL:
        found += [f"{checker.__name__}: {one}" for one in await checker(trial)]
    return found


def litter(folder: Path) -> list[str]:
    """Return what lies in a data directory that no host needs."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob(".*"))


__all__ = ["ALL", "Expected", "Trial", "litter", "problems"]
