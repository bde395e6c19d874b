"""The operations that call an author's functions: convert, split, merge, rekey, and whole pairs."""

from __future__ import annotations

import collections
from collections.abc import Callable
from typing import Any

from replank.errors import MigrationError, SchemaError
from replank.migration import paths
from replank.migration.operations import MISSING, Operation, Run, same
from replank.migration.paths import Location, children
from replank.plain import ITEMS_KEY, TYPE_KEY, digest, show

Function = Callable[..., Any]


class Convert(Operation):
    """Replace each value by what a function makes of it."""

    def __init__(self, path: str, up: Function, down: Function | None, *, lossy: bool) -> None:
        self.segments = paths.parse(path)
        self.path = path
        self.up, self.down = up, down
        self.lossy = lossy or down is None
        self.signature = f"convert {self.segments[-1] if self.segments else ''}"
        self.text = f"convert {path}"
        if not self.segments:
            raise SchemaError(
                "convert needs a path", do="use step(n, m, upgrade, downgrade) for the whole state"
            )

    def apply(self, tree: dict[str, Any], run: Run) -> dict[str, Any]:
        """Convert every value that the path leads to."""
        head, last = self.segments[:-1], self.segments[-1]
        own = frozenset({last})
        # Immutable containers on the way are made anew, so the way is walked by replacement.
        changed: dict[str, Any] = self._walk(tree, (*head, last), (), own, run)
        return changed

    def _walk(  # noqa: PLR0911 - one line a kind
        self, node: Any, way: tuple[str, ...], location: Location, own: frozenset[str], run: Run
    ) -> Any:
        if not way:
            return self._value(node, location, run)
        if node is None and location:
            return None
        segment, rest = way[0], way[1:]
        if isinstance(node, dict) and node.get(TYPE_KEY) == "$map" and segment == "*":
            for pair in node["pairs"] if self._turn(node, way, location, run) else ():
                at = (*location, show(pair[0]))
                pair[1] = self._walk(pair[1], rest, at, own, run)
            return node
        if isinstance(node, dict) and node.get(TYPE_KEY) == "$set" and segment == "*":
            node["items"] = self._walk(node["items"], way, location, own, run)
            return node
        if isinstance(node, dict):
            return self._dict(node, way, location, own, run)
        if isinstance(node, tuple | list) and segment.isdigit() and int(segment) < len(node):
            items = list(node)
            at = (*location, int(segment))
            items[int(segment)] = self._walk(items[int(segment)], rest, at, own, run)
            return _refill(node, items)
        if segment != "*":
            raise paths.no_field(segment, node, location)
        if not isinstance(node, tuple | frozenset) and not self._turn(node, way, location, run):
            return node
        found = children(node, own, location)
        return _refill(
            node, [self._walk(item, rest, (*location, key), own, run) for key, item in found]
        )

    def _dict(
        self,
        node: dict[Any, Any],
        way: tuple[str, ...],
        location: Location,
        own: frozenset[str],
        run: Run,
    ) -> Any:
        segment, rest = way[0], way[1:]
        if segment == "*" and TYPE_KEY in node and ITEMS_KEY in node:
            node[ITEMS_KEY] = self._walk(node[ITEMS_KEY], way, location, own, run)
        elif not self._turn(node, way, location, run):
            return node
        elif segment == "*":
            for key, item in children(node, own, location):
                node[key] = self._walk(item, rest, (*location, key), own, run)
        elif segment in node:
            node[segment] = self._walk(node[segment], rest, (*location, segment), own, run)
        elif TYPE_KEY not in node:
            raise paths.no_field(segment, node, location)
        return node

    def _turn(self, node: Any, way: tuple[str, ...], location: Location, run: Run) -> bool:
        """Tell whether to go on: what holds the converted values is changed only once."""
        return bool(way[1:]) or run.first_time(node, self, location, way)

    def _value(self, value: Any, location: Location, run: Run) -> Any:
        before = run.recall(location)
        # What the other direction made of a value goes back to that value exactly.
        if before is not MISSING and same(before[1], value):
            new = before[0]
        else:
            new = run.call(self.up, location, value)
        run.park(location, (value, new))
        return new

    def inverse(self) -> Operation | None:
        """Convert back, when there is a function for it."""
        if self.down is None:
            return None
        back = Convert(self.path, self.down, self.up, lossy=self.lossy)
        back.segments = self.segments
        return back


class Split(Operation):
    """Make several fields of one."""

    def __init__(
        self, path: str, into: tuple[str, ...], up: Function, down: Function | None
    ) -> None:
        self.segments, self.name = paths.parse_field(path)
        self.path = path
        self.into = tuple(paths.parse_name(name) for name in into)
        self.up, self.down = up, down
        self.lossy = down is None
        self.signature = f"split {self.name}"
        self.text = f"split {path} -> {', '.join(into)}"

    def apply(self, tree: dict[str, Any], run: Run) -> dict[str, Any]:
        """Replace the field by the parts."""
        own = frozenset({self.name, *self.into})
        for node, location in self.parents(tree, run, own):
            at = (*location, self.name)
            if self.name not in node:
                raise paths.no_field(self.name, node, location)
            value = node.pop(self.name)
            before = run.recall(location)
            if before is not MISSING and same(before[1], value):
                parts = before[0]
            else:
                parts = self._parts(run.call(self.up, at, value), value, at, run)
            for name, part in zip(self.into, parts, strict=True):
                if name in node:
                    raise run.fail((*location, name), "the new field exists", found=show(value))
                node[name] = part
            run.park(location, (value, parts))
        return tree

    def _parts(self, parts: Any, value: Any, at: Location, run: Run) -> tuple[Any, ...]:
        if not isinstance(parts, tuple | list) or len(parts) != len(self.into):
            raise run.fail(
                at,
                "the function did not return one value for each new field",
                found=f"old value {show(value)}, new value {show(parts)}",
                expected=f"({', '.join(self.into)})",
            )
        return tuple(parts)

    def inverse(self) -> Operation | None:
        """Merge the parts, when there is a function for it."""
        if self.down is None:
            return None
        back = Merge(self.path.rpartition(".")[0], self.into, self.name, self.down, self.up)
        back.segments = self.segments
        return back


