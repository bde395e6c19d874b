"""From live values to class-free trees.

A function is compiled for each type, so that a record is taken apart by straight-line code and
not by a walk that asks each value what it is. Where a value is not what its type says, the
general walk takes over: freezing never fails because of a wrong type, building the new value
does (`replank.state.thawing`), where the error can say what was expected.

The memo maps `id(object)` to its node. It relies on the objects staying alive while it is used:
they are part of the live state; what a property makes on the fly is kept alive under key 0.
"""

from __future__ import annotations

import collections
import enum
import types
from typing import Any

from replank.errors import MigrationError
from replank.hints import MAPPINGS, SCALARS, SEQUENCES, SETS, read_form, record_fields
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
from replank.state.names import Namespace
from replank.table import Table

Memo = dict[int, Any]

_KIND_TYPES = {kind: cls for cls, kind in SCALARS.items()}
_BUILTIN_FACTORIES = (int, float, str, bool, bytes, list, dict, set, tuple, frozenset)
_CONTENT_BASES = (dict, list, set, collections.deque)
_VALUE_BASES = (str, bytes, int, float, tuple, frozenset)


class _NotPlain(Exception):
    """A key is, or holds, something that must be a node of its own."""


class Freezer:
    """Compiles and keeps the functions that take one generation's values apart.

    Args:
        own: The names of the generation.
    """

    def __init__(self, own: Namespace) -> None:
        self.own = own
        self._by_hint: dict[Any, Walk] = {}
        self._records: dict[type, Walk] = {}
        self._by_class: dict[type, Walk] = {
            dict: self._dict_of(None, dict),
            Table: self._dict_of(None, Table),
            collections.OrderedDict: self._dict_of(None, collections.OrderedDict),
            collections.Counter: self._dict_of(None, collections.Counter),
            collections.defaultdict: self._dict_of(None, DefaultNode),
            list: _list_of(self.untyped),
            tuple: self._untyped_tuple,
            set: self._set,
            frozenset: self._set,
            collections.deque: _deque_of(self.untyped),
            bytearray: _bytearray,
            types.FunctionType: self._function,
            types.MethodType: self._method,
        }
        for cls in SCALAR_TYPES:
            self._by_class[cls] = _same

    def walk(self, hint: Any) -> Walk:
        """Return the compiled function for values of a hint."""
        try:
            known = self._by_hint.get(hint)
        except TypeError:  # an unhashable hint, such as Literal[[]]: compiled each time
            return self._compile(hint)
        if known is None:
            known = self._by_hint[hint] = self._compile(hint)
        return known

    def exact_types(self, hint: Any) -> frozenset[type] | None:
        """Return the classes whose instances go into the tree as they are; None when not so."""
        form = read_form(hint)
        if form.kind in _KIND_TYPES:
            return frozenset({_KIND_TYPES[form.kind]})
        if form.kind == "literal":
            classes = frozenset(type(value) for value in form.values)
            return classes if classes <= SCALAR_TYPES else None
        if form.kind == "union":
            parts = [self.exact_types(arg) for arg in form.args]
            return None if None in parts else frozenset().union(*(p for p in parts if p))
        return None

    def untyped(self, value: Any, memo: Memo) -> Any:
        """Freeze a value of which only its class is known."""
        cls = value.__class__
        handler = self._by_class.get(cls)
        if handler is None:
            handler = self._by_class[cls] = self._handler(cls)
        return handler(value, memo)

    # -- compiling, by hint

    def _compile(self, hint: Any) -> Walk:  # noqa: PLR0911 - one line a kind
        exact = self.exact_types(hint)
        if exact is not None:
            return self._scalar(exact)
        form = read_form(hint)
        if form.kind == "record":
            return self.record(form.cls)
        if form.kind in ("enum", "flag"):
            return self._enum(form.cls)
        if form.kind == "union":
            return self._union(form.args)
        if form.kind in MAPPINGS:
            node_class: Any = {
                "dict": dict,
                "table": dict,  # a step sees a plain dict
                "defaultdict": DefaultNode,
                "ordereddict": collections.OrderedDict,
                "counter": collections.Counter,
            }[form.kind]
            return self._checked(form.cls, self._dict_of(form.args[1], node_class))
        if form.kind in SEQUENCES and (form.kind != "tuple" or form.variable):
            item = self.walk(form.args[0])
            make = {"list": _list_of, "deque": _deque_of, "tuple": _tuple_of}[form.kind]
            return self._checked(form.cls, make(item))
        if form.kind == "tuple":
            return self._fixed_tuple([self.walk(arg) for arg in form.args])
        if form.kind in SETS:
            return self._checked(form.cls, self._set)
        return self.untyped

    def _checked(self, cls: type, walk: Walk) -> Walk:
        untyped = self.untyped

        def checked(value: Any, memo: Memo) -> Any:
            # While a window is open a Table's class is a subclass of Table.
            if value.__class__ is cls or (cls is Table and isinstance(value, Table)):
                return walk(value, memo)
            return untyped(value, memo)

        return checked

    def _scalar(self, exact: frozenset[type]) -> Walk:
        untyped = self.untyped

        def scalar(value: Any, memo: Memo) -> Any:
            return value if value.__class__ in exact else untyped(value, memo)

        return scalar

    def _enum(self, cls: Any) -> Walk:
        untyped = self.untyped
        is_flag = issubclass(cls, enum.Flag)

        def member(value: Any, memo: Memo) -> Any:
            if value.__class__ is not cls:
                return untyped(value, memo)
            return value.value if is_flag else value.name

        return member

    def _union(self, args: tuple[Any, ...]) -> Walk:
        """Leave off the class name only where one member alone can be meant."""
        scalars = [exact for arg in args if (exact := self.exact_types(arg)) is not None]
        others = [arg for arg in args if self.exact_types(arg) is None]
        exact = frozenset().union(*scalars)
        alone = len(others) == 1 and read_form(others[0]).kind not in ("union", "any")
        if alone and read_form(others[0]).kind in ("enum", "flag"):
            alone = not exact & {str, int}
        if not alone:
            return self.untyped
        walk = self.walk_later(others[0])

        def union(value: Any, memo: Memo) -> Any:
            return value if value.__class__ in exact else walk(value, memo)

        return union

    def walk_later(self, hint: Any) -> Walk:
        """Return a function that compiles its type at first use: recursive types need it."""
        found: list[Walk] = []

        def later(value: Any, memo: Memo) -> Any:
            if not found:
                found.append(self.walk(hint))
            return found[0](value, memo)

        return later

    def record(self, cls: Any) -> Walk:
        """Return the compiled function for one record class."""
        known = self._records.get(cls)
        if known is None:
            known = self._records[cls] = self._compile_record(cls)
        return known

    def _compile_record(self, cls: Any) -> Walk:
        fields = [(field.name, self._field_walk(field.hint)) for field in record_fields(cls)]
        if flavour_of(cls) == "typeddict":
            return self._typed_dict(dict(fields))
        return generate_record(cls, fields, self._incomplete(dict(fields)), self.untyped)

    def _field_walk(self, hint: Any) -> Walk | frozenset[type]:
        exact = self.exact_types(hint)
        return exact if exact is not None else self.walk_later(hint)

    def _incomplete(self, fields: dict[str, Walk | frozenset[type]]) -> Walk:
        """Freeze an object that lacks an attribute: building it anew says so, or has a default."""

        def incomplete(value: Any, memo: Memo) -> Any:
            node: dict[str, Any] = memo.setdefault(id(value), {})
            for name, walk in fields.items():
                if hasattr(value, name):
                    part = getattr(value, name)
                    node[name] = (
                        self._scalar(walk)(part, memo)
                        if isinstance(walk, frozenset)
                        else walk(part, memo)
                    )
            return node

        return incomplete

    def _typed_dict(self, fields: dict[str, Walk | frozenset[type]]) -> Walk:
        untyped = self.untyped
        walks = {
            name: self._scalar(walk) if isinstance(walk, frozenset) else walk
            for name, walk in fields.items()
        }

        def typed_dict(value: Any, memo: Memo) -> Any:
            if value.__class__ is not dict or TYPE_KEY in value:
                return untyped(value, memo)
            if (known := memo.get(id(value))) is not None:
                return known
            memo[id(value)] = node = {}
            for name, part in value.items():
                node[name] = walks.get(name, untyped)(part, memo)
            return node

        return typed_dict

    # -- containers

    def _dict_of(self, value_hint: Any, node_class: Any) -> Walk:
        walk = self.untyped if value_hint is None else self.walk(value_hint)

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
            return ("$tuple", *parts) if _looks_tagged(key) else parts
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
        return memo.setdefault(id(value), ("$tuple", *parts) if _looks_tagged(value) else parts)

    def _fixed_tuple(self, walks: list[Walk]) -> Walk:
        untyped = self.untyped
        count = len(walks)

        def fixed(value: Any, memo: Memo) -> Any:
            if value.__class__ is not tuple or len(value) != count or _looks_tagged(value):
                return untyped(value, memo)
            return tuple([walk(part, memo) for walk, part in zip(walks, value, strict=True)])

        return fixed

    # -- by class, where there is no hint

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
        content, value_base = _bases(cls, self.own)
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
                bare = _bare_value(value_base, value)
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


