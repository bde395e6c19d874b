"""Trees as MessagePack: what MessagePack has no word for is a map with the key `$`.

Nodes that are referred to more than once are numbered when they are first written and referred to
by number afterwards, so aliasing and cycles survive on disk. Most of a large state is flat records
of simple scalars; they are encoded as they are, without a walk over their fields.
"""

from __future__ import annotations

import collections
import datetime as dt
import decimal
import uuid
import zoneinfo
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import Any

import msgspec

from replank.errors import SnapshotError
from replank.plain import SCALAR_TYPES, DefaultNode, Opaque, show

TAG = "$"
_SIMPLE = frozenset({type(None), bool, int, float, str, bytes})
_INT_MIN, _INT_MAX = -(1 << 63), (1 << 64) - 1
_FACTORIES = {
    cls.__name__: cls for cls in (int, float, str, bool, bytes, list, dict, set, tuple, frozenset)
}
_ITEM_KINDS: dict[type, str] = {
    tuple: "tuple",
    set: "set",
    frozenset: "frozenset",
    collections.deque: "deque",
}
_PAIR_KINDS: dict[type, str] = {
    dict: "dict",
    collections.OrderedDict: "ordereddict",
    collections.Counter: "counter",
    DefaultNode: "default",
}
_PAIR_CLASSES = {kind: cls for cls, kind in _PAIR_KINDS.items()}

encode: Callable[[Any], bytes] = msgspec.msgpack.Encoder().encode
decode: Callable[[bytes], Any] = msgspec.msgpack.Decoder(strict=True).decode


class _Refused(Exception):
    """A node that cannot be on disk; each level on the way out adds where it was."""

    def __init__(self, what: str, node: Any) -> None:
        super().__init__(what)
        self.what = what
        self.node = node
        self.places: list[str] = []


def shared_nodes(roots: list[Any]) -> frozenset[int]:
    """Return the ids of the containers that are referred to more than once."""
    seen: set[int] = set()
    shared: set[int] = set()
    stack = [root for root in roots if root.__class__ not in SCALAR_TYPES]
    scalars = SCALAR_TYPES
    while stack:
        node = stack.pop()
        key = id(node)
        if key in seen:
            shared.add(key)
            continue
        seen.add(key)
        if isinstance(node, dict):
            if not scalars.issuperset(map(type, node.values())):
                stack += [part for part in node.values() if part.__class__ not in scalars]
        elif isinstance(node, list | tuple | collections.deque):
            stack += [part for part in node if part.__class__ not in scalars]
    return frozenset(shared)


