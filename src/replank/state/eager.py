"""Small states are copied whole: in the window for the rehearsal, and again in the pause."""

from __future__ import annotations

from time import perf_counter
from typing import Any, Protocol

from replank.errors import MigrationError, ReplankError
from replank.migration.engine import Migration, Residue
from replank.plain import digest
from replank.state.holder import Holder
from replank.state.snapshot import Snapshot, restore, take
from replank.traffic.drain import Drained


class Way(Protocol):
    """What takes a class-free state from one schema to another."""

    @property
    def reversible(self) -> bool:
        """Whether there is a way back."""

    def upgrade(self, tree: dict[str, Any]) -> dict[str, Any]:
        """Return the new state; the old one is not touched."""


class Up:
    """A migration upwards: what it loses is kept for the way down, what was parked comes back.

    Args:
        migration: The way between the schemas.
        parked: What an earlier way down lost.
    """

    def __init__(self, migration: Migration, parked: Residue | None = None) -> None:
        self.migration = migration
        self.residue = Residue()
        self._parked = parked

    @property
    def reversible(self) -> bool:
        """Whether there is a way back."""
        return self.migration.reversible

    def upgrade(self, tree: dict[str, Any]) -> dict[str, Any]:
        """Return the new state."""
        new, self.residue = self.migration.upgrade_and_park(tree, _again(self._parked))
        return new


class Down:
    """The way back of an `Up`.

    Args:
        up: How the state came up.
    """

    reversible = True

    def __init__(self, up: Up) -> None:
        self._up = up
        self.residue = Residue()
        """What only the new version knows: for its return."""

    def upgrade(self, tree: dict[str, Any]) -> dict[str, Any]:
        """Return the old state."""
        old, self.residue = self._up.migration.downgrade_and_park(tree, _again(self._up.residue))
        return old


def _again(residue: Residue | None) -> Residue | None:
    """Copy a residue: a run uses it up, and the rehearsal runs before the pause does."""
    if residue is None:
        return None
    return Residue([{at: list(values) for at, values in one.items()} for one in residue.parked])


class EagerTransfer:
    """Copy everything in the window for the rehearsal, and everything again in the pause.

    For small states: what it costs was measured in the rehearsal, and is the predicted pause.

    Args:
        module: The module's name.
        old: The generation that serves.
        new: The candidate.
        migration: The way between their schemas.
    """

    mode = "eager"

    def __init__(self, module: str, old: Holder, new: Holder, migration: Way) -> None:
        self.module = module
        self.records = 0
        self.predicted_pause_s = 0.0
        self._old = old
        self._new = new
        self._migration = migration
        self._snapshot: Snapshot | None = None
        self._values: dict[str, Any] = {}
        self._source_digest = ""

    @property
    def up(self) -> Up:
        """How the state came up, for the way back."""
        assert isinstance(self._migration, Up), "this is a way back itself"
        return self._migration

    @property
    def parked_small(self) -> Residue:
        """What this way back had no room for."""
        assert isinstance(self._migration, Down), "this is no way back"
        return self._migration.residue

    @property
    def parked_tables(self) -> dict[str, Any]:
        """Nothing: there are no large tables."""
        return {}

    @property
    def moved(self) -> frozenset[str]:
        """Nothing: the candidate's state is another one."""
        return frozenset()

    @property
    def followed(self) -> bool:
        """Whether a way down brings the old state back with what was written since."""
        return self._migration.reversible

    async def snapshot(self, drained: Drained | None) -> None:
        """Freeze the old state into a class-free copy."""
        self._take(rehearsed=drained is None)

    async def migrate(self, drained: Drained | None) -> None:
        """Upgrade the copy, and build from it the values of the candidate's types."""
        if drained is None:
            assert self._snapshot is not None, "nothing was copied"
            self._source_digest = digest(self._snapshot.tree)
        self._upgrade(rehearsed=drained is None)

    async def restore(self, drained: Drained | None) -> None:
        """Assign the built values; carried objects are handed over only when the old is quiet."""
        self._assign(rehearsed=drained is None)
        if drained is not None:
            carried = set(self._new.definition.carried)
            self._new.assign({k: v for k, v in self._old.values().items() if k in carried})

    def align(self) -> None:
        """Copy and upgrade all of it again, in one go."""
        self._take(rehearsed=True)
        self._upgrade(rehearsed=True)
        self._assign(rehearsed=True)

    async def approach(self) -> None:
        """Do nothing: all of it is copied in the pause."""

    def committed(self) -> None:
        """Do nothing: the candidate has its state already."""

    async def settle(self) -> None:
        """Drop the copy."""
        self.abandon()

    def _take(self, *, rehearsed: bool) -> None:
        with _Cost(self, rehearsed=rehearsed, first=True):
            self._snapshot = _frozen(self.module, self._old)
        if not rehearsed and self._old.seal is not None:
            self._old.seal.differs = _Differs(self.module, self._old, self._snapshot.tree)
        self.records = self._snapshot.records

    def _upgrade(self, *, rehearsed: bool) -> None:
        assert self._snapshot is not None, "nothing was copied"
        new = self._new.definition
        with _Cost(self, rehearsed=rehearsed):
            tree = _upgraded(self._migration, self._snapshot.tree, self.module)
            self._values = restore(tree, new.schema, hints=new.hints, own=self._new.own)

    def _assign(self, *, rehearsed: bool) -> None:
        with _Cost(self, rehearsed=rehearsed):
            self._new.assign(self._values)

    def digests(self) -> tuple[str, str]:
        """Digest the copy as it was taken and what the candidate holds, both in the window."""
        return self._source_digest, digest(_frozen(self.module, self._new).tree)

    def abandon(self) -> None:
        """Drop the copy."""
        self._snapshot = None
        self._values = {}


