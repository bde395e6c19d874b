"""What class-free trees are made of; copying and digesting them.

A tree holds a state without any class of the module that wrote it:

- scalars (`None`, numbers, text, bytes, dates, UUID, Decimal) stand for themselves;
- containers are their own builtin kind: dict, list, tuple, set, frozenset, deque, OrderedDict,
  Counter, bytearray; a defaultdict is a `DefaultNode`;
- a record is a dict of its fields; where its type is not known from the schema it also has the
  key `$type` with the qualified name of its class;
- an enum member is its name (a Flag its number) where its type is known, else `("$enum", class,
  name)`; a function or class of the module is `("$code", name)`;
- a dict or set whose keys are themselves records is `{"$type": "$map", ...}` with pairs;
- what cannot be taken apart (a lock, a socket) is an `Opaque` leaf.

Two references to one object are two references to one node, so aliasing and cycles survive.
"""

from __future__ import annotations

import collections
import datetime as dt
import decimal
import hashlib
import uuid
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from replank.errors import MigrationError

TYPE_KEY = "$type"
PLAIN_KEY = "$plain"
ITEMS_KEY = "$items"
VALUE_KEY = "$value"
TWIN_KEY = "$twin"
"""In a node of an object that is made already, as an opaque leaf; it does not count in a digest."""

SCALAR_TYPES: frozenset[type] = frozenset(
    {
        type(None),
        bool,
        int,
        float,
        str,
        bytes,
        dt.datetime,
        dt.date,
        dt.time,
        dt.timedelta,
        uuid.UUID,
        decimal.Decimal,
    }
)


class Opaque:
    """A leaf that is carried by identity: it exists in this process only."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __repr__(self) -> str:
        return f"<carried {type(self.value).__qualname__}>"


class DefaultNode(dict[Any, Any]):
    """A defaultdict in a tree.

    `factory` is None, a builtin type, `("$code", name)`, or an opaque leaf.
    """

    __slots__ = ("factory",)

    def __init__(self, items: Any = (), factory: Any = None) -> None:
        super().__init__(items)
        self.factory = factory


def show(value: Any, limit: int = 80) -> str:
    """Return a value's text, cut to a length that fits a message.

    Args:
        value: Anything; a `repr` that raises is no harm.
        limit: Longest text, in characters.
    """
    try:
        text = repr(value)
    except Exception as error:
        text = f"<{type(value).__qualname__} whose repr raises {type(error).__name__}>"
    return text if len(text) <= limit else text[: limit - 3] + "..."


def copy_tree(tree: Any) -> Any:
    """Copy a tree, its aliasing and cycles included; scalars and opaque leaves are shared.

    Raises:
        MigrationError: It is nested too deeply.
    """
    try:
        return _copy(tree, {})
    except RecursionError:
        raise too_deep() from None


def too_deep() -> MigrationError:
    """Return the error for a state whose nesting exceeds Python's recursion limit."""
    return MigrationError(
        "the state is nested too deeply to be copied",
        found="a chain of objects longer than Python's recursion limit",
        expected="a flatter state",
        do="keep long chains as a list or Table of records that refer to each other by key",
    )


def _copy(node: Any, memo: dict[int, Any]) -> Any:
    cls = node.__class__
    if cls in SCALAR_TYPES or cls is Opaque:
        return node
    key = id(node)
    done = memo.get(key)
    if done is not None:
        return done
    if cls is dict:
        memo[key] = new = node.copy()
        for name, value in node.items():
            if value.__class__ not in SCALAR_TYPES:
                new[name] = _copy(value, memo)
        return new
    if cls is list:
        memo[key] = items = node[:]
        for index, value in enumerate(node):
            if value.__class__ not in SCALAR_TYPES:
                items[index] = _copy(value, memo)
        return items
    return _copy_other(node, memo)


def _copy_other(node: Any, memo: dict[int, Any]) -> Any:
    cls = node.__class__
    new: Any
    if issubclass(cls, dict):
        new = DefaultNode((), node.factory) if cls is DefaultNode else cls()
        memo[id(node)] = new
        for name, value in node.items():
            new[name] = _copy(value, memo)
        return new
    if cls is collections.deque:
        memo[id(node)] = new = collections.deque(maxlen=node.maxlen)
        new.extend(_copy(value, memo) for value in node)
        return new
    if cls is set or cls is bytearray:  # elements of a set are hashable: nothing to copy inside
        memo[id(node)] = new = node.copy()
        return new
    if cls is tuple:
        items = tuple([_copy(value, memo) for value in node])
        # A cycle through this tuple has copied it meanwhile: that copy is the one.
        return memo.setdefault(id(node), items)
    return node


def same(one: Any, other: Any) -> bool:
    """Tell whether two trees are equal; circles in them are followed once.

    Args:
        one: A tree.
        other: Another one.
    """
    try:
        return bool(one == other)
    except RecursionError:  # a circle, or very deep: by hand, which is slower
        return _same_graph(one, other)


