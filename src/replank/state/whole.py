"""Migrate a whole small state at once; sort out its bad records only when something fails.

Every record is checked: going up and down again must give it back. What was checked in the
rehearsal and has not changed since is not checked again while calls wait.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Any, Protocol

from replank.errors import MigrationError, ReplankError, TooManyBadRecords
from replank.plain import TYPE_KEY, same, show
from replank.state.bad_policy import BadRecords, BadTable
from replank.state.items import Interpreted
from replank.state.residue import PARKED

Tree = dict[str, Any]


class Way(Protocol):
    """What takes a class-free state from one schema to another."""

    @property
    def reversible(self) -> bool:
        """Whether there is a way back."""

    def upgrade(self, tree: Tree) -> Tree:
        """Return the new state; the old one is not touched."""

    def back(self, tree: Tree, new: Tree | None = None, /) -> Tree | None:
        """Return what going up and down again makes of it; None when that says nothing.

        Args:
            tree: The old state, or a part of it.
            new: What the last `upgrade` made of it, when it was this very tree.
        """


class WholeState:
    """Takes one state over, as often as it is asked.

    Args:
        module: The module's name.
        way: The way of its state.
        build: Makes values of the new types from a tree.
        items: By field, the way of the items of each table or dict that can be taken one by one.
        bad: Decides about records that do not migrate.
    """

    def __init__(
        self,
        module: str,
        way: Way,
        build: Callable[[Tree], dict[str, Any]],
        items: Mapping[str, Interpreted],
        bad: BadRecords,
    ) -> None:
        self._module = module
        self._way = way
        self._build = build
        self._items = items
        self._bad = bad
        self._tables: dict[str, BadTable] = {}
        self._checked: Tree = {}
        self.checking_s = 0.0
        """What the check of the way back took the last time, in seconds."""
        self._sound: dict[str, dict[Any, Any]] = {}
        """Records that migrate, by field and key; kept only when others do not."""

    def migrated(self, tree: Tree) -> dict[str, Any]:
        """Return the values of the new version.

        Raises:
            MigrationError: A step failed, or a value does not fit; naming the record when it is
                one record's fault.
        """
        self.checking_s = 0.0
        self._start_anew()
        try:
            if self._sound:  # the rehearsal has met bad ones: they are here still
                return self._without_bad(tree, None)
            return self._whole(tree, {}, tree)
        except TooManyBadRecords:
            raise
        except MigrationError as error:
            if not self._bad.tolerant or self._sound:
                raise
            return self._without_bad(tree, error)

    def _start_anew(self) -> None:
        for table in self._tables.values():
            table.noted.clear()

    def _whole(
        self, tree: Tree, mended: Mapping[str, dict[Any, Any]], complete: Tree
    ) -> dict[str, Any]:
        new = _upgraded(self._way, tree, self._module)
        begin = perf_counter()
        self._check_back(tree, new)
        self.checking_s += perf_counter() - begin
        for field, records in mended.items():
            name = self._items[field].fields[1]
            made = {**new[name], **records}
            new[name] = {key: made[key] for key in complete[field] if key in made}
        return self._build(new)

    def _without_bad(self, tree: Tree, error: MigrationError | None) -> dict[str, Any]:
        """Take the bad records out and try again.

        Raises:
            MigrationError: The error, when no single record is at fault.
        """
        kept, mended = dict(tree), {}
        for field in self._items:
            if not _has_items(tree.get(field)):
                continue
            made = self._sort_out(field, tree[field])
            if made:
                kept[field] = {key: node for key, node in tree[field].items() if key not in made}
                mended[field] = {key: node for key, node in made.items() if node is not PARKED}
        if error is not None and not mended:
            self._sound.clear()
            raise error
        return self._whole(kept, mended, tree)

    def _sort_out(self, field: str, nodes: dict[Any, Any]) -> dict[Any, Any]:
        """Return what became of each record that does not migrate by itself."""
        way, sound = self._items[field], self._sound.setdefault(field, {})
        if field not in self._tables:
            table = self._bad.table(way)
            assert table is not None, "bad records are sorted out only where they are let through"
            self._tables[field] = table
        made = {}
        for key, node in nodes.items():
            if key in sound and same(sound[key], node):
                continue
            try:
                _try(way, node)
                sound[key] = node
            except Exception as error:
                sound.pop(key, None)
                made[key] = self._tables[field].handle_node(key, node, error)
        return made

    def _check_back(self, tree: Tree, new: Tree) -> None:
        """Make sure that what was not checked yet comes back by going down again.

        Raises:
            MigrationError: It does not; naming the field, and the record when it is in a table.
        """
        part = self._unchecked(tree)
        if not part:
            return
        if 2 * _size(part) > _size(tree):  # it has gone up already: the other half of the way
            part = tree
        back = self._way.back(part, new if part is tree else None)
        if back is None or same(back, part):
            self._checked = tree
            return
        field = next(
            (name for name in part if not same(back.get(name), part[name])), next(iter(back))
        )
        was: Any = part.get(field)
        now: Any = back.get(field)
        if field in self._items and _has_items(was) and _has_items(now):
            key = next((key for key in was if not same(now.get(key), was[key])), None)
            raise _not_back(f"record {show(key)} of {field}", was.get(key), now.get(key))
        raise _not_back(f"the field {field}", was, now)

    def _unchecked(self, tree: Tree) -> Tree:
        if not self._way.reversible:
            return {}
        before = self._checked
        if tree.keys() != before.keys():
            return tree
        part = {}
        for name, node in tree.items():
            if name in self._items and _has_items(node) and _has_items(before[name]):
                seen = before[name]
                changed = {k: v for k, v in node.items() if k not in seen or not same(seen[k], v)}
                part[name] = changed
            else:
                part[name] = node
        return part if not same(part, before) and any(part.values()) else {}


def _has_items(node: Any) -> bool:
    return isinstance(node, dict) and TYPE_KEY not in node


def _size(tree: Tree) -> int:
    return sum(len(node) if _has_items(node) else 1 for node in tree.values())


def _try(way: Interpreted, node: Any) -> None:
    new = way.up_node(node)
    way.thaw(new)
    if way.backward is not None and not same(way.down_node(new, node), node):
        raise _not_back("the record", node, way.down_node(new, node))


def _not_back(what: str, was: Any, now: Any) -> MigrationError:
    return MigrationError(
        f"{what} does not come back the same by going up and down",
        found=show(now),
        expected=show(was),
        do="correct the step's two directions, or declare the conversion lossy=True",
    )


def _upgraded(way: Way, tree: Tree, module: str) -> Tree:
    try:
        return way.upgrade(tree)
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


__all__ = ["Way", "WholeState"]
