"""The operations of migration steps, on trees.

An operation knows one direction, and its inverse is another operation. What a direction loses it
*parks*, under the location where it was; the inverse, run at the same place of the path, finds it
there. So `old -> new -> old` gives the old state back although a field was removed on the way,
and what only the new version knows comes back when it returns. A converted value that nobody
changed meanwhile returns to exactly what it was, however often it goes up and down.

Operations change the tree they get; the engine hands them a copy.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

from replank.errors import MigrationError
from replank.migration import paths
from replank.migration.paths import Location
from replank.plain import SCALAR_TYPES, TYPE_KEY, show

MISSING: Any = type("Missing", (), {"__repr__": lambda _self: "..."})()
"""Stands for "not given"."""

Parked = dict[Location, list[Any]]
"""What one operation of a path lost, by location."""

Seen = dict[tuple[int, str], tuple[Any, "Operation", "Run", Location, int]]
"""By node and kind of change: the node, what changed it, in which run, and where it is parked."""


class Run:
    """One operation's run over one tree.

    Args:
        step: How to call the step in errors: "step 1 -> 2".
        found: What the inverse parked, in an earlier run the other way.
        seen: Nodes that were changed in this step already: an object that two fields share is
            changed once, also when a path for each of them is given.
    """

    def __init__(
        self,
        step: str,
        found: Parked | None = None,
        seen: Seen | None = None,
    ) -> None:
        self.step = step
        self.found = found or {}
        self.parked: Parked = {}
        self.seen: Seen = {} if seen is None else seen

    def park(self, location: Location, value: Any) -> None:
        """Keep what is lost here."""
        self.parked.setdefault(location, []).append(value)

    def recall(self, location: Location) -> Any:
        """Return what the inverse lost here, or `MISSING`."""
        values = self.found.get(location) if self.found else None
        return values.pop(0) if values else MISSING

    def first_time(
        self, node: Any, operation: Operation, location: Location, field: tuple[str, ...] = ()
    ) -> bool:
        """Tell whether a node still has to be changed, and note that it was.

        What was lost when it was changed is parked for this location too: the way back may come
        here first.

        Args:
            node: It may be reached by several paths.
            operation: What is done to it.
            location: Where it was met now.
            field: Where the operation parks below the node, when not at the node itself.
        """
        key = (id(node), operation.signature)
        where = (*location, *field) if field else location
        before = self.seen.get(key)
        # The same path given twice means two changes in a row; another path, the same change.
        if before is not None and (
            before[1] is operation or before[1].segments != operation.segments
        ):
            changed_by, at, place = before[2:]
            lost = changed_by.parked.get(at, ())
            if place < len(lost):
                self.park(where, lost[place])
            self.recall(where)  # it was put back already; what follows belongs to the next one
            return False
        # The node is kept: its id must stay its own.
        place = len(self.parked.get(where, ())) if self.parked else 0
        self.seen[key] = (node, operation, self, where, place)
        return True

    def call(self, function: Callable[..., Any], location: Location, *values: Any) -> Any:
        """Call an author's function; what it raises becomes an error that says where.

        Raises:
            MigrationError: It raised.
        """
        try:
            return function(*values)
        except Exception as error:
            old = ", ".join(show(value) for value in values)
            raise MigrationError(
                f"{self.step} failed at {paths.shown(location)}: {type(error).__name__}: {error}",
                found=f"old value {old}",
                expected=f"{getattr(function, '__qualname__', 'the function')} to return the new",
                do="mend the step for values like this one",
            ).at(self.step, location, old=old) from error

    def fail(self, location: Location, what: str, **facts: str) -> MigrationError:
        """Return an error that names the step and the place."""
        error = MigrationError(f"{self.step} failed at {paths.shown(location)}: {what}", **facts)
        return error.at(self.step, location)


class Operation:
    """One change of a tree.

    `segments` is the way to the node that is changed; `signature` says what is done to it.
    """

    segments: tuple[str, ...] = ()
    signature: str = ""
    text: str = ""
    lossy: bool = False

    def apply(self, tree: dict[str, Any], run: Run) -> dict[str, Any]:
        """Change a tree in place, or return another one.

        Raises:
            MigrationError: A value cannot be changed.
        """
        raise NotImplementedError

    def inverse(self) -> Operation | None:
        """Return the operation of the other direction, None when there is none."""
        raise NotImplementedError

    def under(self, prefix: str) -> Operation:
        """Return the same operation for every node under a path."""
        changed = copy.copy(self)
        changed.segments = (*paths.parse(prefix), *self.segments)
        return changed

    def __repr__(self) -> str:
        return self.text

    def parents(
        self, tree: Any, run: Run, own: frozenset[str]
    ) -> Iterator[tuple[dict[str, Any], Location]]:
        """Yield the dicts to change, each once."""
        for node, location in paths.nodes(tree, self.segments, own):
            if node is None:
                continue
            if not isinstance(node, dict):
                raise run.fail(location, "a record is needed here", found=show(node))
            if run.first_time(node, self, location):
                yield node, location


class Add(Operation):
    """Add a field; the value is a default, made by a factory, or computed from the record."""

    def __init__(
        self,
        path: str,
        default: Any = MISSING,
        factory: Callable[[], Any] | None = None,
        compute: Callable[[Any], Any] | None = None,
        *,
        forgot: bool = False,
    ) -> None:
        self.segments, self.name = paths.parse_field(path)
        self.path = path
        self.default, self.factory, self.compute = default, factory, compute
        self.signature = f"add {self.name}"
        self.text = f"add {path}"
        self.forgot = forgot  # the inverse of a remove without a default
        self._is_scalar = default.__class__ in SCALAR_TYPES  # which nobody can change

    def apply(self, tree: dict[str, Any], run: Run) -> dict[str, Any]:
        """Add the field to each record."""
        for node, location in self.parents(tree, run, frozenset({self.name})):
            at = (*location, self.name)
            if self.name in node:
                raise run.fail(at, "the field to add exists", found=show(node[self.name]))
            value = run.recall(location)
            if value is MISSING:
                if self.forgot:
                    continue  # its type's default fills it in, or building the record says so
                value = self._make(node, run, at)
            node[self.name] = value
        return tree

    def _make(self, node: Any, run: Run, at: Location) -> Any:
        if self.compute is not None:
            return run.call(self.compute, at, node)
        if self.factory is not None:
            return self.factory()
        return self.default if self._is_scalar else copy.deepcopy(self.default)

    def inverse(self) -> Operation:
        """Remove it again."""
        return self._as(Remove(self.path, self.default, self.factory, self.compute))

    def _as(self, other: Operation) -> Operation:
        other.segments = self.segments
        return other


class Remove(Operation):
    """Remove a field and park its value."""

    def __init__(
        self,
        path: str,
        default: Any = MISSING,
        factory: Callable[[], Any] | None = None,
        compute: Callable[[Any], Any] | None = None,
    ) -> None:
        self.segments, self.name = paths.parse_field(path)
        self.path = path
        self.default, self.factory, self.compute = default, factory, compute
        self.signature = f"remove {self.name}"
        self.text = f"remove {path}"
        self.lossy = default is MISSING and factory is None and compute is None

    def apply(self, tree: dict[str, Any], run: Run) -> dict[str, Any]:
        """Take the field out of each record."""
        for node, location in self.parents(tree, run, frozenset({self.name})):
            if self.name in node:
                run.park(location, node.pop(self.name))
            elif TYPE_KEY not in node:
                raise paths.no_field(self.name, node, location)
        return tree

    def inverse(self) -> Operation:
        """Add it again, with what was parked or the default."""
        add = Add(self.path, self.default, self.factory, self.compute, forgot=self.lossy)
        add.segments = self.segments
        return add


class Automatic(Operation):
    """A field that the new type adds with a default: building the record fills it in."""

    def __init__(self, path: str, *, drop: bool = False) -> None:
        self.segments, self.name = paths.parse_field(path)
        self.path = path
        self.drop = drop
        self.signature = f"automatic {self.name}"
        self.text = f"{'drop' if drop else 'fill in'} {path}"

    def apply(self, tree: dict[str, Any], run: Run) -> dict[str, Any]:
        """Put back what was parked, or park and drop."""
        for node, location in self.parents(tree, run, frozenset({self.name})):
            if self.drop:
                if self.name in node:
                    run.park(location, node.pop(self.name))
            elif (value := run.recall(location)) is not MISSING:
                node[self.name] = value
        return tree

    def inverse(self) -> Operation:
        """Drop instead of fill in, or the other way round."""
        return Automatic(self.path, drop=not self.drop)


class Rename(Operation):
    """Give a field another name."""

    def __init__(self, path: str, name: str) -> None:
        self.segments, self.name = paths.parse_field(path)
        self.path = path
        self.to = paths.parse_name(name)
        self.signature = f"rename {self.name} {name}"
        self.text = f"rename {path} -> {name}"

    def apply(self, tree: dict[str, Any], run: Run) -> dict[str, Any]:
        """Move the value, keeping the order of the fields."""
        for node, location in self.parents(tree, run, frozenset({self.name, self.to})):
            if self.to in node:
                raise run.fail(
                    (*location, self.to), "the new name exists", found=show(node[self.to])
                )
            if self.name not in node:
                if TYPE_KEY in node:
                    continue
                raise paths.no_field(self.name, node, location)
            node[self.to] = node.pop(self.name)
        return tree

    def inverse(self) -> Operation:
        """Give the old name back."""
        head, _, _ = self.path.rpartition(".")
        back = Rename(f"{head}.{self.to}" if head else self.to, self.name)
        back.segments = self.segments
        return back


def same(one: Any, other: Any) -> bool:
    """Tell whether two nodes are equal; nodes that cannot be compared are not."""
    try:
        return bool(one == other) and type(one) is type(other)
    except Exception:
        return False


__all__ = [
    "MISSING",
    "Add",
    "Automatic",
    "Operation",
    "Parked",
    "Remove",
    "Rename",
    "Run",
    "same",
]
