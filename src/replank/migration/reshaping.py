"""The operations that put fields elsewhere: move, nest, flatten."""

from __future__ import annotations

from typing import Any

from replank.errors import SchemaError
from replank.migration import paths
from replank.migration.operations import Operation, Run
from replank.migration.paths import Location
from replank.plain import TYPE_KEY, show


class Move(Operation):
    """Move a field to another record, above, below or beside."""

    def __init__(self, path: str, to: str) -> None:
        source, self.name = paths.parse_field(path)
        target, self.to = paths.parse_field(to)
        self.path, self.to_path = path, to
        shared = 0
        while shared < min(len(source), len(target)) and source[shared] == target[shared]:
            shared += 1
        if "*" in source[shared:] or "*" in target[shared:]:
            raise SchemaError(
                "a field can be moved only within one item: every `*` of both paths must agree",
                found=f"{path} -> {to}",
                do="write a pair of functions for a change across items",
            )
        self.segments = source[:shared]
        self.source, self.target = source[shared:], target[shared:]
        self.signature = f"move {'.'.join(self.source)}.{self.name} {self.to}"
        self.text = f"move {path} -> {to}"

    def apply(self, tree: dict[str, Any], run: Run) -> dict[str, Any]:
        """Take the value out of one record and put it into the other."""
        for node, location in self.parents(tree, run, frozenset({self.name, self.to})):
            source = self._reach(node, self.source, location, run)
            if self.name not in source:
                raise paths.no_field(self.name, source, (*location, *self.source))
            target = self._reach(node, self.target, location, run)
            if self.to in target:
                raise run.fail((*location, *self.target, self.to), "the target exists")
            target[self.to] = source.pop(self.name)
        return tree

    def _reach(self, node: Any, way: tuple[str, ...], location: Location, run: Run) -> Any:
        for name in way:
            if not isinstance(node, dict) or name not in node:
                raise paths.no_field(name, node, location)
            node = node[name]
            location = (*location, name)
        if not isinstance(node, dict):
            raise run.fail(location, "a record is needed here", found=show(node))
        return node

    def inverse(self) -> Operation:
        """Move it back."""
        back = Move(self.to_path, self.path)
        back.segments = self.segments
        return back


class Nest(Operation):
    """Put fields of a record into a record of their own."""

    def __init__(self, path: str, names: tuple[str, ...], into: str) -> None:
        self.segments = paths.parse(path)
        self.path = path
        self.names = tuple(paths.parse_name(name) for name in names)
        self.into = paths.parse_name(into)
        self.signature = f"nest {into}"
        self.text = f"nest {path or 'the state'}: {', '.join(names)} -> {into}"

    def apply(self, tree: dict[str, Any], run: Run) -> dict[str, Any]:
        """Take the fields out and put them one level down."""
        own = frozenset({*self.names, self.into})
        for node, location in self.parents(tree, run, own):
            missing = next((name for name in self.names if name not in node), None)
            if missing is not None:
                raise paths.no_field(missing, node, location)
            inner = {name: node.pop(name) for name in self.names}
            if self.into in node:
                raise run.fail((*location, self.into), "the new field exists")
            node[self.into] = inner
        return tree

    def inverse(self) -> Operation:
        """Lift them out again."""
        back = Flatten(_join(self.path, self.into), self.names)
        back.segments = self.segments
        return back


class Flatten(Operation):
    """Lift the fields of an inner record into the one that holds it."""

    def __init__(self, path: str, names: tuple[str, ...]) -> None:
        self.segments, self.name = paths.parse_field(path)
        self.path = path
        self.names = tuple(paths.parse_name(name) for name in names)
        self.signature = f"flatten {self.name}"
        self.text = f"flatten {path}: {', '.join(names)}"

    def apply(self, tree: dict[str, Any], run: Run) -> dict[str, Any]:
        """Put the inner fields one level up."""
        own = frozenset({*self.names, self.name})
        for node, location in self.parents(tree, run, own):
            inner = node.pop(self.name, None)
            if not isinstance(inner, dict):
                raise run.fail((*location, self.name), "a record is needed", found=show(inner))
            fields = {key: value for key, value in inner.items() if key != TYPE_KEY}
            if set(fields) != set(self.names):
                raise run.fail(
                    (*location, self.name),
                    "its fields are others than the step says",
                    found=", ".join(map(str, fields)),
                    expected=", ".join(self.names),
                )
            for key, value in fields.items():
                if key in node:
                    raise run.fail((*location, key), "the field exists one level up")
                node[key] = value
        return tree

    def inverse(self) -> Operation:
        """Put them down again."""
        head, _, _ = self.path.rpartition(".")
        back = Nest(head, self.names, self.name)
        back.segments = self.segments
        return back


def _join(head: str, name: str) -> str:
    return f"{head}.{name}" if head else name


__all__ = ["Flatten", "Move", "Nest"]