class WireWriter:
    """Turns nodes into what MessagePack can encode.

    Args:
        shared: What `shared_nodes` returned for everything that will be written.
    """

    def __init__(self, shared: AbstractSet[int]) -> None:
        self.shared = shared
        self.numbers: dict[int, int] = {}
        self.building: set[int] = set()

    def write(self, node: Any, place: str) -> Any:
        """Return the wire form of one part of a state.

        Args:
            node: The part.
            place: Where it is in the state, for errors.

        Raises:
            SnapshotError: It holds something that exists in this process only.
        """
        try:
            return self._wire(node, replaceable=True)
        except _Refused as refused:
            refused.places.append(place)
            raise SnapshotError(
                f"the state cannot be written: {''.join(reversed(refused.places))} {refused.what}",
                found=show(refused.node),
                expected="values that can be kept on disk",
                do="mark the field `Carry[...]` and open such objects in on_start",
            ) from None
        except RecursionError:
            raise SnapshotError(
                f"the state cannot be written: {place} is nested too deeply",
                do="keep long chains as a list or Table of records",
            ) from None

    def _wire(self, node: Any, *, replaceable: bool) -> Any:
        cls = node.__class__
        if cls in SCALAR_TYPES:
            return _scalar(node)
        key = id(node)
        if key not in self.shared or cls is Opaque:
            return self._container(node)
        number = self.numbers.get(key)
        if number is not None:
            if key in self.building and not replaceable:
                raise _Refused("is a cycle through a tuple inside a tuple", node)
            return {TAG: "ref", "n": number}
        number = self.numbers[key] = len(self.numbers)
        if cls in (tuple, frozenset):
            self.building.add(key)
        wire = self._container(node)
        self.building.discard(key)
        return {TAG: "def", "n": number, "v": wire}

    def _container(self, node: Any) -> Any:
        cls = node.__class__
        if cls is dict:
            # A flat record is its own wire form, unless a number is too large for MessagePack.
            if _SIMPLE.issuperset(map(type, node.values())) and self._plain_keys(node):
                return node if _small(node.values()) else {k: _scalar(v) for k, v in node.items()}
            if self._plain_keys(node):
                return {name: self._at(f".{name}", part) for name, part in node.items()}
        if cls is list:
            return [self._at(f"[{n}]", part) for n, part in enumerate(node)]
        if cls in _PAIR_KINDS:
            pairs = [
                [self._wire(key, replaceable=False), self._at(f"[{show(key, 40)}]", part)]
                for key, part in node.items()
            ]
            wire = {TAG: _PAIR_KINDS[cls], "v": pairs}
            if cls is DefaultNode:
                wire["f"] = self._factory(node.factory)
            return wire
        if cls in _ITEM_KINDS:
            keep = cls is collections.deque
            items = [self._at(f"[{n}]", part, replaceable=keep) for n, part in enumerate(node)]
            wire = {TAG: _ITEM_KINDS[cls], "v": items}
            return wire | {"max": node.maxlen} if keep else wire
        if cls is bytearray:
            return {TAG: "bytearray", "v": bytes(node)}
        what = "is carried by identity" if cls is Opaque else "is no plain data"
        raise _Refused(what, node.value if cls is Opaque else node)

    def _at(self, place: str, part: Any, *, replaceable: bool = True) -> Any:
        try:
            return self._wire(part, replaceable=replaceable)
        except _Refused as refused:
            refused.places.append(place)
            raise

    def _plain_keys(self, node: dict[Any, Any]) -> bool:
        return TAG not in node and all(n.__class__ is str and _encodable(n) for n in node)

    def _factory(self, factory: Any) -> Any:
        if isinstance(factory, type):
            return factory.__name__
        return None if factory is None else self._wire(factory, replaceable=False)


class WireReader:
    """Turns what MessagePack decoded into nodes again; what it gets is used up."""

    def __init__(self) -> None:
        self.nodes: dict[int, Any] = {}
        self.holes: dict[int, list[Callable[[Any], None]]] = {}

    def read(self, wire: Any) -> Any:
        """Return the node that a wire form stands for.

        Raises:
            SnapshotError: It says something that no writer writes.
        """
        try:
            return self._node(wire, None, None)
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise SnapshotError(
                "a snapshot's content cannot be understood",
                found=f"{type(error).__name__}: {error}",
                expected="what this program writes",
            ) from error

    def _node(self, wire: Any, number: int | None, parent: Callable[[Any], None] | None) -> Any:
        cls = wire.__class__
        if cls is list:
            if number is not None:
                self.nodes[number] = wire
            for index, part in enumerate(wire):
                if part.__class__ in (list, dict):
                    wire[index] = self._node(part, None, _setter(wire, index))
            return wire
        if cls is not dict:
            return wire
        if TAG in wire:
            return self._tagged(wire, number, parent)
        if number is not None:
            self.nodes[number] = wire
        for name, part in wire.items():
            if part.__class__ in (list, dict):
                wire[name] = self._node(part, None, _setter(wire, name))
        return wire

    def _tagged(
        self, wire: dict[str, Any], number: int | None, parent: Callable[[Any], None] | None
    ) -> Any:
        kind = wire[TAG]
        if kind == "ref":
            return self._reference(wire["n"], parent)
        if kind == "def":
            node = self._node(wire["v"], wire["n"], None)
            self.nodes[wire["n"]] = node
            for fill in self.holes.pop(wire["n"], ()):
                fill(node)
            return node
        if kind in _PAIR_CLASSES:
            return self._pairs(wire, kind, number)
        if kind == "deque":
            node = collections.deque(maxlen=wire["max"])
            if number is not None:
                self.nodes[number] = node
            for index, part in enumerate(wire["v"]):
                node.append(None)
                node[index] = self._node(part, None, _setter(node, index))
            return node
        if kind in ("tuple", "set", "frozenset"):
            items = [self._node(part, None, None) for part in wire["v"]]
            return {"tuple": tuple, "set": set, "frozenset": frozenset}[kind](items)
        return _READERS[kind](wire)

    def _pairs(self, wire: dict[str, Any], kind: str, number: int | None) -> Any:
        node: Any = _PAIR_CLASSES[kind]()
        if number is not None:
            self.nodes[number] = node
        if kind == "default":
            factory = wire["f"]
            named = factory.__class__ is str
            node.factory = _FACTORIES[factory] if named else self._node(factory, None, None)
        for key, part in wire["v"]:
            key = self._node(key, None, None)  # noqa: PLW2901
            node[key] = None
            node[key] = self._node(part, None, _setter(node, key))
        return node

    def _reference(self, number: int, parent: Callable[[Any], None] | None) -> Any:
        if number in self.nodes:
            return self.nodes[number]
        if parent is None:
            raise ValueError(f"reference to unknown node {number}")
        # A cycle through a tuple: the tuple exists only when all its parts do.
        self.holes.setdefault(number, []).append(parent)
        return None