def _frozen(module: str, holder: Holder) -> Snapshot:
    definition = holder.definition
    return take(
        module,
        _snapshotted(holder),
        definition.schema,
        label=definition.label,
        hints=definition.hints,
        own=holder.own,
    )


class _Differs:
    """Tells whether a sealed state is another one than was copied.

    Args:
        module: The module's name.
        holder: Whose state it is.
        tree: What was copied.
    """

    def __init__(self, module: str, holder: Holder, tree: dict[str, Any]) -> None:
        self._module = module
        self._holder = holder
        self._tree = tree
        self._digest = ""

    def __call__(self) -> bool:
        if not self._digest:
            self._digest, self._tree = digest(self._tree), {}
        try:
            return digest(_frozen(self._module, self._holder).tree) != self._digest
        except ReplankError:  # it holds something now that cannot be taken apart
            return True


def _snapshotted(holder: Holder) -> dict[str, Any]:
    carried = set(holder.definition.carried)
    return {name: value for name, value in holder.values().items() if name not in carried}


def _upgraded(migration: Way, tree: dict[str, Any], module: str) -> dict[str, Any]:
    try:
        return migration.upgrade(tree)
    except ReplankError:
        raise
    except Exception as error:
        raise MigrationError(
            f"a migration step raised {type(error).__name__}: {error}",
            module=module,
            found=f"{type(error).__name__}: {error}",
            expected="a step that returns the new state",
            do="mend the step and reload again",
        ) from error


class _Cost:
    """Add up what the rehearsed copy costs: the same work will be done in the pause."""

    def __init__(self, transfer: EagerTransfer, *, rehearsed: bool, first: bool = False) -> None:
        self._transfer = transfer
        self._rehearsed = rehearsed
        self._first = first
        self._began = 0.0

    def __enter__(self) -> None:
        if self._first and self._rehearsed:
            self._transfer.predicted_pause_s = 0.0
        self._began = perf_counter()

    def __exit__(self, *_: object) -> None:
        if self._rehearsed:
            self._transfer.predicted_pause_s += perf_counter() - self._began
