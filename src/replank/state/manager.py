"""How one module's state reaches its candidate: copied, upgraded, checked, handed over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Any, Protocol

from replank.definition import Definition
from replank.errors import MigrationError, ReplankError
from replank.migration.engine import Migration
from replank.plain import digest
from replank.state.names import Namespace
from replank.state.snapshot import Snapshot, restore, take
from replank.traffic.drain import Drained


class Holder(Protocol):
    """What holds a module's live state: a generation."""

    definition: Definition

    @property
    def own(self) -> Namespace:
        """The names that are the generation's own."""

    def values(self) -> dict[str, Any]:
        """Return the state, field by field; carried fields too."""

    def assign(self, values: Mapping[str, Any]) -> None:
        """Set state fields."""


class Transfer(Protocol):
    """The way of one module's state from the old generation to the candidate.

    Each of the three steps has a part in the window and a part in the pause; the latter needs the
    proof that the module is quiet.
    """

    mode: str
    records: int
    predicted_pause_s: float

    async def snapshot(self, drained: Drained | None) -> None:
        """Copy the state; with the proof of quiet, what was written last."""

    async def migrate(self, drained: Drained | None) -> None:
        """Upgrade the copy and check it against the new types."""

    async def restore(self, drained: Drained | None) -> None:
        """Give the candidate its state; with the proof of quiet, also what is carried."""

    def digests(self) -> tuple[str, str]:
        """Return the digests of the copied state and of the candidate's."""

    def abandon(self) -> None:
        """Drop the copy; the old state is as it was."""


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

    def __init__(self, module: str, old: Holder, new: Holder, migration: Migration) -> None:
        self.module = module
        self.records = 0
        self.predicted_pause_s = 0.0
        self._old = old
        self._new = new
        self._migration = migration
        self._snapshot: Snapshot | None = None
        self._values: dict[str, Any] = {}
        self._source_digest = ""

    async def snapshot(self, drained: Drained | None) -> None:
        """Freeze the old state into a class-free copy."""
        definition = self._old.definition
        with _Cost(self, rehearsed=drained is None, first=True):
            self._snapshot = take(
                self.module,
                _snapshotted(self._old),
                definition.schema,
                label=definition.label,
                hints=definition.hints,
                own=self._old.own,
            )
        self.records = self._snapshot.records

    async def migrate(self, drained: Drained | None) -> None:
        """Upgrade the copy, and build from it the values of the candidate's types."""
        assert self._snapshot is not None, "nothing was copied"
        definition = self._new.definition
        if drained is None:
            self._source_digest = digest(self._snapshot.tree)
        with _Cost(self, rehearsed=drained is None):
            tree = _upgraded(self._migration, self._snapshot.tree, self.module)
            self._values = restore(tree, definition.schema, hints=definition.hints, own=self._new.own)

    async def restore(self, drained: Drained | None) -> None:
        """Assign the built values; carried objects are handed over only when the old is quiet."""
        with _Cost(self, rehearsed=drained is None):
            self._new.assign(self._values)
        if drained is not None:
            carried = set(self._new.definition.carried)
            self._new.assign({k: v for k, v in self._old.values().items() if k in carried})

    def digests(self) -> tuple[str, str]:
        """Digest the copy as it was taken and what the candidate holds, both in the window."""
        definition = self._new.definition
        after = take(
            self.module,
            _snapshotted(self._new),
            definition.schema,
            label=definition.label,
            hints=definition.hints,
            own=self._new.own,
        )
        return self._source_digest, digest(after.tree)

    def abandon(self) -> None:
        """Drop the copy."""
        self._snapshot = None
        self._values = {}


def _snapshotted(holder: Holder) -> dict[str, Any]:
    carried = set(holder.definition.carried)
    return {name: value for name, value in holder.values().items() if name not in carried}


def _upgraded(migration: Migration, tree: dict[str, Any], module: str) -> dict[str, Any]:
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


def make_transfer(module: str, old: Holder, new: Holder, migration: Migration) -> Transfer:
    """Choose how a module's state travels.

    Args:
        module: The module's name.
        old: The generation that serves.
        new: The candidate.
        migration: The way between their schemas.
    """
    return EagerTransfer(module, old, new, migration)


MakeTransfer = Callable[[str, Holder, Holder, Migration], Transfer]
