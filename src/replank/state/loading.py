"""Build a state from its file, some hundred records at a time, in slices on the event loop.

A state that is read whole, then built, needs three times its size: as nodes, as values, and for
what says which node became which value. Where no migration lies between the file and the code, the
nodes of each part are dropped when its values are built. Only those with a number in the file are
kept, for something later may refer to them.

A thread would be the wrong place: beside a loop that never rests it got a twentieth of the time.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Final

import msgspec

from replank.hints import read_form
from replank.migration.engine import Migration
from replank.plain import too_deep
from replank.shapes import Schema
from replank.state.building import Mismatch
from replank.state.collector import CollectorGuard
from replank.state.format import Snapshot, SnapshotReader
from replank.state.memo import new_memo
from replank.state.names import Namespace
from replank.state.slices import Slices
from replank.state.snapshot import check_fields, opened, restore, trees_of
from replank.state.tree import mismatch_error
from replank.threads import brisk_switching, in_thread

_RESERVED: Final = 2
"""Keys of a new memo that are no ids."""


def read_head(path: Path) -> Snapshot:
    """Return what a file says of its state, without the state.

    Args:
        path: The file.

    Raises:
        SnapshotError: There is none, or it is no snapshot.
    """
    with opened(path) as reader:
        return reader.head()


Loaded = tuple[Snapshot, dict[str, Any]]


async def load(
    path: Path, way: Migration, schema: Schema, hints: Mapping[str, Any], own: Namespace
) -> Loaded:
    """Read a file, migrate what is in it, and build the values, while calls go on.

    Args:
        path: The file.
        way: From its schema to the code's.
        schema: The code's.
        hints: Resolved hint of each field.
        own: The names of the generation.

    Returns:
        The snapshot without its tree, and the values of the fields that it has.

    Raises:
        SnapshotError: The file is torn, corrupt or foreign.
        MigrationError: A step failed, or a value does not fit its type.
    """
    with CollectorGuard():
        if way.identity:
            return await Slices().run(load_steps(path, schema, hints, own))
        with brisk_switching():
            return await in_thread(_load_whole, path, way, schema, hints, own)


def load_steps(
    path: Path, schema: Schema, hints: Mapping[str, Any], own: Namespace
) -> Generator[None, None, Loaded]:
    """Read a file of this very schema, a part at a time; arguments and result as for `load`."""
    with opened(path) as reader:
        head = reader.head()
        values = yield from _Loading(reader, schema, hints, own).steps()
        return msgspec.structs.replace(head, messages=tuple(reader.messages)), values


def _load_whole(
    path: Path, way: Migration, schema: Schema, hints: Mapping[str, Any], own: Namespace
) -> Loaded:
    with opened(path) as reader:
        snapshot = reader.snapshot()
    tree = way.upgrade(snapshot.tree)
    snapshot = msgspec.structs.replace(snapshot, tree={})
    return snapshot, restore(tree, schema, hints=hints, own=own)


class _Loading:
    def __init__(
        self, reader: SnapshotReader, schema: Schema, hints: Mapping[str, Any], own: Namespace
    ) -> None:
        self.reader = reader
        self.schema = schema
        self.hints = hints
        self.trees = trees_of(hints, own)
        self.memo = new_memo()
        self.values: dict[str, Any] = {}
        self._waiting: tuple[str, Any] | None = None
        """A field that is built when all its items are there."""
        self._late: dict[str, Any] = {}
        """Untyped fields: what they share with typed ones is built by its type."""
        self._known = _RESERVED
        self._numbered: set[int] = set()
        self._numbers = 0

    def steps(self) -> Generator[None, None, dict[str, Any]]:
        for part in self.reader.parts():
            if part.more:
                self._more(part.name, part.node)
            else:
                self._begin(part.name, part.node)
            self._forget()
            yield
        self._finish_waiting()
        for name, node in self._late.items():
            self._build(name, node)
        check_fields(self.values, self.schema)
        return self.values

    def _begin(self, name: str, node: Any) -> None:
        self._finish_waiting()
        kind = read_form(self.hints.get(name, Any)).kind
        if kind == "any":
            self._late[name] = node
        elif kind in ("table", "dict"):
            self._build(name, node)
        else:
            self._waiting = (name, node)

    def _more(self, name: str, items: dict[Any, Any]) -> None:
        if name in self._late:
            self._late[name].update(items)
        elif self._waiting is not None:
            self._waiting[1].update(items)
        else:
            self.values[name].update(self._thawed(name, items))

    def _finish_waiting(self) -> None:
        if self._waiting is not None:
            self._build(*self._waiting)
            self._waiting = None

    def _build(self, name: str, node: Any) -> None:
        self.values[name] = self._thawed(name, node)

    def _thawed(self, name: str, node: Any) -> Any:
        try:
            return self.trees.thawer.walk(self.hints.get(name, Any))(node, self.memo)
        except Mismatch as error:
            error.at(name)
            raise mismatch_error(error) from None
        except RecursionError:
            raise too_deep() from None

    def _forget(self) -> None:
        """Drop what is known of nodes that nothing later can refer to: they go away."""
        nodes = self.reader.reader.nodes
        for number in islice(reversed(nodes), len(nodes) - self._numbers):
            self._numbered.add(id(nodes[number]))
        self._numbers = len(nodes)
        memo = self.memo
        for key in list(islice(reversed(memo), len(memo) - self._known)):
            if key not in self._numbered:
                del memo[key]
        self._known = len(memo)
        memo[0].clear()


__all__ = ["load", "load_steps", "read_head"]
