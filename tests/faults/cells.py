"""The matrix: phase x part x fault x number of modules, generated from the phase table."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec

import replank
from replank.coordinator import coordinator as coordinator_room
from replank.coordinator.coordinator import ReloadCoordinator
from replank.coordinator.phases import PHASES, Where
from replank.report import Outcome, Phase
from tests.faults.calls import Calls, Injected
from tests.faults.checkers import Expected, Trial, problems
from tests.faults.rig import QUICK, Rig

SHORT_S = 0.2
SIZES = (1, 3)

# Where user code runs, by phase and part: the place in the module's text.
USER_CODE: dict[tuple[Phase, Where], tuple[str, ...]] = {
    (Phase.PREPARE, "window"): ("import", "constructor"),
    (Phase.MIGRATE, "window"): ("step",),
    (Phase.MIGRATE, "pause"): ("step",),
    (Phase.RESTORE, "pause"): ("on_start",),
    (Phase.VERIFY, "window"): ("rehearsal",),
    (Phase.VERIFY, "pause"): ("pause",),
}
MAY_AWAIT = ("rehearsal", "pause", "on_start")
KINDS = {
    "import": {"SourceError"},
    "constructor": {"SourceError", "PhaseTimeout"},
    "step": {"MigrationError", "PhaseTimeout"},
    "rehearsal": {"CheckError", "PhaseTimeout"},
    "pause": {"CheckError", "PhaseTimeout"},
    "on_start": {"ModuleError", "PhaseTimeout"},
}
HANGS = ("waits", "loops", "blocks")
INTERNAL = ("first call", "middle call", "last call", "after it", "never ends", "cancelled")


@dataclass(frozen=True)
class Cell:
    """One trial."""

    phase: Phase
    where: Where
    fault: str
    """ "on_start:raises", "internal:first call", "disk:full once", ..."""
    modules: int

    def __str__(self) -> str:
        fault = self.fault.replace(" ", "-")
        return f"{self.phase}/{self.where}/{fault}/{self.modules}"

    @classmethod
    def parse(cls, text: str) -> Cell:
        """Return the cell with this name."""
        phase, where, fault, modules = text.split("/")
        return cls(Phase(phase), where, fault.replace("-", " "), int(modules))


PARTS: tuple[tuple[Phase, Where], ...] = tuple(
    (spec.phase, where) for where in ("window", "pause") for spec in PHASES if getattr(spec, where)
)


def cells() -> list[Cell]:
    """Return the whole matrix, in the order of the phases."""
    return [
        Cell(phase, where, fault, size)
        for phase, where in PARTS
        for fault in faults_of(phase, where)
        for size in SIZES
    ]


_BENCH_ONLY = (" call", ":loops", ":blocks", ":waits", "never ends")


def some_cells(seed: int) -> list[Cell]:
    """Return the matrix for one module, and a third of it for three; which, the seed says.

    What is tried at every single call of a part takes minutes, and what hangs past a deadline of
    some tenths of a second wants a quiet machine: only `python -m bench.faults` does these.
    """
    chance = random.Random(seed)
    return [
        one
        for one in cells()
        if (one.modules == 1 or chance.random() < 1 / 3) and not one.fault.endswith(_BENCH_ONLY)
    ]


def faults_of(phase: Phase, where: Where) -> Iterator[str]:
    """Yield what can go wrong in one part of one phase."""
    for place in USER_CODE.get((phase, where), ()):
        for fault in ("raises", "exits", "interrupts", "cancels"):
            yield f"{place}:{fault}"
        # An endless import is ended in the probe's child only, see test_bad_candidates.
        hangs = HANGS if place in MAY_AWAIT else HANGS[1:] if place != "import" else ()
        for fault in hangs:
            yield f"{place}:{fault}"
    if phase is Phase.DRAIN:
        yield "call:waits"
    for fault in INTERNAL:
        yield f"internal:{fault}"
    if (phase, where) in DISK:
        for fault in ("full once", "full lasting", "error once", "error lasting"):
            yield f"disk:{fault}"


DISK = ((Phase.PREPARE, "window"), (Phase.COMMIT, "pause"))
"""The parts that put something on the disk."""


async def run(cell: Cell, folder: Path, seed: int) -> list[str]:
    """Do one trial.

    Args:
        cell: Which.
        folder: An empty folder.
        seed: For what is chosen at random.

    Returns:
        What the checkers found wrong.
    """
    kind, _, what = cell.fault.partition(":")
    config = msgspec.structs.replace(QUICK, **_deadlines(cell)) if _hangs(cell) else QUICK
    if kind == "internal":
        await calls_in(cell, folder / "counted")
    async with Rig(folder / "trial", cell.modules, config) as rig:
        doing: Callable[..., Any] = {
            "internal": _internal,
            "disk": _disk,
            "call": _call,
        }.get(kind, _user)
        trial: Trial | str | None = await doing(rig, cell, what, seed)
        if isinstance(trial, Trial):
            return await problems(trial)
        return [trial] if trial else []


def _hangs(cell: Cell) -> bool:
    return cell.fault.partition(":")[2] in (*HANGS, "never ends")


def _deadlines(cell: Cell) -> dict[str, float]:
    limits = {f"{cell.phase}_timeout_s": SHORT_S}
    if cell.phase is Phase.SNAPSHOT and cell.where == "window":
        limits = {"window_timeout_s": SHORT_S}
    if cell.fault.startswith("constructor:"):
        limits = {"probe_timeout_s": SHORT_S}
    return limits


# -- faults in what users write ---------------------------------------------------------------------


async def _user(rig: Rig, cell: Cell, what: str, _: int) -> Trial:
    place = cell.fault.partition(":")[0]
    rig.write(
        "2",
        schema=2,
        place=place,
        fault=what,
        only_in_pause=cell.where == "pause" if place == "step" else None,
        on_start=cell.phase is not Phase.VERIFY or cell.where == "pause",
    )
    report = await rig.reload()
    return Trial(rig, report, Expected(cell.phase, cell.where, frozenset(KINDS[place])))


async def _call(rig: Rig, cell: Cell, _: str, __: int) -> Trial:
    until = asyncio.Event()
    holding = asyncio.create_task(rig.host[rig.victim].hold(until), name="load")
    await asyncio.sleep(0)
    rig.write("2", schema=2)
    report = await rig.reload()
    until.set()
    rig.account.labels.append(await holding)
    return Trial(rig, report, Expected(cell.phase, cell.where, frozenset({"PhaseTimeout"})))


# -- faults of ours --------------------------------------------------------------------------------


@contextlib.contextmanager
def _at(phase: Phase, where: Where, act: Callable[[Any], Any]) -> Iterator[None]:
    """Do something before the work of one part of one phase."""
    name = f"_{phase}_in_{where}"
    work = getattr(ReloadCoordinator, name)

    async def changed(self: ReloadCoordinator, tx: Any) -> Any:
        act(tx)
        return await work(self, tx)

    with mock.patch.object(ReloadCoordinator, name, changed):
        yield


async def _internal(rig: Rig, cell: Cell, what: str, seed: int) -> Trial | str | None:
    # A check that fails in the rehearsal is asked again when there is an on_start.
    rig.write("2", schema=2, on_start=(cell.phase, cell.where) != (Phase.VERIFY, "window"))
    expected = Expected(cell.phase, cell.where, frozenset({"Injected"}))
    if what == "cancelled":
        return await _cancelled(rig, cell)
    if what == "never ends":
        with mock.patch.object(coordinator_room, "_GRACE_S", 0.0):
            with _work_replaced(cell, _never_ends):
                report = await rig.reload()
        return Trial(rig, report, Expected(cell.phase, cell.where, frozenset({"PhaseTimeout"})))
    if what == "after it":
        with _work_replaced(cell, _raises_afterwards):
            report = await rig.reload()
        if cell.phase is Phase.COMMIT:  # the record is written: from there only forward
            expected = Expected(cell.phase, cell.where, outcome=Outcome.COMMITTED)
        return Trial(rig, report, expected)
    return await _at_a_call(rig, cell, what, seed)


async def _never_ends(work: Callable[[], Any]) -> None:
    await asyncio.Event().wait()


async def _raises_afterwards(work: Callable[[], Any]) -> None:
    await work()
    raise Injected("after the work")


@contextlib.contextmanager
def _work_replaced(cell: Cell, by: Callable[[Callable[[], Any]], Any]) -> Iterator[None]:
    name = f"_{cell.phase}_in_{cell.where}"
    work = getattr(ReloadCoordinator, name)

    async def changed(self: ReloadCoordinator, tx: Any) -> Any:
        return await by(lambda: work(self, tx))

    with mock.patch.object(ReloadCoordinator, name, changed):
        yield


async def _cancelled(rig: Rig, cell: Cell) -> Trial | str:
    """Cancel the reload's task, as a loop that is closed does; nobody may be left without answer."""

    def cancel(_: Any) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()

    with _at(cell.phase, cell.where, cancel):
        try:
            report = await rig.reload()
        except replank.ReplankError as error:
            if error.kind != "HostStopped":
                return f"the ticket was answered with {error!r}"
            (report, *_) = await rig.host.history(1)
    error = report.error
    if error is None:  # there was nothing left to wait for: it is committed, and stays so
        expected = Expected(Phase.COMMIT, "pause", outcome=Outcome.COMMITTED)
        return Trial(rig, report, expected)
    if report.outcome is Outcome.REJECTED and cell.where == "pause":
        return "calls had waited, but it was rejected"
    # A cancellation arrives where the task waits next, which may be in a later phase.
    where: Where = "pause" if report.outcome is Outcome.ROLLED_BACK else "window"
    kinds = frozenset({"CancelledError"})
    return Trial(rig, report, Expected(Phase(error.phase), where, kinds))