def generate_record(
    cls: Any, fields: list[tuple[str, Walk | frozenset[type]]], incomplete: Walk, untyped: Walk
) -> Walk:
    """Write and compile the function that takes one record class apart.

    Args:
        cls: The class.
        fields: Name of each field with the classes that are kept as they are, or its function.
        incomplete: Takes over when an attribute is missing.
        untyped: Takes over when the object is of another class.
    """
    names: dict[str, Any] = {"cls": cls, "incomplete": incomplete, "untyped": untyped}
    head = ["def freeze(o, memo):", " if o.__class__ is not cls:", "  return untyped(o, memo)"]
    head += [" i = id(o)", " node = memo.get(i)", " if node is not None:", "  return node"]
    body, flat = [], True
    for n, (name, how) in enumerate(fields):
        body.append(f"  v{n} = o.{name}")
        if isinstance(how, frozenset):
            names[f"t{n}"] = next(iter(how)) if len(how) == 1 else how
            test = "is not" if len(how) == 1 else "not in"
            body.append(f"  if v{n}.__class__ {test} t{n}:\n   v{n} = untyped(v{n}, memo)")
        else:
            flat = False
            names[f"f{n}"] = how
            if isinstance(getattr(cls, name, None), property):
                body.append(f"  memo[0].append(v{n})")
            body.append(f"  v{n} = f{n}(v{n}, memo)")
    literal = "{" + ", ".join(f"{name!r}: v{n}" for n, (name, _) in enumerate(fields)) + "}"
    # A flat record cannot be part of a cycle: its node is entered when it is complete.
    begin = [" try:"] if flat else [" memo[i] = node = {}", " try:"]
    rest = [f"  node.update({literal})"] if not flat else []
    end = [" except AttributeError:", "  return incomplete(o, memo)"]
    end += [f" memo[i] = node = {literal}"] if flat else []
    source = "\n".join([*head, *begin, *(body or ["  pass"]), *rest, *end, " return node"])
    exec(compile(source, f"<replank freeze {cls.__qualname__}>", "exec"), names)  # noqa: S102
    walk: Walk = names["freeze"]
    return walk


