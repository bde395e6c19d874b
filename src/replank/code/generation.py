"""A generation: the n-th loaded copy of a module in this process, with its object and its lane."""

from __future__ import annotations

import re
import types
import weakref
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from replank.code.entries import collect_entries, generic_entry
from replank.code.loader import LoadedCode
from replank.code.store import Version
from replank.code.undeclared import Undeclared
from replank.definition import CallKind, Definition
from replank.migration.engine import find_path, steps_of
from replank.module import Runtime
from replank.state.holder import Transfer
from replank.state.keeper import Kept, StateKeeper, StepsOfVersion
from replank.state.limits import StateLimits
from replank.state.manager import make_transfer
from replank.state.names import Namespace
from replank.state.parking import Parked
from replank.state.sealing import seal, sealed_values
from replank.traffic.lane import Lane
from replank.traffic.leaf import LeafPass
from replank.traffic.observing import Observer
from replank.traffic.streams import stream_entry
from replank.traffic.threaded import threaded
from replank.verification.effects import Effects

_MAY_CALL = re.compile(rb"\bhost\b|\bHost\b|\buses\b|\bHandle\b|\bcurrent_runtime\b")
"""What a module's source names when it may reach another module."""


class Code(Protocol):
    """What a generation needs of its loaded code."""

    private_name: str

    @property
    def helpers(self) -> frozenset[str]:
        """Private names of the helpers beside it."""

    def unload(self) -> None:
        """Forget it everywhere."""


class KnownWay(Protocol):
    """What is known of a way between two schemas, whoever goes it."""

    @property
    def steps(self) -> tuple[str, ...]:
        """Its steps, as lines of text."""

    @property
    def reversible(self) -> bool:
        """Whether there is a way back."""


@dataclass(eq=False, slots=True)
class Generation:
    """One loaded copy of a module.

    Attributes:
        number: Which copy of this module it is, counted from 1, never used twice.
        target: What holds the state: the module class's instance, or the file's Python module.
        lane: The way in for calls.
        started: Whether `on_start` was begun.
        started_at: When it began to serve, ISO 8601, UTC; empty before.
        seal: What keeps calls that outlive it from writing to its state.
    """

    number: int
    version: Version
    code: Code
    definition: Definition
    target: Any
    lane: Lane
    methods: dict[str, Callable[..., Any]] = field(default_factory=dict)
    """Every bound method or function that the runtime may call, by name."""
    observer: Observer | None = None
    """What was seen of its calls, in windows and on probation."""
    started: bool = False
    started_at: str = ""
    undeclared: Undeclared | None = None
    """What it held besides its state when it began to serve."""
    effects: Effects | None = None
    """What it did outside itself when it was loaded and started."""
    seal: Any = None

    @property
    def label(self) -> str:
        """Name it for the operator: "ledger 2.0 (generation 3)"."""
        return self.lane.label

    @property
    def own(self) -> Namespace:
        """The names that are this generation's own."""
        return Namespace(self.code.private_name, self.code.helpers)

    @property
    def alive(self) -> bool:
        """Whether the process that it is in lives."""
        return True

    def values(self) -> dict[str, Any]:
        """Return the state, field by field; carried fields too."""
        space = vars(self.target)
        found = {name: space[name] for name in self.definition.hints if name in space}
        return sealed_values(self.seal, found)

    def assign(self, values: Mapping[str, Any]) -> None:
        """Set state fields."""
        for name, value in values.items():
            setattr(self.target, name, value)

    def wire(self, handles: Mapping[str, Any], runtime: Runtime) -> None:
        """Give it the handles of the modules it uses, and its runtime."""
        for use in self.definition.uses:
            setattr(self.target, use.field, handles[use.module])
        if self.definition.owner is not None:
            self.target._replank_runtime = runtime
        else:
            vars(self.target).setdefault("host", runtime.host)
            vars(self.target).setdefault("spawn", runtime.spawn)

    def seal_off(self, moved: frozenset[str]) -> Callable[[], None]:
        """Refuse writes of what goes on in it although another takes its state over.

        Args:
            moved: The fields whose tables the next generation takes over as they are.

        Returns:
            What lets them write again.
        """
        return seal(self, moved).lift

    def watched(self, effects: Effects, hook: Callable[..., Any]) -> Callable[..., Any]:
        """Return a hook whose doings outside itself are noted."""
        return effects.watched(self.code.private_name, hook)

    async def note_undeclared(self) -> None:
        """Note what it holds besides its state, now that it has started."""
        self.undeclared = Undeclared(self.definition, self.target)

    async def undeclared_warnings(self) -> list[str]:
        """Return a warning for each piece of data that a reload would leave behind."""
        return undeclared_data(self)

    async def way_to(
        self,
        new: Generation,
        *,
        limits: StateLimits,
        grace: Callable[[], Awaitable[object]],
        parked: Parked | None,
        going_back: bool,
        goes_back: bool,
    ) -> tuple[KnownWay, Transfer]:
        """Find how its state gets to a candidate.

        Args:
            new: The candidate.
            limits: What the reload may take, and how the state travels.
            grace: Waits until every call that runs now has ended.
            parked: What an earlier return from the candidate's schema had no room for.
            going_back: Whether the reload is a rollback.
            goes_back: Whether the candidate is an older version.

        Raises:
            SchemaError: There is no way.
        """
        old = self.definition
        migration = find_path(
            old.schema,
            new.definition.schema,
            steps_of(new.definition),
            module=old.name,
            reverse=steps_of(old),
            going_back=going_back,
        )
        transfer = await make_transfer(
            old.name,
            self,
            new,
            migration,
            limits=limits,
            grace=grace,
            parked=parked,
            going_back=goes_back,
        )
        return migration, transfer

    async def load_kept(self, keeper: StateKeeper, steps_of_version: StepsOfVersion) -> Kept:
        """Restore the last sound snapshot on the disk.

        Args:
            keeper: Finds it.
            steps_of_version: Finds the steps of a stored version by its digest.
        """
        kept = await keeper.load(self.definition.name, self, steps_of_version)
        self.assign(kept.values)
        return kept

    def unload(self) -> None:
        """Take it out of memory: nothing of ours refers to it afterwards."""
        if self.seal is not None:
            self.seal.lift()
        self.lane.entries = {}
        self.lane.methods = {}
        self.lane.contract = {}
        self.methods = {}
        self.target = None
        self.undeclared = None
        self.code.unload()
        # What is told of it afterwards needs its names and numbers, and nothing that holds code.
        self.definition = replace(
            self.definition,
            owner=None,
            hints={},
            defaults={},
            calls={},
            uses=(),
            migrations=(),
            functions={},
        )

    def witness(self) -> weakref.ref[Any] | None:
        """Return a reference to what lives as long as anything of its code does.

        Every function of the code holds its globals, and those hold the class or the functions.
        """
        if self.definition.owner is not None:
            return weakref.ref(self.definition.owner)
        functions = [call.function for call in self.definition.calls.values()]
        return weakref.ref(functions[0]) if functions else None