def _setter(container: Any, key: Any) -> Callable[[Any], None]:
    def fill(node: Any) -> None:
        container[key] = node

    return fill


def _small(values: Any) -> bool:
    """Tell whether MessagePack takes all numbers and texts as they are."""
    for value in values:
        cls = value.__class__
        if cls is int:
            if not _INT_MIN <= value <= _INT_MAX:
                return False
        elif cls is str and not _encodable(value):
            return False
    return True


def _encodable(text: str) -> bool:
    """Tell whether a text is UTF-8: one with a lone surrogate, as file names may have, is not."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _scalar(value: Any) -> Any:  # noqa: PLR0911 - one line a kind
    cls = value.__class__
    if cls is int:
        return value if _INT_MIN <= value <= _INT_MAX else {TAG: "int", "v": str(value)}
    if cls is str:
        if _encodable(value):
            return value
        return {TAG: "str", "v": value.encode("utf-8", "surrogatepass")}
    if cls in _SIMPLE:
        return value
    if cls is dt.datetime or cls is dt.time:
        wire = {TAG: cls.__name__, "v": value.replace(fold=0).isoformat(), "fold": value.fold}
        if isinstance(value.tzinfo, zoneinfo.ZoneInfo) and value.tzinfo.key:
            wire |= {"v": value.replace(tzinfo=None, fold=0).isoformat(), "zone": value.tzinfo.key}
        return wire
    if cls is dt.date:
        return {TAG: "date", "v": value.isoformat()}
    if cls is dt.timedelta:
        return {TAG: "timedelta", "v": [value.days, value.seconds, value.microseconds]}
    if cls is uuid.UUID:
        return {TAG: "uuid", "v": value.bytes}
    return {TAG: "decimal", "v": str(value)}


def _read_time(cls: Any) -> Callable[[dict[str, Any]], Any]:
    def read(wire: dict[str, Any]) -> Any:
        value = cls.fromisoformat(wire["v"]).replace(fold=wire["fold"])
        return value.replace(tzinfo=zoneinfo.ZoneInfo(wire["zone"])) if "zone" in wire else value

    return read


_READERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "int": lambda wire: int(wire["v"]),
    "str": lambda wire: wire["v"].decode("utf-8", "surrogatepass"),
    "bytearray": lambda wire: bytearray(wire["v"]),
    "datetime": _read_time(dt.datetime),
    "time": _read_time(dt.time),
    "date": lambda wire: dt.date.fromisoformat(wire["v"]),
    "timedelta": lambda wire: dt.timedelta(*wire["v"]),
    "uuid": lambda wire: uuid.UUID(bytes=wire["v"]),
    "decimal": lambda wire: decimal.Decimal(wire["v"]),
}

__all__ = ["WireReader", "WireWriter", "decode", "encode", "shared_nodes"]
