"""From class-free trees to values of one generation's classes, each checked against its type.

A function is compiled for each type. A value that does not fit raises `Mismatch`, to which each
level on the way out adds its field or key, so the error names the whole path at no cost to
values that fit.

The memo maps `id(node)` to the value built from it, so what was shared is shared again. For a
cycle a container is entered before it is filled. An immutable or constructor-built record cannot
be; it is entered as `PENDING`, and whoever meets it in that state makes an empty shell of it that
is filled when the fields are known.
"""

from __future__ import annotations

import collections
import enum
from collections.abc import Callable
from typing import Any

import msgspec

from replank.errors import MigrationError
from replank.hints import MAPPINGS, SCALARS, SEQUENCES, SETS, Form, read_form
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
from replank.state.building import Mismatch, RecordBuilder, exact_types, expected_text
from replank.state.names import Namespace
from replank.table import Table

Memo = dict[int, Any]
_Keys = tuple[frozenset[type], Walk]

_KIND_TYPES = {kind: cls for cls, kind in SCALARS.items()}
_NUMERIC_TOWER: dict[type, Any] = {float: (float, int)}
_MAP_CLASSES: dict[str, Any] = {
    "dict": dict,
    "Table": Table,
    "OrderedDict": collections.OrderedDict,
    "Counter": collections.Counter,
    "DefaultNode": collections.defaultdict,
}