def _same_graph(one: Any, other: Any) -> bool:
    met: set[tuple[int, int]] = set()
    waiting = [(one, other)]
    while waiting:
        a, b = waiting.pop()
        if a is b or (id(a), id(b)) in met:
            continue
        met.add((id(a), id(b)))
        if type(a) is not type(b):
            return False
        if isinstance(a, dict):
            ordered = isinstance(a, collections.OrderedDict)
            if (list(a) != list(b)) if ordered else (a.keys() != b.keys()):
                return False
            waiting.extend((a[key], b[key]) for key in a)
            waiting.append((getattr(a, "factory", None), getattr(b, "factory", None)))
        elif isinstance(a, list | tuple | collections.deque):
            if len(a) != len(b) or getattr(a, "maxlen", None) != getattr(b, "maxlen", None):
                return False
            waiting.extend(zip(a, b, strict=True))
        elif a != b:
            return False
    return True


def digest(tree: Any) -> str:
    """Digest a tree by value; the order of dict keys and set items does not matter.

    Args:
        tree: A state's tree; opaque leaves count by their class.

    Returns:
        "blake2b:" and 32 hex digits.
    """
    try:
        value, _ = _Digest().of(tree)
    except RecursionError:
        raise too_deep() from None
    return f"blake2b:{_hash(b'root', [value]).hex()}"


_CLOSED = 1 << 62  # "no reference out of this node to one that is still being digested"


class _Digest:
    """Digests nodes bottom up.

    A node inside a cycle refers to one above it by distance, so its digest depends on where it
    was entered; only nodes without such a reference are remembered.
    """

    def __init__(self) -> None:
        self.open: dict[int, int] = {}
        self.done: dict[int, bytes] = {}

    def of(self, node: Any) -> tuple[bytes, int]:
        cls = node.__class__
        if cls in SCALAR_TYPES:
            return _scalar(node), _CLOSED
        key = id(node)
        if (known := self.done.get(key)) is not None:
            return known, _CLOSED
        level = self.open.get(key)
        if level is not None:
            return b"^%d" % (len(self.open) - level), level
        if cls is dict and TWIN_KEY in node:
            node = {name: part for name, part in node.items() if name != TWIN_KEY}
        if (flat := _flat(node)) is not None:
            return flat, _CLOSED
        depth = len(self.open)
        self.open[key] = depth
        value, lowest = self._container(node)
        del self.open[key]
        if lowest >= depth:
            self.done[key] = value
            lowest = _CLOSED
        return value, lowest

    def _container(self, node: Any) -> tuple[bytes, int]:
        parts: list[bytes] = []
        lowest = _CLOSED
        if isinstance(node, dict):
            scalars = SCALAR_TYPES
            for name, value in node.items():
                if value.__class__ in scalars:
                    part = _scalar(value)
                else:
                    part, level = self.of(value)
                    lowest = min(lowest, level)
                head = self.of(name)[0]
                parts.append(b"%d:%b=%b" % (len(head), head, part))
            parts.sort()
            return _hash(b"d", parts), lowest
        if isinstance(node, set | frozenset):
            return _hash(b"s", sorted(self.of(item)[0] for item in node)), lowest
        if isinstance(node, list | tuple | collections.deque):
            for value in node:
                part, level = self.of(value)
                lowest = min(lowest, level)
                parts.append(part)
            return _hash(b"t" if isinstance(node, tuple) else b"l", parts), lowest
        if isinstance(node, bytearray):
            return _hash(b"b", [bytes(node)]), lowest
        held = type(node.value if isinstance(node, Opaque) else node)
        return _hash(b"o", [held.__qualname__.encode()]), lowest


_SIMPLE_TYPES = frozenset({type(None), bool, int, float, str, bytes})
_encode_sorted = msgspec.msgpack.Encoder(order="sorted").encode


def _flat(node: Any) -> bytes | None:
    """Say a record or list of simple scalars at once: most of a large state is such nodes."""
    cls = node.__class__
    if cls is dict:
        if not _SIMPLE_TYPES.issuperset(map(type, node.values())):
            return None
    elif (cls is not list and cls is not tuple) or not _SIMPLE_TYPES.issuperset(map(type, node)):
        return None
    try:
        body = _encode_sorted(node)
    except (TypeError, OverflowError, UnicodeEncodeError):
        return None  # other keys than text, a number or text that MessagePack does not take
    # A dict of no fields and a list of none differ in MessagePack, a tuple and a list do not.
    return b"T" + body if cls is tuple else b"F" + body


def _scalar(value: Any) -> bytes:
    cls = value.__class__
    if cls is str:
        return b"'%b" % value.encode("utf-8", "surrogatepass")
    if cls is int:
        return b"%d" % value
    text: str = repr(value) if cls is not bytes else value.hex()
    return f"{cls.__name__}{text}".encode()


def _hash(kind: bytes, parts: Iterable[bytes]) -> bytes:
    hasher = hashlib.blake2b(kind, digest_size=16)
    for part in parts:
        hasher.update(b"%d:" % len(part))
        hasher.update(part)
    return hasher.digest()


Walk = Callable[[Any, dict[int, Any]], Any]
"""Turns a value into a node or a node into a value; the memo keeps what is shared shared."""

__all__ = [
    "ITEMS_KEY",
    "PLAIN_KEY",
    "SCALAR_TYPES",
    "TYPE_KEY",
    "VALUE_KEY",
    "DefaultNode",
    "Opaque",
    "Walk",
    "copy_tree",
    "digest",
    "same",
    "show",
    "too_deep",
]
