"""From class-free trees to values of one generation's classes, each checked against its type.

A function is compiled for each type. A value that does not fit raises `Mismatch`, to which each
level on the way out adds its field or key, so the error names the whole path at no cost to
values that fit.

The memo maps `id(node)` to the value built from it, so what was shared is shared again. For a
cycle a container is entered before it is filled. An immutable or constructor-built record cannot
be; it is entered as `Pending`, and whoever meets it in that state makes an empty shell of it that
is filled when the fields are known.
"""

from __future__ import annotations

import collections
import enum
from typing import Any

import msgspec

from replank.hints import MAPPINGS, SCALARS, SEQUENCES, SETS, Form, read_form
from replank.hints import record_flavour as flavour_of
from replank.plain import SCALAR_TYPES, TYPE_KEY, Walk
from replank.state.building import (
    Mismatch,
    RecordBuilder,
    default_factory_of,
    exact_types,
    expected_text,
)
from replank.state.memo import Memo
from replank.state.names import Namespace
from replank.state.untyped_thawing import UntypedThawer, is_tag

_KIND_TYPES = {kind: cls for cls, kind in SCALARS.items()}
_NUMERIC_TOWER: dict[type, Any] = {float: (float, int)}


class Thawer(UntypedThawer):
    """Compiles and keeps the functions that build one generation's values.

    Args:
        own: The names of the generation.
    """

    def __init__(self, own: Namespace) -> None:
        super().__init__(own)
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

    def _sequence(self, form: Form, hint: Any) -> Walk:
        walk = self.walk_later(form.args[0])
        cls = form.cls

        def sequence(node: Any, memo: Memo) -> Any:
            if (known := memo.get(id(node))) is not None:
                return known
            if not isinstance(node, list | tuple | collections.deque):
                raise Mismatch(expected_text(hint), node)
            parts: Any = node[1:] if is_tag(node, "$tuple") else node  # type: ignore[index]
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
            parts = node[1:] if is_tag(node, "$tuple") else node
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


def _empty(cls: Any, node: Any) -> Any:
    return collections.deque(maxlen=getattr(node, "maxlen", None)) if cls is not list else []


__all__ = ["Thawer"]