class Thawer:
    """Compiles and keeps the functions that build one generation's values.

    Args:
        own: The names of the generation.
    """

    def __init__(self, own: Namespace) -> None:
        self.own = own
        self._by_hint: dict[Any, Walk] = {}
        self._records: dict[Any, Walk] = {}

    def walk(self, hint: Any) -> Walk:
        """Return the compiled function for nodes of a hint."""
        try:
            known = self._by_hint.get(hint)
        except TypeError:
            return self._compile(hint)
        if known is None:
            known = self._by_hint[hint] = self._compile(hint)
        return known

    def walk_later(self, hint: Any) -> Walk:
        """Return a function that compiles its type at first use: recursive types need it."""
        found: list[Walk] = []

        def later(node: Any, memo: Memo) -> Any:
            if not found:
                found.append(self.walk(hint))
            return found[0](node, memo)

        return later

    # -- compiling, by hint

    def _compile(self, hint: Any) -> Walk:
        form = read_form(hint)
        walk = self._compile_form(form, hint)
        if not form.constraints:
            return walk

        def constrained(node: Any, memo: Memo) -> Any:
            value = walk(node, memo)
            try:
                msgspec.convert(value, hint)
            except msgspec.ValidationError as error:
                raise Mismatch(expected_text(hint), node, str(error)) from None
            return value

        # Only simple values can be checked: a container's items are checked one by one.
        return constrained if form.kind in _KIND_TYPES else walk

    def _compile_form(self, form: Form, hint: Any) -> Walk:  # noqa: C901, PLR0911 - one line a kind
        kind = form.kind
        if kind in _KIND_TYPES:
            return self.scalar(_KIND_TYPES[kind])
        if kind == "literal":
            return self._literal(form, hint)
        if kind in ("enum", "flag"):
            return self._enum(form.cls)
        if kind == "record":
            return self.record(form.cls)
        if kind == "union":
            return self._union(form, hint)
        if kind in MAPPINGS:
            return self._mapping(form, hint)
        if kind in SEQUENCES and (kind != "tuple" or form.variable):
            return self._sequence(form, hint)
        if kind == "tuple":
            return self._fixed_tuple(form, hint)
        if kind in SETS:
            return self._set_of(form, hint)
        if kind in ("bytearray", "object", "foreign") and isinstance(form.cls, type):
            return self._instance(form.cls)
        return self.untyped

    def scalar(self, cls: type) -> Walk:
        """Return the function for one scalar class; subclasses and ints for floats fit too."""
        untyped = self.untyped
        accepted: Any = _NUMERIC_TOWER.get(cls, cls)

        def scalar(node: Any, memo: Memo) -> Any:
            if node.__class__ is cls:
                return node
            value = untyped(node, memo)
            if isinstance(value, accepted):
                return value
            raise Mismatch(expected_text(cls), node)

        return scalar

    def _instance(self, cls: type) -> Walk:
        untyped = self.untyped

        def instance(node: Any, memo: Memo) -> Any:
            value = untyped(node, memo)
            if isinstance(value, cls):
                return value
            raise Mismatch(cls.__qualname__, node)

        return instance

    def _literal(self, form: Form, hint: Any) -> Walk:
        untyped = self.untyped

        def literal(node: Any, memo: Memo) -> Any:
            value = untyped(node, memo)
            for allowed in form.values:
                if value == allowed and value.__class__ is allowed.__class__:
                    return value
            raise Mismatch(expected_text(hint), node)

        return literal

    def _enum(self, cls: Any) -> Walk:
        untyped = self.untyped
        names = cls.__members__
        is_flag = issubclass(cls, enum.Flag)

        def member(node: Any, memo: Memo) -> Any:
            if node.__class__ is str and not is_flag and node in names:
                return names[node]
            value = self._flag(cls, node) if node.__class__ is int and is_flag else node
            if value.__class__ is tuple:
                value = untyped(node, memo)
            if isinstance(value, cls):
                return value
            raise Mismatch(f"a member of {cls.__qualname__} ({', '.join(names)})", node)

        return member

    def _flag(self, cls: Any, number: int) -> Any:
        try:
            return cls(number)
        except ValueError:
            raise Mismatch(f"a combination of {cls.__qualname__}", number) from None

    def _union(self, form: Form, hint: Any) -> Walk:
        """Try the members that can be meant; the first that fits is the value."""
        scalars = frozenset(
            _KIND_TYPES[kind] for arg in form.args if (kind := read_form(arg).kind) in _KIND_TYPES
        )
        others = [
            self.walk_later(arg) for arg in form.args if read_form(arg).kind not in _KIND_TYPES
        ]
        rest = [*others, *(self.scalar(cls) for cls in scalars)]
        only = others[0] if len(others) == 1 else None

        def union(node: Any, memo: Memo) -> Any:
            cls = node.__class__
            if cls in scalars and (cls is not str or only is None or not names_enum):
                return node
            if only is not None and cls not in SCALAR_TYPES:
                return only(node, memo)
            for walk in rest:
                try:
                    return walk(node, memo)
                except Mismatch:
                    continue
            raise Mismatch(expected_text(hint), node)

        names_enum = any(read_form(arg).kind == "enum" for arg in form.args) and (
            str not in scalars
        )
        return union

    def _mapping(self, form: Form, hint: Any) -> Walk:
        keys = (exact_types(form.args[0]) or frozenset(), self.walk_later(form.args[0]))
        walks: list[Walk] = []  # found at first use: recursive types need it
        cls = form.cls
        fallback = default_factory_of(form.args[1]) if form.kind == "defaultdict" else None

        def mapping(node: Any, memo: Memo) -> Any:
            if (known := memo.get(id(node))) is not None:
                return known
            tag = node.get(TYPE_KEY) if isinstance(node, dict) else ""
            if tag is not None and tag != "$map":
                raise Mismatch(expected_text(hint), node)
            value = memo[id(node)] = cls()
            if cls is collections.defaultdict:
                value.default_factory = self._factory(node, fallback)
            if not walks:
                walks.append(self.walk(form.args[1]))
            return self._fill(value, node, keys, walks[0], memo)

        return mapping

    def _fill(self, value: Any, node: Any, keys: _Keys, value_walk: Walk, memo: Memo) -> Any:
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

    def _sequence(self, form: Form, hint: Any) -> Walk:
        walk = self.walk_later(form.args[0])
        cls = form.cls

        def sequence(node: Any, memo: Memo) -> Any:
            if (known := memo.get(id(node))) is not None:
                return known
            if not isinstance(node, list | tuple | collections.deque):
                raise Mismatch(expected_text(hint), node)
            parts: Any = node[1:] if _is_tag(node, "$tuple") else node  # type: ignore[index]
            value: Any = [] if cls is tuple else _empty(cls, node)
            if cls is not tuple:
                memo[id(node)] = value
            index = 0
            try:
                for index, part in enumerate(parts):  # noqa: B007 - named in the error
                    value.append(walk(part, memo))
            except Mismatch as error:
                error.at(f"[{index}]")
                raise
            return value if cls is not tuple else memo.setdefault(id(node), tuple(value))

        return sequence

    def _fixed_tuple(self, form: Form, hint: Any) -> Walk:
        walks = [self.walk_later(arg) for arg in form.args]

        def fixed(node: Any, memo: Memo) -> Any:
            parts = node[1:] if _is_tag(node, "$tuple") else node
            if not isinstance(node, tuple | list) or len(parts) != len(walks):
                raise Mismatch(expected_text(hint), node)
            value: list[Any] = []
            try:
                value.extend(walk(part, memo) for walk, part in zip(walks, parts, strict=True))
            except Mismatch as error:
                error.at(f"[{len(value)}]")
                raise
            return tuple(value)

        return fixed

    def _set_of(self, form: Form, hint: Any) -> Walk:
        walk = self.walk_later(form.args[0])
        cls = form.cls

        def set_of(node: Any, memo: Memo) -> Any:
            if (known := memo.get(id(node))) is not None:
                return known
            if isinstance(node, dict) and node.get(TYPE_KEY) == "$set":
                items = node["items"]
            elif isinstance(node, set | frozenset):
                items = node
            else:
                raise Mismatch(expected_text(hint), node)
            try:
                value = cls([walk(item, memo) for item in items])
            except Mismatch as error:
                error.at("[item]")
                raise
            memo[id(node)] = value
            return value

        return set_of

    # -- records

    def record(self, cls: Any) -> Walk:
        """Return the function for one record class."""
        known = self._records.get(cls)
        if known is None:
            known = self._records[cls] = RecordBuilder(cls, self).walk()
        return known

    def odd_record(self, cls: Any, node: Any, memo: Memo) -> Any:
        """Build from a node that names its class: the expected one, or a subclass of it."""
        if isinstance(cls, type) and isinstance(node, cls) and self.own.owns(cls):
            return node  # a migration function made it
        name = node.get(TYPE_KEY) if isinstance(node, dict) else None
        if name is None or not isinstance(name, str) or name.startswith("$"):
            raise Mismatch(getattr(cls, "__qualname__", str(cls)), node)
        value = self.tagged(node, memo)
        if flavour_of(cls) != "typeddict" and not isinstance(value, cls):
            raise Mismatch(cls.__qualname__, node)
        return value

    # -- by node, where there is no hint

    def untyped(self, node: Any, memo: Memo) -> Any:  # noqa: C901, PLR0911 - one line a kind
        """Build a value from what its node says alone."""
        cls = node.__class__
        if cls in SCALAR_TYPES:
            return node
        if cls is Opaque:
            return node.value
        known = memo.get(id(node))
        if known is not None:
            return known
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
        if _is_tag(node, "$enum"):
            cls = self.own.find(node[1])
            return self._enum(cls)(node[2], memo) if issubclass(cls, enum.Enum) else None
        if _is_tag(node, "$code"):
            return self._code(node[1])
        parts = node[1:] if _is_tag(node, "$tuple") else node
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
            raise _not_movable(name, f"{name} is {show(cls)} in the new version")
        return self._plain_object(cls, node, memo)

    def _plain_object(self, cls: type, node: Any, memo: Memo) -> Any:
        """Move an object without a schema: a new object of the new class, same attributes."""
        base = self.untyped(node[VALUE_KEY], memo) if VALUE_KEY in node else None
        try:
            value = _new(cls) if base is None else type(base).__new__(cls, base)
        except TypeError as error:
            raise _not_movable(cls.__qualname__, str(error)) from None
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
            raise _not_movable(
                cls.__qualname__, f"attribute {name!r}, for which the new class has no place"
            ) from None
        return value