def make_generation(
    number: int, version: Version, code: LoadedCode, definition: Definition, lane: Lane
) -> Generation:
    """Construct a generation's object and fill its lane.

    Args:
        number: The generation's number.
        version: The stored source it was loaded from.
        code: The executed code.
        definition: What was read from it.
        lane: The lane that its entries were compiled for.

    Raises:
        BaseException: Whatever the author's constructor raises.
    """
    owner = definition.owner or code.module
    counted = collect_entries(
        owner, [n for n, call in definition.calls.items() if call.kind is not CallKind.STREAM]
    )
    target = definition.construct(code.module)
    names = {*definition.calls, *definition.functions}
    names |= {one.name for one in definition.checks} | {one.name for one in definition.timers}
    names |= set(definition.invariants)
    methods = {name: getattr(target, name) for name in names}
    lane.contract = definition.calls
    lane.methods = {name: _as_called(lane, name, methods[name]) for name in definition.calls}
    lane.label = f"{definition.name} {definition.label} (generation {number})"
    lane.entries = {
        name: _entry(lane, target, name, definition, counted) for name in definition.calls
    }
    if _calls_no_other(version, definition):
        lane.leaf = LeafPass(lane)
    return Generation(number, version, code, definition, target, lane, methods)


def _calls_no_other(version: Version, definition: Definition) -> bool:
    """Whether a module can be seen to have no handle of another: its calls need no chain."""
    if definition.uses:
        return False
    sources = (version.root / name for name in version.files if name.endswith(".py"))
    return not any(_MAY_CALL.search(source.read_bytes()) for source in sources)


def _as_called(lane: Lane, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    """Return what runs a call: the method, in a thread when its module says so."""
    pool = lane.gate.threads
    if pool is None or lane.contract[name].kind is not CallKind.SYNC:
        return method
    return threaded(pool, lane, name, method)


def _entry(
    lane: Lane,
    target: Any,
    name: str,
    definition: Definition,
    counted: Mapping[str, types.FunctionType],
) -> Callable[..., Any]:
    """Return what a handle calls: counted inside the method where possible, wrapped elsewhere."""
    kind = definition.calls[name].kind
    if kind is CallKind.STREAM:
        return stream_entry(lane, name)
    in_thread = kind is CallKind.SYNC and lane.gate.threads is not None
    if in_thread or name not in counted:
        is_async = in_thread or kind is CallKind.ASYNC
        return generic_entry(lane, name, lane.methods[name], is_async=is_async)
    entry = counted[name]
    return entry if definition.owner is None else types.MethodType(entry, target)


def undeclared_data(generation: Generation) -> list[str]:
    """Return a warning for each piece of data that a reload would leave behind.

    Args:
        generation: The one that serves.
    """
    if generation.undeclared is None:
        return []
    one = generation.definition
    in_class = one.owner is not None
    where = "self.{0}" if in_class else "{0}"
    how = "annotate it (`{0}: int = 0`)" if in_class else "name it in STATE"
    return [
        f"{one.name}: {where.format(name)} is no declared state and stays behind with version "
        f"{one.label}; {how.format(name)} to keep it"
        for name in generation.undeclared.changed()
    ]
