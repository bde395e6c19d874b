"""Freezing where only an object's class is known: untyped fields, and values of wrong types.

Own objects are tagged with their class's qualified name, so that the next generation finds its
class of the same name.
"""

from __future__ import annotations

import collections
import enum
import types
from typing import Any

from replank.errors import MigrationError
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
)
from replank.state.containers import copy_bytes, deque_of, list_of, looks_tagged
from replank.state.memo import Memo, unshared
from replank.state.moving import bare_value, object_bases, slot_names
from replank.state.names import Namespace
from replank.table import Table

_BUILTIN_FACTORIES = (int, float, str, bool, bytes, list, dict, set, tuple, frozenset)


class _NotPlain(Exception):
    """A key is, or holds, something that must be a node of its own."""


class UntypedFreezer:
    """Takes values apart by their class.

    Args:
        own: The names of the generation.
    """

    def __init__(self, own: Namespace) -> None:
        self.own = own
        self._by_class: dict[type, Walk] = {
            dict: unshared(self._dict_of(self.untyped, dict)),
            Table: unshared(self._dict_of(self.untyped, Table)),
            collections.OrderedDict: unshared(self._dict_of(self.untyped, collections.OrderedDict)),
            collections.Counter: self._dict_of(self.untyped, collections.Counter),
            collections.defaultdict: unshared(self._dict_of(self.untyped, DefaultNode)),
            list: unshared(list_of(self.untyped)),
            tuple: self._untyped_tuple,
            set: self._set,
            frozenset: self._set,
            collections.deque: unshared(deque_of(self.untyped)),
            bytearray: copy_bytes,
            types.FunctionType: self._function,
            types.MethodType: self._method,
        }
        for cls in SCALAR_TYPES:
            self._by_class[cls] = _same

    def record(self, cls: Any) -> Walk:
        """Return the function for one record class."""
        raise NotImplementedError

    def untyped(self, value: Any, memo: Memo) -> Any:
        """Freeze a value of which only its class is known."""
        cls = value.__class__
        handler = self._by_class.get(cls)
        if handler is None:
            handler = self._by_class[cls] = self._handler(cls)
        return handler(value, memo)

    def _dict_of(self, walk: Walk, node_class: Any) -> Walk:
        def mapping(value: Any, memo: Memo) -> Any:
            if (known := memo.get(id(value))) is not None:
                return known
            node = memo[id(value)] = node_class()
            if node_class is DefaultNode:
                node.factory = self._factory(value.default_factory)
            try:
                for key, part in value.items():
                    if key.__class__ not in SCALAR_TYPES:
                        key = self.key(key)  # noqa: PLW2901
                    node[key] = walk(part, memo)
                if TYPE_KEY not in node:
                    return node
            except _NotPlain:
                pass
            return self._pairs(value, node, walk, memo)

        return mapping

    def _pairs(self, value: Any, unfinished: Any, walk: Walk, memo: Memo) -> Any:
        # Nodes made meanwhile may refer to the unfinished dict: it becomes the node.
        unfinished.clear()
        node = unfinished if type(unfinished) is dict else {}
        memo[id(value)] = node
        node[TYPE_KEY] = "$map"
        node["of"] = type(unfinished).__name__
        if isinstance(unfinished, DefaultNode):
            node["factory"] = unfinished.factory
        node["pairs"] = [[self.untyped(key, memo), walk(part, memo)] for key, part in value.items()]
        return node

    def _set(self, value: Any, memo: Memo) -> Any:
        if (known := memo.get(id(value))) is not None:
            return known
        try:
            keys = [k if k.__class__ in SCALAR_TYPES else self.key(k) for k in value]
            memo[id(value)] = node = value.__class__(keys)
        except _NotPlain:
            memo[id(value)] = node = {TYPE_KEY: "$set", "of": value.__class__.__name__}
            node["items"] = [self.untyped(item, memo) for item in value]
        return node

    def key(self, key: Any) -> Any:
        """Freeze a key or set item, which must stay hashable."""
        cls = key.__class__
        if cls in SCALAR_TYPES:
            return key
        if cls is tuple:
            parts = tuple(self.key(part) for part in key)
            return ("$tuple", *parts) if looks_tagged(key) else parts
        if cls is frozenset:
            return frozenset(self.key(part) for part in key)
        if isinstance(key, enum.Enum) and self.own.owns(cls):
            return _tagged_member(key)
        raise _NotPlain

    def _untyped_tuple(self, value: Any, memo: Memo) -> Any:
        if (known := memo.get(id(value))) is not None:
            return known
        parts = tuple([self.untyped(part, memo) for part in value])
        # A cycle through this tuple has frozen it meanwhile: that node is the one.
        return memo.setdefault(id(value), ("$tuple", *parts) if looks_tagged(value) else parts)

    def _handler(self, cls: type) -> Walk:
        if issubclass(cls, Table):
            return self._by_class[Table]
        own = self.own.owns(cls)
        if issubclass(cls, enum.Enum):
            return (lambda value, _memo: _tagged_member(value)) if own else _opaque
        if issubclass(cls, type):
            return self._class
        if not own:
            return _opaque
        if flavour_of(cls) is not None:
            return self._tagged_record(cls)
        return self._plain_object(cls)

    def _tagged_record(self, cls: type) -> Walk:
        walk = self.record(cls)
        name = cls.__qualname__

        def tagged(value: Any, memo: Memo) -> Any:
            node = walk(value, memo)
            node[TYPE_KEY] = name
            return node

        return tagged

    def _plain_object(self, cls: type) -> Walk:
        content, value_base = object_bases(cls, self.own)
        slots = slot_names(cls)
        name = cls.__qualname__
        untyped = self.untyped

        def plain_object(value: Any, memo: Memo) -> Any:
            if (known := memo.get(id(value))) is not None:
                return known
            memo[id(value)] = node = {TYPE_KEY: name, PLAIN_KEY: True}
            for attribute, part in getattr(value, "__dict__", {}).items():
                node[attribute] = untyped(part, memo)
            for attribute in slots:
                if hasattr(value, attribute):
                    node[attribute] = untyped(getattr(value, attribute), memo)
            if content is not None:
                bare: Any = dict(value.items()) if content is dict else content(value)
                memo[0].append(bare)
                node[ITEMS_KEY] = untyped(bare, memo)
            elif value_base is not None:
                bare = bare_value(value_base, value)
                memo[0].append(bare)
                node[VALUE_KEY] = untyped(bare, memo)
            return node

        return plain_object

    def _class(self, value: Any, _memo: Memo) -> Any:
        return ("$code", value.__qualname__) if self.own.owns(value) else Opaque(value)

    def _function(self, value: Any, _memo: Memo) -> Any:
        if not self.own.owns(value):
            return Opaque(value)
        name: str = value.__qualname__
        if "<" in name:
            raise MigrationError(
                f"the state holds {name}, a function of the old code that has no name",
                found=f"{name} in line {value.__code__.co_firstlineno}",
                expected="functions at module level, which the new version has too",
                do="give the function a name at module level, or keep it out of the state",
            )
        return ("$code", name)

    def _method(self, value: Any, memo: Memo) -> Any:
        if not self.own.owns(value.__func__):
            return Opaque(value)
        holder = self.untyped(value.__self__, memo)
        return {TYPE_KEY: "$method", "self": holder, "name": value.__func__.__name__}

    def _factory(self, factory: Any) -> Any:
        if factory is None or factory in _BUILTIN_FACTORIES:
            return factory
        if self.own.owns(factory):
            name = getattr(factory, "__qualname__", "<")
            # Only the field's type or default can say what takes the place of a lambda.
            return ("$code", name)
        return Opaque(factory)


def _tagged_member(member: enum.Enum) -> tuple[str, str, Any]:
    cls = type(member)
    name = member.value if isinstance(member, enum.Flag) else member.name
    return ("$enum", cls.__qualname__, name)


def _same(value: Any, _memo: Memo) -> Any:
    return value


def _opaque(value: Any, memo: Memo) -> Any:
    known = memo.get(id(value))
    if known is None:
        known = memo[id(value)] = Opaque(value)
    return known


__all__ = ["UntypedFreezer"]
