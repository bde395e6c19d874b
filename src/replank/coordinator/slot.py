"""What belongs to a module through all its generations, and the routing table over them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from weakref import WeakSet

from replank.code.generation import Generation
from replank.config import ModuleConfig
from replank.errors import UnknownModule, did_you_mean
from replank.instrumentation.status import Gate as GateStatus
from replank.instrumentation.status import ModuleStatus
from replank.isolation.remote import RemoteGeneration
from replank.report import ProbationReport
from replank.state.parking import Parked
from replank.state.persistence import Persistence
from replank.traffic.gate import Gate
from replank.traffic.handle import Handle
from replank.traffic.messages import Inbox
from replank.traffic.recent import Recent
from replank.traffic.tasks import Tasks

_NONE: frozenset[str] = frozenset()


class Watching(Protocol):
    """Who watches a version on probation, and can be told to stop."""

    @property
    def active(self) -> bool:
        """Whether it watches still, or is held."""

    async def measure(self) -> None:
        """Read what the old versions hold, while they are in memory."""

    def begin(self) -> None:
        """Watch, from now on."""

    def report(self) -> ProbationReport:
        """Return how it goes."""

    def hold(self) -> None:
        """Neither judge nor let time pass."""

    def go_on(self) -> None:
        """Judge again, and let time pass."""

    async def end(self, state: str) -> None:
        """Stop watching."""


class Trying(Protocol):
    """Who tries a candidate on a share of the calls, and can be told how to go on."""

    id: str
    modules: tuple[str, ...]

    def report(self) -> ProbationReport:
        """Return how it goes."""

    def promote(self) -> None:
        """Leave the steps to come out."""

    def abort(self, why: str) -> None:
        """Have the candidate rejected."""

    def hold(self) -> None:
        """Neither judge nor let time pass."""

    def go_on(self) -> None:
        """Judge again, and let time pass."""


class WayBack(Protocol):
    """What the last commit left to do, and the way back while it lasts: its probation."""

    participants: dict[str, Any]
    watch: Watching | None

    @property
    def returnable(self) -> bool:
        """Whether the old generations can serve again at once."""

    async def settled(self) -> None:
        """Return when everything that the commit left to do has its place."""

    async def end(self) -> None:
        """Let the old generations go, now."""

    async def hand_over(self) -> None:
        """Stop following: a rollback takes the old generations over."""

    def resume(self) -> None:
        """Follow again: the rollback did not happen."""


@dataclass(eq=False, slots=True)
class Slot:
    """A module's place in the host: its gate, queue, tasks and handle outlive every generation."""

    name: str
    source: Path
    config: ModuleConfig
    gate: Gate
    inbox: Inbox
    tasks: Tasks
    handle: Handle
    persistence: Persistence[Any]
    probation: WayBack | None = None
    """What the last commit left to do, and the way back while it lasts."""
    canary: Trying | None = None
    """The candidate that gets a share of the calls, while it does."""
    recent: Recent | None = None
    """The last queries; None when none are kept."""
    parked: dict[str, Parked] = field(default_factory=dict)
    """By a schema's fingerprint, what a return from it had no room for."""
    loaded: WeakSet[Any] = field(default_factory=WeakSet)
    """The class or file of every generation that is in memory, for whatever reason."""


class Routes:
    """The routing table: which generation serves each module.

    The table is one immutable mapping, replaced by one assignment for all modules of a
    transaction. Everything that is derived from it is refreshed before the loop turns again.
    """

    def __init__(self) -> None:
        self._table: Mapping[str, Generation] = {}
        self._slots: dict[str, Slot] = {}

    @property
    def slots(self) -> Mapping[str, Slot]:
        """Every module's slot, by name."""
        return self._slots

    def add(self, slot: Slot) -> None:
        """Make room for a module."""
        self._slots[slot.name] = slot

    def slot(self, name: str) -> Slot:
        """Return a module's slot.

        Raises:
            UnknownModule: There is no such module.
        """
        try:
            return self._slots[name]
        except KeyError:
            raise UnknownModule(
                f"there is no module {name!r}",
                found=name,
                expected=", ".join(sorted(self._slots)) or "a module; the host has none",
                do=did_you_mean(name, self._slots)
                or "name one of these, or add it to replank.toml and restart",
            ) from None

    def current(self, name: str) -> Generation:
        """Return the generation that serves a module.

        Raises:
            UnknownModule: There is no such module, or it has not been loaded.
        """
        self.slot(name)
        return self._table[name]

    def find(self, name: str) -> Generation | None:
        """Return the generation that serves a module, or None before its first."""
        return self._table.get(name)

    def assign(self, generations: Mapping[str, Generation]) -> dict[str, Generation]:
        """Make these generations current, all at once.

        Args:
            generations: By module name.

        Returns:
            What was current before, by module name.
        """
        before = {name: self._table[name] for name in generations if name in self._table}
        self._table = {**self._table, **generations}
        for name, generation in generations.items():
            self._slots[name].handle._serve(generation.lane)
        return before

    def handles(self) -> dict[str, Any]:
        """Return every module's handle, by name."""
        return {name: slot.handle for name, slot in self._slots.items()}

    def users_of(self, name: str) -> frozenset[str]:
        """Return the modules whose current generation uses this one."""
        return frozenset(
            user
            for user, generation in self._table.items()
            if any(use.module == name for use in generation.definition.uses)
        )

    def uses_of(self, name: str) -> frozenset[str]:
        """Return the modules that the current generation of one uses."""
        generation = self._table.get(name)
        return frozenset(use.module for use in generation.definition.uses) if generation else _NONE

    def tied_to(self, names: frozenset[str]) -> frozenset[str]:
        """Return these modules with all that they use and all that use them, one step away."""
        tied = set(names)
        for name in names:
            tied |= self.users_of(name)
            tied |= self.uses_of(name)
        return frozenset(tied)


def status_of(slot: Slot, generation: Generation) -> ModuleStatus:
    """Return what is true of a module now.

    Args:
        slot: Its slot.
        generation: What serves.
    """
    definition = generation.definition
    inbox = slot.inbox.statistics()
    return ModuleStatus(
        name=slot.name,
        label=definition.label,
        digest=generation.version.digest,
        generation=generation.number,
        schema=definition.schema.version,
        gate=GateStatus.OPEN if slot.gate.is_open else GateStatus.CLOSED,
        in_flight=slot.gate.in_flight,
        waiting=slot.gate.waiting,
        calls=slot.gate.calls,
        calls_refused=slot.gate.refused,
        generations_alive=len(slot.loaded),
        messages_accepted=inbox.accepted,
        messages_queued=inbox.queued,
        messages_handled=inbox.handled,
        messages_failed=inbox.failed,
        messages_lost=inbox.accepted - inbox.handled - inbox.failed - inbox.queued,
        source=str(slot.source),
        uses=tuple(use.module for use in definition.uses),
        started_at=generation.started_at,
        isolation=slot.config.isolation,
        **_process_of(generation),
    )


def _process_of(generation: Generation) -> dict[str, Any]:
    if not isinstance(generation, RemoteGeneration):
        return {}
    worker = generation.worker
    return {
        "pid": worker.process.pid if worker.alive else None,
        "memory_bytes": worker.resident_bytes() if worker.alive else 0,
        "restarts": generation.restarts,
        "down": generation.down.what if generation.down is not None else "",
    }