def slot_names(cls: type) -> tuple[str, ...]:
    """List the slots of a class and its bases, private names as they are stored."""
    found: list[str] = []
    for base in cls.__mro__:
        slots = base.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name in ("__dict__", "__weakref__"):
                continue
            private = name.startswith("__") and not name.endswith("__")
            found.append(f"_{base.__name__.lstrip('_')}{name}" if private else name)
    return tuple(found)


def _bases(cls: type, own: Namespace) -> tuple[Any, Any]:
    """Return the container or value class that an own class extends; refuse hidden state."""
    for base in cls.__mro__:
        if own.owns(base) or base is object or base.__module__ in ("typing", "abc"):
            continue
        if base.__module__ == "collections.abc":
            continue
        if base in _CONTENT_BASES:
            return base, None
        if base in _VALUE_BASES:
            return None, base
        raise MigrationError(
            f"an object of {cls.__qualname__} cannot be moved to the new version's class",
            found=f"its base {base.__qualname__} keeps state that cannot be seen",
            expected="a class whose whole state is in its attributes",
            do="mark the field `Carry[...]`, or open the object in on_start",
        )
    return None, None


def _bare_value(base: Any, value: Any) -> Any:
    return tuple(value) if base is tuple else base(value)


def _looks_tagged(value: tuple[Any, ...]) -> bool:
    return bool(value) and value[0].__class__ is str and value[0].startswith("$")


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


def _bytearray(value: Any, memo: Memo) -> Any:
    known = memo.get(id(value))
    if known is None:
        known = memo[id(value)] = value.copy()
    return known


def _list_of(walk: Walk) -> Walk:
    def items(value: Any, memo: Memo) -> Any:
        if (known := memo.get(id(value))) is not None:
            return known
        node: list[Any] = []
        memo[id(value)] = node
        node.extend([part if part.__class__ is str else walk(part, memo) for part in value])
        return node

    return items


def _deque_of(walk: Walk) -> Walk:
    def items(value: Any, memo: Memo) -> Any:
        if (known := memo.get(id(value))) is not None:
            return known
        node: collections.deque[Any] = collections.deque(maxlen=value.maxlen)
        memo[id(value)] = node
        node.extend([walk(part, memo) for part in value])
        return node

    return items


def _tuple_of(walk: Walk) -> Walk:
    def items(value: Any, memo: Memo) -> Any:
        parts = tuple([walk(part, memo) for part in value])
        return ("$tuple", *parts) if _looks_tagged(value) else parts

    return items


__all__ = ["Freezer", "Memo", "generate_record", "slot_names"]
