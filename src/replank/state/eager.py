"""Small states are copied whole: in the window for the rehearsal, and again in the pause."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from functools import partial
from time import perf_counter
from typing import Any, Final

from replank.errors import ReplankError
from replank.hints import read_form
from replank.migration.conversions import Apply
from replank.migration.engine import Migration, Residue
from replank.plain import TYPE_KEY, digest
from replank.state.bad_policy import BadRecord, BadRecords
from replank.state.holder import Holder
from replank.state.items import Interpreted
from replank.state.limits import StateLimits
from replank.state.memo import Memo
from replank.state.meter import Meter, metered
from replank.state.parking import Parked, path_back_of, path_of
from replank.state.residue import Residue as TableResidue
from replank.state.routes import TableRoute
from replank.state.sharing import Twins, seeds
from replank.state.snapshot import Snapshot, restore, take
from replank.state.whole import Way, WholeState
from replank.threads import undisturbed
from replank.traffic.drain import Drained

_APPROACH_S_MAX: Final = 0.005


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

    def back(
        self, tree: dict[str, Any], new: dict[str, Any] | None = None
    ) -> dict[str, Any] | None:
        """Return what going up and down again makes of a state."""
        migration = self.migration
        # Nobody knows what a pair of functions loses on purpose: `migrations check` tells.
        if migration.identity or any(isinstance(one, Apply) for _, one in migration.forward):
            return None
        lost = self.residue
        if new is None:
            new, lost = migration.upgrade_and_park(tree, _again(self._parked))
        return migration.downgrade_and_park(new, lost)[0]


class Down:
    """The way back of an `Up`.

    Args:
        up: How the state came up.
        set_aside: Records that did not come up: they are back with the old version.
    """

    reversible = True

    def __init__(self, up: Up, set_aside: Iterable[BadRecord] = ()) -> None:
        self.up = up
        self._set_aside = tuple(set_aside)
        self.residue = Residue()
        """What only the new version knows: for its return."""

    def upgrade(self, tree: dict[str, Any]) -> dict[str, Any]:
        """Return the old state."""
        old, self.residue = self.up.migration.downgrade_and_park(tree, _again(self.up.residue))
        for one in self._set_aside:
            if one.table in old:
                old[one.table].setdefault(one.key, one.value)
        return old

    def back(self, _tree: dict[str, Any], _new: dict[str, Any] | None = None) -> None:
        """Say nothing: the state was checked on its way up."""


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
        items: By field, the way of the items that can be taken one by one.
        bad: Decides about records that do not migrate; without it the first one raises.
        parked: By the candidate's field, what an earlier return had no room for in its tables.
        twins: Knows which objects are records of tables that travel otherwise.
    """

    mode = "eager"

    def __init__(
        self,
        module: str,
        old: Holder,
        new: Holder,
        migration: Way,
        items: Mapping[str, Interpreted] | None = None,
        bad: BadRecords | None = None,
        parked: Mapping[str, TableResidue] | None = None,
        twins: Twins | None = None,
    ) -> None:
        self._twins = twins
        self._has_twins = False
        self.module = module
        self._parked = parked or {}
        self.routes: tuple[TableRoute, ...] = ()
        """On a way back: the tables whose records are parked one by one."""
        self.meter: Meter | None = None
        self.bad = bad or BadRecords(module, StateLimits())
        self.records = 0
        self.predicted_pause_s = 0.0
        self._old = old
        self._new = new
        self._migration = migration
        self._snapshot: Snapshot | None = None
        self._values: dict[str, Any] = {}
        self._source_digest = ""
        self._whole = WholeState(module, migration, self._built, items or {}, self.bad)

    @property
    def up(self) -> Up:
        """How the state came up, for the way back."""
        assert isinstance(self._migration, Up), "this is a way back itself"
        return self._migration

    @property
    def parked(self) -> Parked:
        """What this way back had no room for, as the way up knows it."""
        way = self._migration
        if isinstance(way, Down):
            return Parked(way.residue, {}, path_of(way.up.migration))
        assert isinstance(way, Up), "there are two kinds of ways"
        return Parked(way.residue.turned(), {}, path_back_of(way.migration))

    def left(self, field: str) -> Mapping[Any, Any]:
        """Return a table as it was left, without classes."""
        node = self._snapshot.tree.get(field) if self._snapshot else None
        return node if isinstance(node, dict) and TYPE_KEY not in node else {}

    @property
    def moved(self) -> frozenset[str]:
        """Nothing: the candidate's state is another one."""
        return frozenset()

    @property
    def followed(self) -> bool:
        """Whether a way down brings the old state back with what was written since."""
        return self._migration.reversible

    def bad_records(self) -> list[BadRecord]:
        """Return the records that did not migrate."""
        return self.bad.all()

    @metered
    async def snapshot(self, drained: Drained | None) -> None:
        """Freeze the old state into a class-free copy."""
        self._take(rehearsed=drained is None)

    @metered
    async def migrate(self, drained: Drained | None) -> None:
        """Upgrade the copy, and build from it the values of the candidate's types."""
        if drained is None:
            assert self._snapshot is not None, "nothing was copied"
            self._source_digest = digest(self._snapshot.tree)
        self._upgrade(rehearsed=drained is None)

    @metered
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
        """Migrate what was written since the rehearsal, so that the pause checks only the rest.

        Calls wait for it as long as for the pause itself, which it makes shorter by a half: so only
        where that is short, and they have their turn in between.
        """
        if self.predicted_pause_s < _APPROACH_S_MAX:
            self.align()
            await asyncio.sleep(0)

    def committed(self) -> None:
        """Do nothing: the candidate has its state already."""

    async def settle(self) -> None:
        """Drop the copy."""
        self.abandon()

    def _take(self, *, rehearsed: bool) -> None:
        with _Cost(self, rehearsed=rehearsed, first=True):
            # In the window calls run on, maybe in other threads.
            met: Memo = {}
            take = partial(_frozen, self.module, self._old, met)
            self._snapshot = undisturbed(take) if rehearsed else take()
            if self._twins is not None:
                self._has_twins = self._twins.mark(self._snapshot.tree, met)
        if not rehearsed and self._old.seal is not None:
            self._old.seal.differs = Differs(self.module, self._old, self._snapshot.tree)
        self.records = self._snapshot.records

    def _upgrade(self, *, rehearsed: bool) -> None:
        assert self._snapshot is not None, "nothing was copied"
        with _Cost(self, rehearsed=rehearsed):
            self._values = self._whole.migrated(self._snapshot.tree)
        if rehearsed:  # in the pause only what was written since is checked for its way back
            self.predicted_pause_s -= self._whole.checking_s

    def _built(self, tree: dict[str, Any]) -> dict[str, Any]:
        new = self._new.definition
        known = seeds(tree) if self._has_twins else None
        values = restore(tree, new.schema, hints=new.hints, own=self._new.own, known=known)
        for name, residue in self._parked.items():
            if isinstance(values.get(name), dict):
                residue.merge_into(values[name], read_form(new.hints[name]).args[-1])
        return values

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


def _frozen(module: str, holder: Holder, met: Memo | None = None) -> Snapshot:
    definition = holder.definition
    return take(
        module,
        _snapshotted(holder),
        definition.schema,
        label=definition.label,
        hints=definition.hints,
        own=holder.own,
        met=met,
    )


class Differs:
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
        """Look, as often as somebody wants to know."""
        if not self._digest:
            self._digest, self._tree = digest(self._tree), {}
        try:
            return digest(_frozen(self._module, self._holder).tree) != self._digest
        except ReplankError:  # it holds something now that cannot be taken apart
            return True


def _snapshotted(holder: Holder) -> dict[str, Any]:
    carried = set(holder.definition.carried)
    return {name: value for name, value in holder.values().items() if name not in carried}


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
