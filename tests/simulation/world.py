"""One seed is one run of a whole host: its modules, callers, senders, reloads, faults and crashes.

`run(seed)` raises `Broken` at the first step after which something does not hold that always must.
The rules are in `rules.py`; what clients did is checked as a history at the end of each life.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from unittest import mock

from replank import host
from replank.code import generation
from replank.config import Config, ModuleConfig, ReloadConfig
from replank.coordinator import candidates, coordinator, prepare
from replank.errors import JournalError
from replank.instrumentation.events import PhaseEnded, ReloadEnded, ReloadStarted
from replank.testing.history import History, Kind, Operation
from replank.testing.journal import MemoryJournal
from replank.testing.simulation import SimulatedLoop, virtual_clocks
from replank.verification import effects
from tests.simulation import parts, rules
from tests.simulation.parts import Disk, FakeVersion, Life
from tests.simulation.rules import must

NAMES = ("a", "b", "c")
REGISTERS = ("x", "y")


class Crashed(Exception):
    """The process was killed."""


class Fault(Exception):
    """What a version raises."""


@dataclass(eq=False, slots=True)
class Op:
    """One call of a client, from its invocation to its answer."""

    number: int
    process: str
    module: str
    call: str
    key: str = ""
    argument: Any = None
    arrival: int = 0
    runs: int = 0
    nested: bool = False
    seen: list[tuple[str, int]] = field(default_factory=list)
    outlived: bool = False
    invoked_at: float = 0.0
    stepped_at: float = 0.0
    returned_at: float | None = None
    answer: Any = None
    end: str = "open"


@dataclass(frozen=True)
class Plan:
    """What a seed makes of a run."""

    names: tuple[str, ...]
    tied: bool
    policies: dict[str, str]
    durable: dict[str, bool]
    persist: dict[str, str]
    waiting_max: int
    messages_max: int
    callers: int
    senders: int
    reloads: int
    crash_at: int | None

    @classmethod
    def draw(cls, rng: random.Random) -> Plan:
        chance = rng.random
        names = NAMES[: rng.choice((1, 1, 1, 2, 2, 3))]
        pick = rng.choice
        return cls(
            names=names,
            tied=chance() < 0.6,
            policies={n: pick(("abort", "abort", "cancel", "detach")) for n in names},
            durable={n: chance() < 0.15 for n in names},
            persist={n: pick(("stop", "stop", "commit", "interval")) for n in names},
            waiting_max=pick((2, 50, 50)),
            messages_max=pick((1, 3, 100)),
            callers=pick((1, 2, 3)) + len(names) - 1,
            senders=pick((0, 1, 2)),
            reloads=pick((1, 1, 1, 2, 3)),
            crash_at=rng.randrange(30, 250) if chance() < 0.12 else None,
        )


class SimHost(host.Host):
    """A real host over simulated parts."""

    def __init__(self, world: World) -> None:
        global _making
        _making = world
        super().__init__(config=world.config())
        world.host = self
        self.world = world
        self.bus.subscribe(world.on_event)

    def _transaction(self, targets: Any, reason: str, tx_id: str | None = None) -> Any:
        tx = super()._transaction(targets, reason, tx_id)
        self.world.transactions[tx.id] = tx
        return tx


class Code:
    """One loaded generation: what its methods do is told to the world."""

    def __init__(self, world: World, version: FakeVersion, number: int, lane: Any) -> None:
        self.world = world
        self.version = version
        self.number = number
        self.lane = lane
        self.module = SimpleNamespace(code=self)
        self.private_name = f"{version.name}@{number}"
        self.exits: list[Any] = []
        self.helpers: frozenset[str] = frozenset()
        self.chance = world.loop.random.random
        self.running = 0
        self.ticking = 0

    def enter(self, op: Op) -> None:
        self.world.entered(self, op)

    def look(self, op: Op) -> None:
        self.world.looked(self, op)

    async def work(self, op: Op) -> None:
        self.world.entered(self, op)
        await self.rest(op)

    async def rest(self, op: Op | None) -> None:
        if self.chance() < 0.5:
            self.running += 1
            try:
                await self.world.loop.pause()
            finally:
                self.running -= 1
        if op is not None:
            self.world.looked(self, op)

    async def handle(self, sender: int, number: int) -> None:
        self.world.handles(self, sender, number)
        try:
            await self.rest(None)
        except asyncio.CancelledError:  # by the drain policy, or because the host stops
            self.world.cut.add((self.version.name, str(sender), number))
            raise

    async def tick(self) -> None:
        must(self.ticking == 0, f"two timers tick in {self.private_name}")
        rules.must_serve(self, "a timer ticks")
        self.ticking += 1
        try:
            await self.world.loop.pause()
        finally:
            self.ticking -= 1

    async def pump(self) -> None:
        pumps = self.world.pumps
        pumps[self.version.name] += 1
        try:
            must(pumps[self.version.name] == 1, f"two tasks of {self.version.name} run")
            await asyncio.Event().wait()
        finally:
            pumps[self.version.name] -= 1

    async def meet(self, place: str) -> None:
        await self.world.suffer(self.version, place)

    def meet_now(self, place: str) -> None:
        self.world.suffer_now(self.version, place)

    def ask_for_reload(self) -> Any:
        return self.world.ask({self.version.name: self.world.new_version(self.version.name)})

    def unload(self) -> None:
        self.module = None
        lanes = self.world.loaded[self.version.name]
        if self.lane in lanes:
            lanes.remove(self.lane)


class World:
    """One life of the simulated process.

    Args:
        seed: Of the run.
        plan: What the seed made of it.
        disk: What earlier lives have left.
        life: How many lives there were before.
    """

    def __init__(self, seed: int, plan: Plan, disk: Disk, life: int) -> None:
        self.plan = plan
        self.disk = disk
        self.life = Life()
        self.lives = life
        self.loop = SimulatedLoop(seed * 10 + life, steps_max=60_000)
        self.rng = self.loop.random
        self.host: SimHost
        self.transactions: dict[str, Any] = {}
        self.active: dict[str, Any] = {}
        self.spans: dict[str, list[float]] = {}
        self.stuck: dict[str, list[int]] = {}
        """By reload, the chains that stood still when its drain ended."""
        self.codes: dict[str, list[Code]] = defaultdict(list)
        self.loaded: dict[str, list[Any]] = defaultdict(list)
        """Lanes of all generations whose code is loaded."""
        self.pumps: dict[str, int] = defaultdict(int)
        self.ops: list[Op] = []
        self.arrived: dict[str, int] = defaultdict(int)
        self.started: dict[str, int] = defaultdict(int)
        self.history: dict[str, History] = {name: History() for name in plan.names}
        self.tickets: list[Any] = []
        self.cancelled: set[str] = set()
        self.journal_faults: dict[str, str] = {}
        self.handled: set[tuple[str, str, int]] = set()
        self.cut: set[tuple[str, str, int]] = set()
        self.numbers: dict[str, int] = defaultdict(int)

    # -- what the fakes ask -------------------------------------------------------------------

    def load(self, version: Any, name: str, number: int, **names: Any) -> Code:
        """Be the loader."""
        fake = self.disk.versions[version.digest]
        self.suffer_now(fake, "load")
        code = Code(self, fake, number, names["runtime_names"]["__replank_lane__"])
        self.codes[name].append(code)
        self.loaded[name].append(code.lane)
        return code

    def read(self, pymodule: Any, name: str) -> Any:
        """Be `read_definition`."""
        below = NAMES[NAMES.index(name) - 1] if name != "a" and self.plan.tied else ""
        return _DEFINITIONS.get(name, below, pymodule.code.version.number)

    def suffer_now(self, version: FakeVersion, place: str) -> None:
        """Meet a fault where nothing can wait."""
        kind = version.faults.get(place)
        if kind is None or self.life.dead:
            return
        if kind in ("crash", "cancel") or place == "abandon":
            del version.faults[place]  # once
        if kind == "crash":
            self.life.dead = True
        elif kind == "cancel":
            self.cancel(version.name)
        elif kind == "exit":
            raise SystemExit(3)
        elif kind == "own cancel":
            raise asyncio.CancelledError
        else:
            raise Fault(place)

    async def suffer(self, version: FakeVersion, place: str) -> None:
        """Meet a fault, or only take some time."""
        kind = version.faults.get(place)
        if self.rng.random() < 0.5:
            await self.loop.pause()
        if kind in ("hang", "stubborn"):
            for _ in range(1 if kind == "hang" else 5):
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    if kind == "hang":
                        raise
        elif kind is not None:
            self.suffer_now(version, place)
            await self.loop.pause()

    def before_assign(self, generations: Any) -> None:
        for tx in self.active.values():
            for one in tx.participants.values():
                if tx.phase == "swap" and generations.get(one.name) is one.candidate:
                    one.candidate.code.meet_now("swap")

    def journal_hook(self, what: str) -> None:
        if self.life.dead:
            raise JournalError("the process is dead")
        kind = self.journal_faults.pop(what, None)
        if kind == "crash":
            self.life.dead = True
            raise JournalError("the process is dead")
        if kind == "raise":
            raise JournalError(f"no space left ({what})")
        if kind == "cancel":
            for tx in list(self.active.values()):
                self.cancel(tx.names[0])

    def on_event(self, event: Any) -> None:
        """Listen to the host."""
        if isinstance(event, ReloadStarted):
            self.spans[event.id] = [self.loop.time(), self.loop.time()]
            self.active[event.id] = self.transactions[event.id]
        elif isinstance(event, PhaseEnded) and event.phase == "drain":
            self.stuck[event.id] = rules.stuck_chains(self, self.transactions[event.id].names)
        elif isinstance(event, ReloadEnded):
            self.spans[event.id][1] = self.loop.time()
            self.active.pop(event.id)

    def cancel(self, module: str) -> None:
        """Cancel the running reload of a module."""
        for task in self.host._scheduler._tasks:
            if f"'{module}'" in task.get_name():
                self.cancelled.add(module)
                task.cancel()

    def note_save(self, module: str, values: dict[str, Any]) -> None:
        """Take a copy for the disk as one read of all keys."""
        self.must_rest(module)
        now = self.loop.time()
        for kind, names in (("registers", REGISTERS), ("counters", ("n",))):
            for key in names:
                op = Operation("saver", f"{module}.{key}", Kind.READ, None)
                value = values[kind].get(key, 0)
                self.history[module].operations.append(_answered(op, value, now, now))

    def must_rest(self, module: str) -> None:
        for code in self.codes[module]:
            if code.lane is self.host._routes.slot(module).gate.lane:
                must(code.running == 0, f"{module} is saved while a call runs in it")

    def must_be_quiet(self, old: Any, drained: Any) -> None:
        """Be asked by what touches live state in the pause."""
        must(old.definition.name in drained.modules, "the proof is of other modules")
        if not drained.detached:
            must(old.code.running == 0, f"a call runs in the drained {old.label}")

    # -- what runs in modules tells -----------------------------------------------------------

    def entered(self, code: Code, op: Op) -> None:
        name = code.version.name
        if name == op.module and not op.nested:
            op.runs += 1
            op.nested = True
            must(op.runs == 1, f"call {op.number} runs twice")
            must(op.end == "open", f"call {op.number} runs after its caller had given up")
            must(
                op.arrival > self.started[name],
                f"call {op.number} of {name} was overtaken by one that came later",
            )
            self.started[name] = op.arrival
        else:
            must(op.call == "visit", f"call {op.number} runs twice")
        self.looked(code, op)

    def looked(self, code: Code, op: Op) -> None:
        """Note that a step of a call runs in a generation."""
        op.stepped_at = self.loop.time()
        state = code.lane.state
        must(state != "prepared", f"call {op.number} runs in the candidate {code.private_name}")
        if state in ("quiet", "retired"):
            detached = self.plan.policies[code.version.name] == "detach"
            must(detached, f"call {op.number} runs in the {state} {code.private_name}")
            op.outlived = True
        if op.call != "add_inline" and state != "retired":
            must(code.lane.gate.in_flight, f"call {op.number} runs and nothing is in flight")
        if (code.version.name, code.number) not in op.seen:
            op.seen.append((code.version.name, code.number))

    def handles(self, code: Code, sender: int, number: int) -> None:
        """Note that a message is handled."""
        rules.must_serve(code, f"message {number} of {sender} is handled")
        name = code.version.name
        key = (name, str(sender), number)
        must(key not in self.handled, f"message {number} of {sender} is handled twice")
        self.handled.add(key)

    # -- reloads ------------------------------------------------------------------------------

    def new_version(self, name: str, faults: dict[str, str] | None = None) -> FakeVersion:
        number = 1 + max(v.number for v in self.disk.versions.values() if v.name == name)
        return self.add_version(FakeVersion(name, number, faults or {}))

    def add_version(self, version: FakeVersion) -> FakeVersion:
        self.disk.versions[version.digest] = self.disk.versions[str(version.path)] = version
        return version

    def ask(self, versions: dict[str, FakeVersion]) -> Any:
        ticket = self.host.reload({name: one.path for name, one in versions.items()})
        self.tickets.append(ticket)
        return ticket

    # -- life ---------------------------------------------------------------------------------

    def config(self) -> Config:
        plan = self.plan
        return Config(
            stop_timeout_s=0.3,
            modules={
                name: ModuleConfig(
                    source=f"/simulated/{name}/0.py",
                    drain_policy=plan.policies[name],  # type: ignore[arg-type]
                    max_waiting=plan.waiting_max,
                    max_messages=plan.messages_max,
                    durable=plan.durable[name],
                    persist=plan.persist[name],  # type: ignore[arg-type]
                    persist_interval_s=1.5,
                )
                for name in plan.names
            },
            reload=_TIMEOUTS,
        )

    def on_step(self) -> None:
        if self.life.dead or (self.plan.crash_at == self.loop.steps and not self.lives):
            self.life.dead = True
            raise Crashed
        rules.check_step(self)


_DEFINITIONS = parts.Definitions()
_TIMEOUTS = ReloadConfig(
    max_pause_s=100.0,
    probation_s=0.0,
    leak_check_s=0.0,  # it asks the real collector, which no seed decides
    **dict.fromkeys(
        (
            f"{name}_timeout_s"
            for name in (
                *("prepare", "drain", "snapshot", "migrate", "swap", "restore"),
                *("verify", "commit", "window", "probe"),
            )
        ),
        0.3,
    ),
)


def _answered(op: Operation, answer: Any, began: float, ended: float | None) -> Operation:
    return Operation(op.process, op.key, op.kind, op.argument, answer, began, ended, op.seen)


_making: World
"""Whose host is being made: the fakes below belong to it."""

_FAKES: dict[str, Any] = {
    "DataDirLock": lambda _: parts.FakeLock(),
    "EmbeddedPort": lambda *_, **__: parts.SlowPort(_making),
    "Journal": lambda *_, **__: MemoryJournal(_making.disk.journal, hook=_making.journal_hook),
    "Loader": lambda: _making,
    "Probe": lambda: parts.FakeProbe(_making),
    "Routes": lambda: parts.FaultyRoutes(_making),
    "StateKeeper": lambda *_, **__: parts.FakeKeeper(_making),
    "VersionStore": lambda _: parts.FakeStore(_making),
    "Watchdog": parts.FakeWatchdog,
}


@contextlib.contextmanager
def simulated() -> Iterator[None]:
    """Put the fakes in their places; outermost, around many runs, it costs nothing per run."""
    with (
        virtual_clocks(lambda: 0.0),
        mock.patch.object(prepare, "read_definition", _read_definition),
        mock.patch.object(generation, "make_transfer", parts.make_fake_transfer),
        mock.patch.object(candidates, "judge_contracts", _no_contracts, create=True),
        mock.patch.object(candidates, "judge_calls", _no_contracts, create=True),
        mock.patch.object(coordinator, "CollectorGuard", contextlib.nullcontext),
        mock.patch.multiple(effects, running=_nothing, attached=_nothing),
        mock.patch.object(effects.Surroundings, "now", _still),
        mock.patch.multiple(host, **_FAKES),
    ):
        yield


_SURROUNDINGS = effects.Surroundings.now()


def _still() -> effects.Surroundings:
    """Look at the process once for all runs: nothing in a simulation changes it."""
    return _SURROUNDINGS


def _nothing(*_: Any, **__: Any) -> list[Any]:
    """Find nothing that candidates left: the real process is no part of any seed, and large."""
    return []


async def _no_contracts(*_: Any) -> None:
    """Compare no contracts: they are all the same, and that takes longer than a whole run."""


def _read_definition(pymodule: Any, name: str) -> Any:
    return pymodule.code.world.read(pymodule, name)