class Merge(Operation):
    """Make one field of several."""

    def __init__(
        self, path: str, names: tuple[str, ...], into: str, up: Function, down: Function | None
    ) -> None:
        self.segments = paths.parse(path)
        self.path = path
        self.names = tuple(paths.parse_name(name) for name in names)
        self.into = paths.parse_name(into)
        self.up, self.down = up, down
        self.lossy = down is None
        self.signature = f"merge {into}"
        self.text = f"merge {path or 'the state'}: {', '.join(names)} -> {into}"

    def apply(self, tree: dict[str, Any], run: Run) -> dict[str, Any]:
        """Replace the parts by the one field."""
        own = frozenset({*self.names, self.into})
        for node, location in self.parents(tree, run, own):
            missing = next((name for name in self.names if name not in node), None)
            if missing is not None:
                raise paths.no_field(missing, node, location)
            parts = tuple(node.pop(name) for name in self.names)
            at = (*location, self.into)
            if self.into in node:
                raise run.fail(at, "the new field exists", found=show(node[self.into]))
            before = run.recall(location)
            if before is not MISSING and same(before[1], parts):
                value = before[0]
            else:
                value = run.call(self.up, at, *parts)
            node[self.into] = value
            run.park(location, (parts, value))
        return tree

    def inverse(self) -> Operation | None:
        """Split it again, when there is a function for it."""
        if self.down is None:
            return None
        path = f"{self.path}.{self.into}" if self.path else self.into
        back = Split(path, self.names, self.down, self.up)
        back.segments = self.segments
        return back


class Rekey(Operation):
    """Give every item of a dict another key."""

    def __init__(self, path: str, up: Function, down: Function | None, *, with_item: bool) -> None:
        self.segments = paths.parse(path)
        self.path = path
        self.up, self.down = up, down
        self.with_item = with_item
        self.lossy = down is None
        self.signature = "rekey"
        self.text = f"rekey {path}"

    def apply(self, tree: dict[str, Any], run: Run) -> dict[str, Any]:
        """Change the keys, in order; two items never share one."""
        for node, location in paths.nodes(tree, self.segments):
            if not isinstance(node, dict) or TYPE_KEY in node:
                raise run.fail(location, "a dict with plain keys is needed", found=show(node))
            if not run.first_time(node, self, location):
                continue
            items = list(node.items())
            node.clear()
            for key, item in items:
                at = (*location, key)
                before = run.recall(at)
                new = self._key(key, item, at, run) if before is MISSING else before
                if new in node:
                    raise run.fail(at, "two items get the same key", found=f"new key {show(new)}")
                node[new] = item
                run.park((*location, new), key)
        return tree

    def _key(self, key: Any, item: Any, at: Location, run: Run) -> Any:
        new = run.call(self.up, at, key, item) if self.with_item else run.call(self.up, at, key)
        try:
            hash(new)
        except TypeError:
            raise run.fail(at, "the new key cannot be a key", found=show(new)) from None
        return new

    def inverse(self) -> Operation | None:
        """Give the old keys back, when there is a function for it."""
        if self.down is None:
            return None
        back = Rekey(self.path, self.down, self.up, with_item=self.with_item)
        back.segments = self.segments
        return back


class Apply(Operation):
    """Give the whole state to a function that returns the new one."""

    def __init__(self, up: Function, down: Function | None) -> None:
        self.up, self.down = up, down
        self.lossy = down is None
        self.signature = "apply"
        self.text = f"{getattr(up, '__name__', 'a function')}(state)"

    def apply(self, tree: dict[str, Any], run: Run) -> dict[str, Any]:
        """Call the function."""
        new = run.call(self.up, (), tree)
        if not isinstance(new, dict) or not all(isinstance(name, str) for name in new):
            raise run.fail(
                (),
                "the function did not return a state",
                found=show(new),
                expected="a dict with the new state's fields",
                do="return the new state; it is not enough to change the old one",
            )
        return new

    def apply_checked(self, tree: dict[str, Any], run: Run) -> dict[str, Any]:
        """Call the function and make sure that it left the old state alone.

        Raises:
            MigrationError: It changed the old state: then nothing could be put back.
        """
        before = digest(tree)
        new = self.apply(tree, run)
        if digest(tree) != before:
            raise MigrationError(
                f"{run.step} failed: {self.text} changed the old state",
                found="the old state is another one than before the call",
                expected="a function that builds a new state and leaves the old one alone",
                do="copy what you change: {**old, 'field': value}",
            )
        return new

    def inverse(self) -> Operation | None:
        """Call the other function, when there is one."""
        return None if self.down is None else Apply(self.down, self.up)


def _refill(node: Any, items: list[Any]) -> Any:
    if isinstance(node, list | collections.deque):
        for index, item in enumerate(items):
            node[index] = item
        return node
    if isinstance(node, set):
        node.clear()
        node.update(items)
        return node
    return type(node)(items)


__all__ = ["Apply", "Convert", "Function", "Merge", "Rekey", "Split"]
