"""Write a live state to a file piece by piece, where nothing else runs: in a forked child.

A state that is copied whole needs its own size again as a tree. Here some hundred records are
taken apart, written and dropped at a time. What makes that possible is that nothing changes: an
object keeps its id, and one that a single container refers to cannot be met a second time. So of
what was taken apart only that is remembered which something else refers to, too; it gets a number
in the file, and whoever refers to it later refers to the number.

Only what has a holder in the memo may be dropped. Tuples of a known type are not in it: where a
type has one that can hold more than plain values, the field is copied whole.
"""

from __future__ import annotations

import ctypes
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, Final

import msgspec

from replank.hints import read_form, record_fields
from replank.plain import SCALAR_TYPES, TYPE_KEY, Walk, too_deep
from replank.state.format import CHUNK_ITEMS, Snapshot, framed, header_of
from replank.state.freezing import Freezer
from replank.state.memo import new_memo
from replank.state.snapshot import count_records
from replank.state.tree import Trees
from replank.state.wire import WireWriter, shared_nodes
from replank.table import Table

_MADE_BY: Final = -1
_RESERVED: Final = 2
"""Keys of a new memo that are no ids."""


def stream(head: Snapshot, values: Mapping[str, Any], trees: Trees) -> Iterator[bytes]:
    """Yield the parts of a snapshot's file; nothing may change until the last one.

    Args:
        head: All but the state: its tree is empty; its messages are taken.
        values: The state, field by field, as its schema names it.
        trees: The functions of the generation that holds it.

    Raises:
        Conflict: Two fields say different things about one container: copy the state whole.
        MigrationError: A value cannot be taken apart.
        SnapshotError: The state holds something that cannot be on disk.
    """
    return framed(_Streaming(head, values, trees).wires())


class _Streaming:
    def __init__(self, head: Snapshot, values: Mapping[str, Any], trees: Trees) -> None:
        self.head = head
        self.values = values
        self.hints = trees.hints
        self.freezer = trees.freezer
        self.met = _Met()
        self.writer = WireWriter(self.met.shared)

    def wires(self) -> Iterator[Any]:
        times = Counter(map(id, self.values.values()))
        walks = {
            name: None if times[id(value)] > 1 else piecewise(value, self._hint(name), self.freezer)
            for name, value in self.values.items()
        }
        pieces: dict[str, tuple[dict[Any, Any], Walk]] = {}
        for name, walk in walks.items():
            if walk is not None:  # before all others, so that they can refer to it
                pieces[name] = (self.met.enter(self.values[name]), walk)
        whole = {name: self._whole(name) for name, walk in walks.items() if walk is None}
        records = count_records(whole) + sum(len(self.values[name]) for name in pieces)
        yield header_of(msgspec.structs.replace(self.head, records=records))
        for name in self.values:
            if name in whole:
                yield ["field", name, self.writer.write(whole.pop(name), name)]
                continue
            node, walk = pieces[name]
            yield ["field", name, self.writer.write(node, name)]
            yield from self._pieces(name, walk)
        messages = list(self.head.messages)
        self.met.shared |= shared_nodes(messages)
        for n, message in enumerate(messages):
            yield ["message", self.writer.write(message, f"message {n}")]

    def _hint(self, name: str) -> Any:
        return self.hints.get(name, Any)

    def _whole(self, name: str) -> Any:
        try:
            node = self.freezer.walk(self._hint(name))(self.values[name], self.met.memo)
        except RecursionError:
            raise too_deep() from None
        self.met.remember(all_of_it=True)
        self.met.shared |= shared_nodes([node])
        return node

    def _pieces(self, name: str, walk: Walk) -> Iterator[Any]:
        items = iter(self.values[name].items())
        write, memo = self.writer.write, self.met.memo
        while True:
            keys: list[Any] = []
            nodes: list[Any] = []
            try:
                for key, value in islice(items, CHUNK_ITEMS):
                    keys.append(key)
                    nodes.append(walk(value, memo))
                key = value = None  # they would count as holders
            except RecursionError:
                raise too_deep() from None
            if not keys:
                return
            self.met.remember()
            wires = [write(node, f"{name}[{key!r}]") for key, node in zip(keys, nodes, strict=True)]
            yield ["items", name, [write(key, f"a key of {name}") for key in keys], wires]


def piecewise(value: Any, hint: Any, freezer: Freezer) -> Walk | None:
    """Return what takes the items of a large container apart; None when it is to be copied whole.

    Args:
        value: The field's value.
        hint: Its type.
        freezer: Compiles the functions.
    """
    table = isinstance(value, Table)
    if not (table or type(value) is dict) or len(value) <= CHUNK_ITEMS:
        return None
    form = read_form(hint)
    if form.kind == ("table" if table else "dict"):
        walk = freezer.walk(form.args[1])
    elif not table and freezer.walk(hint) == freezer.untyped:
        walk = freezer.untyped
    else:
        return None
    if not SCALAR_TYPES.issuperset(map(type, value)) or TYPE_KEY in value:
        return None
    return None if _holds_tuples(hint, freezer, set()) else walk


def _holds_tuples(hint: Any, freezer: Freezer, seen: set[Any]) -> bool:
    """Tell whether a type has tuples that may hold what can be shared."""
    form = read_form(hint)
    if form.kind == "tuple":
        return any(freezer.exact_types(arg) is None for arg in form.args)
    parts = list(form.args)
    if form.kind == "record":
        if form.cls in seen:
            return False
        seen.add(form.cls)
        parts += [field.hint for field in record_fields(form.cls)]
    return any(_holds_tuples(part, freezer, seen) for part in parts)


class _Met:
    """What was taken apart and may be met again."""

    def __init__(self) -> None:
        self.memo = new_memo()
        self.shared: set[int] = set()
        """The ids of the nodes that get a number in the file; the memo keeps them alive."""
        self._known = _RESERVED
        alone = [object()]
        self._alone = _references(id(alone[0]))
        """What is counted of an object that one container refers to."""

    def enter(self, value: Any) -> dict[Any, Any]:
        """Return the node that stands for a container whose items are written apart."""
        node: dict[Any, Any] = {}
        self.memo[id(value)] = node
        self.shared.add(id(node))
        self._known += 1
        return node

    def remember(self, *, all_of_it: bool = False) -> None:
        """Go through what was met since the last time, and drop what nothing else refers to.

        Args:
            all_of_it: Drop nothing; number what something else refers to all the same.
        """
        memo = self.memo
        for key in list(islice(reversed(memo), len(memo) - self._known)):
            if _references(key) > self._alone:
                self.shared.add(id(memo[key]))
            elif not all_of_it:
                del memo[key]
        self._known = len(memo)
        made = memo.get(_MADE_BY)
        if made:
            for key in [key for key in made if key not in memo]:
                del made[key]


def _references(key: int) -> int:
    """Count what refers to the object of an id; it must be alive."""
    return sys.getrefcount(ctypes.cast(key, ctypes.py_object).value)


__all__ = ["piecewise", "stream"]