_counts: dict[tuple[Phase, Where, int], int] = {}


async def calls_in(cell: Cell, folder: Path) -> int:
    """Count our own calls in one part of one phase of a reload that commits."""
    key = (cell.phase, cell.where, cell.modules)
    if key not in _counts:
        async with Rig(folder, cell.modules) as rig:
            rig.write("2", schema=2)
            with contextlib.ExitStack() as exits:
                counted = {part: Calls() for part in PARTS}
                for (phase, where), calls in counted.items():
                    part = Cell(phase, where, "", cell.modules)
                    exits.enter_context(_work_replaced(part, calls.work))
                report = await rig.reload()
                assert report.committed, report.error
        for (phase, where), calls in counted.items():
            _counts[phase, where, cell.modules] = len(calls.names)
    return _counts[key]


async def every_call(folder: Path) -> list[Cell]:
    """Return a cell for every single call of ours in every part of a reload of one module."""
    return [
        Cell(phase, where, f"internal:call {number}", 1)
        for phase, where in PARTS
        for number in range(1, 1 + await calls_in(Cell(phase, where, "", 1), folder))
    ]


async def _at_a_call(rig: Rig, cell: Cell, what: str, seed: int) -> Trial | None:
    count = _counts[cell.phase, cell.where, cell.modules]
    chance = random.Random(f"{seed} {cell}")
    which = {"first": 1, "middle": chance.randint(1, count), "last": count}
    word, _, number = what.partition(" ")
    calls = Calls(which.get(word) or int(number))
    with _work_replaced(cell, calls.work):
        report = await rig.reload()
    if len(calls.names) < calls.at:
        return None  # the load made it come out a call or two shorter this time
    # No kind: where user code is called, an error of ours is taken for the user's.
    expected = Expected(cell.phase, cell.where)
    if await rig.host._journal.state(report.id) == "committed":
        assert cell.phase is Phase.COMMIT
        expected = Expected(cell.phase, cell.where, outcome=Outcome.COMMITTED)
    return Trial(rig, report, expected)


# -- faults of the disk ----------------------------------------------------------------------------


async def _disk(rig: Rig, cell: Cell, what: str, _: int) -> Trial:
    rig.write("2", schema=2)
    error, times = what.split()
    lasting = times == "lasting"
    code = errno.ENOSPC if error == "full" else errno.EIO
    with _at(cell.phase, cell.where, lambda _: rig.disk.fail(code=code, lasting=lasting)):
        report = await rig.reload()
    rig.disk.heal()
    kind = "StoreError" if cell.phase is Phase.PREPARE else "JournalError"
    return Trial(rig, report, Expected(cell.phase, cell.where, frozenset({kind}), told=not lasting))
