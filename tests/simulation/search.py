"""Every way that one transaction can go: a search over all faults, cancellations and crashes.

The program that is searched is the real one: host, coordinator and phase table over the simulated
parts. Wherever it meets the outside (the candidate's code, the state's transfer, each journal
write, before and after) the search chooses: go on, fail, hang, be cancelled, or be killed. It
takes every combination with at most so many faults; after a kill the next life recovers, and may
be killed while it does. Time and order are fixed, so a list of choices is a run.

What is looked at after every step and at every end:
- never is one module of the transaction committed, or serving, and another not;
- a life ends committed, rolled back or rejected, the journal agrees, and the next reload works;
- a recovery ends with every reload committed or undone, and starts exactly what is committed.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from replank.coordinator.phases import Course
from replank.errors import HostStopped, JournalError
from replank.instrumentation.events import PhaseStarted
from replank.testing.simulation import bury, virtual_clocks
from tests.simulation import rules
from tests.simulation.clients import Clients
from tests.simulation.parts import Disk, FakeVersion
from tests.simulation.rules import must
from tests.simulation.world import NAMES, Crashed, Fault, Plan, SimHost, World

GO = ("go",)
WRITES = ("go", "raise", "cancel", "crash")
STEPS = ("go", "raise", "hang", "cancel", "crash")
LIVES_MAX = 4


@dataclass
class Choices:
    """One run's choices: the given ones first, then always the first option."""

    given: tuple[int, ...]
    faults_max: int
    taken: list[int] = field(default_factory=list)
    widths: list[int] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def take(self, what: str, options: tuple[str, ...]) -> str:
        if len(self.faults) >= self.faults_max:
            options = GO
        place = len(self.taken)
        choice = self.given[place] if place < len(self.given) else 0
        self.taken.append(choice)
        self.widths.append(len(options))
        if choice:
            self.faults.append(f"{options[choice]} at {what}")
        return options[choice]

    def following(self) -> Iterator[tuple[int, ...]]:
        """Yield the runs that differ from this one first at a place after the given ones."""
        for place in range(len(self.given), len(self.taken)):
            for other in range(1, self.widths[place]):
                yield (*self.taken[:place], other)


@dataclass
class Found:
    """What a search has come to."""

    runs: int = 0
    crashes: int = 0
    states: set[Any] = field(default_factory=set)
    moves: set[tuple[Any, str]] = field(default_factory=set)
    outcomes: Counter[str] = field(default_factory=Counter)
    journal: set[tuple[str | None, str | None]] = field(default_factory=set)
    """Changes of a reload's state in the journal."""
    phases: set[Any] = field(default_factory=set)


class Searched(World):
    """A life in which every meeting with the outside is a choice."""

    def __init__(self, plan: Plan, disk: Disk, life: int, choices: Choices, found: Found) -> None:
        super().__init__(0, plan, disk, life)
        self.choices = choices
        self.found = found
        self.armed = False
        self.recorded = {tx_id: row.state for tx_id, row in disk.journal.reloads.items()}
        self.loop.latency = lambda: 0.0  # type: ignore[method-assign]
        self.loop.pause = lambda: asyncio.sleep(0)  # type: ignore[method-assign]

    def on_event(self, event: Any) -> None:
        super().on_event(event)
        if isinstance(event, PhaseStarted):
            self.found.phases.add((event.phase, event.where))

    def choose(self, what: str, options: tuple[str, ...]) -> str:
        if not self.armed or self.life.dead:
            return "go"
        if self.lives:
            options = tuple(one for one in options if one in ("go", "crash"))
        state = (what, bool(self.lives), *self.abstract())
        self.found.states.add(state)
        choice = self.choices.take(what, options)
        self.found.moves.add((state, choice))
        return choice

    def abstract(self) -> tuple[Any, ...]:
        """Say where everything stands."""
        routes = self.host._routes
        modules = tuple(
            (
                name,
                current.version.digest if (current := routes._table.get(name)) else "",
                slot.gate.lane.generation,
                str(slot.gate.lane.state),
            )
            for name, slot in routes._slots.items()
        )
        running = tuple(
            (tx.id, tx.course.at, tuple(label for label, _ in tx._undo))
            for tx in self.active.values()
        )
        journal = tuple((tx_id, row.state) for tx_id, row in self.disk.journal.reloads.items())
        serving = tuple(sorted(self.disk.journal.serving.items()))
        return modules, running, journal, serving

    def suffer_now(self, version: FakeVersion, place: str) -> None:
        self.do(self.choose(f"{place} of {version.name}", WRITES), version.name, place)

    async def suffer(self, version: FakeVersion, place: str) -> None:
        choice = self.choose(f"{place} of {version.name}", STEPS)
        if choice == "hang":
            await asyncio.Event().wait()
        self.do(choice, version.name, place)
        await asyncio.sleep(0)

    def journal_hook(self, what: str) -> None:
        if self.life.dead:
            raise JournalError("the process is dead")
        for tx_id, row in self.disk.journal.reloads.items():
            if self.recorded.get(tx_id) != row.state:
                self.found.journal.add((self.recorded.get(tx_id), row.state))
                self.recorded[tx_id] = row.state
        choice = self.choose(what, WRITES)
        if choice in ("raise", "crash"):
            self.life.dead = choice == "crash"
            raise JournalError(f"{choice} at {what}")
        if choice == "cancel":
            self.do(choice, self.plan.names[0], what)

    def do(self, choice: str, module: str, place: str) -> None:
        if choice == "crash":
            self.life.dead = True
        elif choice == "cancel":
            self.cancel(module)
        elif choice == "raise":
            raise Fault(place)

    def on_step(self) -> None:
        if self.life.dead:
            raise Crashed
        rules.check_step(self)
        for tx in self.active.values():
            commits = {one.module for one in self.disk.journal.commits if one.tx == tx.id}
            must(commits in (set(), set(tx.names)), f"{tx.id} is committed for {commits} only")


