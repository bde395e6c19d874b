"""Building values where there is no type: from what a node says alone."""

from __future__ import annotations

import collections
from typing import Any

from replank.hints import record_flavour as flavour_of
from replank.plain import (
    ITEMS_KEY,
    PLAIN_KEY,
    SCALAR_TYPES,
    TYPE_KEY,
    VALUE_KEY,
    DefaultNode,
    Opaque,
    Walk,
    show,
)
from replank.state.building import Mismatch, Pending
from replank.state.memo import Memo
from replank.state.moving import new_object, not_movable
from replank.state.names import Namespace
from replank.table import Table

Keys = tuple[frozenset[type], Walk]
"""The classes of keys that are kept as they are, and the function for others."""

_MAP_CLASSES: dict[str, Any] = {
    "dict": dict,
    "Table": Table,
    "OrderedDict": collections.OrderedDict,
    "Counter": collections.Counter,
    "DefaultNode": collections.defaultdict,
}


class UntypedThawer:
    """Builds values from self-describing nodes.

    Args:
        own: The names of the generation.
    """

    def __init__(self, own: Namespace) -> None:
        self.own = own

    def walk(self, hint: Any) -> Walk:
        """Return the compiled function for nodes of a hint."""
        raise NotImplementedError

    def record(self, cls: Any) -> Walk:
        """Return the function for one record class."""
        raise NotImplementedError

    def untyped(self, node: Any, memo: Memo) -> Any:  # noqa: C901, PLR0911 - one line a kind
        """Build a value from what its node says alone."""
        cls = node.__class__
        if cls in SCALAR_TYPES:
            return node
        if cls is Opaque:
            return node.value
        known = memo.get(id(node))
        if known is not None:
            return known.shell(id(node), memo) if known.__class__ is Pending else known
        if isinstance(node, dict):
            if TYPE_KEY in node:
                return self.tagged(node, memo)
            value = memo[id(node)] = collections.defaultdict() if cls is DefaultNode else cls()
            if cls is DefaultNode:
                value.default_factory = self._factory(node, None)
            return self._fill(value, node, (SCALAR_TYPES, self.untyped), self.untyped, memo)
        if cls is tuple:
            return self._tuple(node, memo)
        if cls in (list, collections.deque):
            return self.walk(cls)(node, memo)
        if cls in (set, frozenset):
            memo[id(node)] = items = cls([self.untyped(item, memo) for item in node])
            return items
        if cls is bytearray:
            memo[id(node)] = copied = node.copy()
            return copied
        raise Mismatch("plain data, as a snapshot holds it", node)

    def _tuple(self, node: Any, memo: Memo) -> Any:
        if is_tag(node, "$enum"):
            cls = self.own.find(node[1])
            return self.walk(cls)(node[2], memo)
        if is_tag(node, "$code"):
            return self._code(node[1])
        parts = node[1:] if is_tag(node, "$tuple") else node
        value = tuple([self.untyped(part, memo) for part in parts])
        return memo.setdefault(id(node), value)

    def _code(self, name: str) -> Any:
        return self.own.find(name)

    def tagged(self, node: Any, memo: Memo) -> Any:
        """Build from a node with a `$type`."""
        name = node[TYPE_KEY]
        if name == "$map":
            cls = _MAP_CLASSES[node["of"]]
            memo[id(node)] = value = cls()
            if cls is collections.defaultdict:
                value.default_factory = self._factory(node, None)
            return self._fill(value, node, (SCALAR_TYPES, self.untyped), self.untyped, memo)
        if name == "$set":
            items = [self.untyped(item, memo) for item in node["items"]]
            memo[id(node)] = made = set(items) if node["of"] == "set" else frozenset(items)
            return made
        if name == "$method":
            return getattr(self.untyped(node["self"], memo), node["name"])
        cls = self.own.find(name)
        if flavour_of(cls) is not None:
            return self.record(cls)(node, memo)
        if not isinstance(cls, type) or PLAIN_KEY not in node:
            raise not_movable(name, f"{name} is {show(cls)} in the new version")
        return self._plain_object(cls, node, memo)

    def _plain_object(self, cls: type, node: Any, memo: Memo) -> Any:
        """Move an object without a schema: a new object of the new class, same attributes."""
        base = self.untyped(node[VALUE_KEY], memo) if VALUE_KEY in node else None
        try:
            value = new_object(cls) if base is None else type(base).__new__(cls, base)
        except TypeError as error:
            raise not_movable(cls.__qualname__, str(error)) from None
        value = memo.setdefault(id(node), value)
        name = ""
        try:
            for name, part in node.items():
                if name == ITEMS_KEY:
                    bare = self.untyped(part, memo)
                    value.update(bare) if isinstance(bare, dict | set) else value.extend(bare)
                elif not name.startswith("$"):
                    object.__setattr__(value, name, self.untyped(part, memo))
        except Mismatch as error:
            error.at(f".{name}")
            raise
        except AttributeError:
            raise not_movable(
                cls.__qualname__, f"attribute {name!r}, for which the new class has no place"
            ) from None
        return value

    def _fill(self, value: Any, node: Any, keys: Keys, value_walk: Walk, memo: Memo) -> Any:
        pairs = node["pairs"] if TYPE_KEY in node else node.items()
        exact, key_walk = keys
        key: Any = None
        try:
            for key, part in pairs:
                new = key if key.__class__ in exact else key_walk(key, memo)
                value[new] = value_walk(part, memo)
        except Mismatch as error:
            error.at(f"[{show(key, 40)}]")
            raise
        except TypeError as error:
            raise Mismatch("a key that can be hashed", key, str(error)) from None
        return value

    def _factory(self, node: Any, fallback: Any) -> Any:
        factory = node.factory if isinstance(node, DefaultNode) else node.get("factory")
        if factory.__class__ is tuple:
            if fallback is not None and "<" in factory[1]:
                return fallback
            return self._code(factory[1])
        if isinstance(factory, Opaque):
            return factory.value
        return factory if factory is not None or isinstance(node, DefaultNode) else fallback


def is_tag(node: Any, tag: str) -> bool:
    """Tell whether a node is a tuple with a certain tag."""
    return node.__class__ is tuple and bool(node) and node[0].__class__ is str and node[0] == tag


__all__ = ["Keys", "UntypedThawer", "is_tag"]