def default_factory_of(hint: Any) -> Callable[[], Any] | None:
    """Return what makes an empty value of a hint: the factory of a `defaultdict[K, hint]`."""
    form = read_form(hint)
    if form.kind in ("int", "float", "str", "bool", "bytes") or form.kind in MAPPINGS | SEQUENCES:
        made: Callable[[], Any] = form.cls
        return made
    return form.cls if form.kind in SETS or form.kind == "record" else None


def _new(cls: Any) -> Any:
    """Make an empty object without running the author's `__new__` or `__init__`."""
    for base in cls.__mro__:
        if base in (dict, list, set, collections.deque):
            return base.__new__(cls)
    return object.__new__(cls)


def _is_tag(node: Any, tag: str) -> bool:
    return node.__class__ is tuple and bool(node) and node[0].__class__ is str and node[0] == tag


def _empty(cls: Any, node: Any) -> Any:
    return collections.deque(maxlen=getattr(node, "maxlen", None)) if cls is not list else []


def _not_movable(name: str, found: str) -> MigrationError:
    return MigrationError(
        f"an object of {name} cannot be moved to the new version's class",
        found=found,
        expected="a class of the same name with the same attributes",
        do=f"keep the layout of {name}, declare it as a Record, or write a step for it",
    )


__all__ = ["Thawer", "default_factory_of"]