class Operator(Clients):
    """Ask for one reload of all modules, then for another one, which must succeed."""

    async def live(self) -> None:
        world, host = self.world, self.world.host
        world.loop.on_step = world.on_step
        world.armed = bool(world.lives)
        await host.start()
        if world.lives:
            self.check_recovery()
            self.check_together()
        else:
            world.armed = True
            await self.first()
            self.check_together()
        world.armed = False
        await self.settled()
        rules.check_rest(world)
        report = await self.ask()
        must(report.committed, f"the next reload did not work: {report.error}")
        await self.settled()
        rules.check_rest(world)
        await host.stop()
        rules.check_end(world)

    async def first(self) -> None:
        world = self.world
        try:
            report = await self.ask()
        except HostStopped:
            must(any("cancel" in one for one in world.choices.faults), "cancelled by nobody")
            world.found.outcomes["cancelled"] += 1
            return
        rules.check_report(world, world.transactions[report.id], report)
        world.found.outcomes[str(report.outcome)] += 1

    async def ask(self) -> Any:
        return await self.world.ask({n: self.world.new_version(n) for n in self.plan.names})

    def check_together(self) -> None:
        """Ask that all modules are of one number: they only ever change together."""
        routes = self.world.host._routes
        serving = {routes.current(name).definition.label for name in self.plan.names}
        must(len(serving) == 1, f"versions {serving} serve together")


def plan_of(modules: int) -> Plan:
    names = NAMES[:modules]
    return Plan(
        names=names,
        tied=True,
        policies=dict.fromkeys(names, "abort"),
        durable=dict.fromkeys(names, False),
        persist=dict.fromkeys(names, "stop"),
        waiting_max=10,
        messages_max=10,
        callers=0,
        senders=0,
        reloads=0,
        crash_at=None,
    )


def run(plan: Plan, choices: Choices, found: Found) -> None:
    """Do one run, through as many lives as it needs."""
    disk = Disk()
    found.runs += 1
    for life in range(LIVES_MAX):
        world = Searched(plan, disk, life, choices, found)
        for name in plan.names:
            if not life:
                world.add_version(FakeVersion(name, 0))
        try:
            if _ends(world):
                return
        except AssertionError as error:
            error.add_note(f"faults: {choices.faults}; choices: {choices.taken}")
            raise
        found.crashes += 1
    must(False, f"it never comes up again: {choices.faults}")


def _ends(world: Searched) -> bool:
    with virtual_clocks(world.loop.time):
        SimHost(world)
        try:
            world.loop.run_until_complete(Operator(world).live())
        except (Crashed, JournalError):
            if not world.life.dead:
                raise
            return False
        finally:
            world.life.dead = True
            bury(world.loop)
    return True


def search(modules: int, faults_max: int) -> Found:
    """Take every run with at most so many faults; in `simulated()`.

    Args:
        modules: How many take part in the transaction.
        faults_max: Faults of one run, those during recovery included.

    Raises:
        Broken: A rule does not hold in some run.
    """
    plan, found = plan_of(modules), Found()
    todo: list[tuple[int, ...]] = [()]
    while todo:
        choices = Choices(todo.pop(), faults_max)
        run(plan, choices, found)
        todo += choices.following()
    return found


ALL_PHASES = set(Course()._steps)
JOURNAL_MOVES = {
    (None, "prepared"),
    ("prepared", "committed"),
    ("prepared", "rolled_back"),
    (None, "rejected"),
    ("prepared", "rejected"),
    ("prepared", "undone"),
}
"""What may happen to a reload in the journal; `prepared` to `undone` only at a start, and to
`rejected` when it is cancelled between the record of the intent and the drain."""
