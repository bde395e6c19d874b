"""What can be noticed about a value that changes in place, by its class.

- frozen: it cannot change; nothing needs to be noted.
- writes: its class takes a `__setattr__` for the window, which notes each write.
- reads: it holds, or is, a container that changes without any hook (list, set, dict, deque), or an
  object of a class that takes no hook. Whoever may change it has reached it through the table, so
  in the window what was *read* counts as written.

For classes whose fields are annotated the annotations decide, once for the class; the migration
checks each value against them anyway. Classes without annotations are looked at value by value.
"""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import pathlib
import re
import types
import typing
import uuid
from collections.abc import Iterator
from typing import Any, Final
from weakref import WeakKeyDictionary

import msgspec

_ATOMS: tuple[type, ...] = (
    type(None), bool, int, float, complex, str, bytes, range, slice,
    dt.date, dt.time, dt.timedelta, dt.tzinfo,
    decimal.Decimal, fractions.Fraction, uuid.UUID, enum.Enum, pathlib.PurePath,
    re.Pattern, type, types.FunctionType, types.BuiltinFunctionType, types.ModuleType,
)  # fmt: skip
_IMMUTABLE_TYPE = 1 << 8
_HEAP_TYPE = 1 << 9


class Tracking(enum.StrEnum):
    """How changes of a value are noticed while a window is open, the cheapest first."""

    FROZEN = "frozen"
    WRITES = "writes"
    READS = "reads"


_ORDER = tuple(Tracking)


def harder(*many: Tracking) -> Tracking:
    """Return the one of several that needs the most watching."""
    return max(many, key=_ORDER.index, default=Tracking.FROZEN)


class Inside(enum.Enum):
    """Where the parts of a value are that may change on their own."""

    NOTHING = enum.auto()
    FIELDS = enum.auto()
    ATTRIBUTES = enum.auto()
    ITEMS = enum.auto()
    PAIRS = enum.auto()


@dataclasses.dataclass(frozen=True, slots=True)
class Kind:
    """What is known about the values of one class."""

    own: Tracking
    """For the value's own attributes or items, apart from what they hold."""
    inside: Inside = Inside.NOTHING
    fields: tuple[str, ...] = ()
    declared: Tracking = Tracking.FROZEN
    """The hardest that the annotations allow anywhere inside."""
    atom: bool = False

    def parts(self, value: Any) -> Iterator[Any]:
        """Yield what the value holds, as far as it may change on its own."""
        match self.inside:
            case Inside.FIELDS:
                return (getattr(value, name, None) for name in self.fields)
            case Inside.ATTRIBUTES:
                return _attributes(value)
            case Inside.ITEMS:
                return iter(value)
            case Inside.PAIRS:
                return (part for pair in value.items() for part in pair)
            case _:
                return iter(())


def _attributes(value: Any) -> Iterator[Any]:
    yield from getattr(value, "__dict__", {}).values()
    for cls in type(value).__mro__:
        slots = cls.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in ("__weakref__", "__dict__"):
                yield getattr(value, name, None)


def takes_barrier(cls: type) -> bool:
    """Whether a class lets a `__setattr__` be put on it for a while."""
    return bool(cls.__flags__ & _HEAP_TYPE) and not cls.__flags__ & _IMMUTABLE_TYPE


def _is_frozen(cls: type) -> bool:
    if issubclass(cls, msgspec.Struct):
        return bool(cls.__struct_config__.frozen)
    parameters = cls.__dict__.get("__dataclass_params__")
    return bool(parameters is not None and parameters.frozen)


def _annotated_fields(cls: type) -> dict[str, Any] | None:
    """Return the fields with their types; None when the class does not declare all it holds."""
    if issubclass(cls, msgspec.Struct):
        names = [*cls.__struct_fields__]
    elif dataclasses.is_dataclass(cls) and "__dataclass_fields__" in cls.__dict__:
        names = [field.name for field in dataclasses.fields(cls)]
    else:
        return None
    try:
        hints = typing.get_type_hints(cls)
    except Exception:  # a name that no longer resolves: look at the values instead
        return None
    return {name: hints.get(name, Any) for name in names}


def kind_of(cls: type) -> Kind:
    """Return how values of a class change, and where to look inside them."""
    found = _kinds.get(cls)
    if found is None:
        found = _kinds[cls] = _kind_of(cls, frozenset())
    return found


_kinds: Final = WeakKeyDictionary[type, Kind]()
"""Asked for each record that is looked at; to read a class's annotations takes a tenth of a ms."""


def _kind_of(cls: type, _seen: frozenset[type]) -> Kind:  # noqa: PLR0911  # a table
    if issubclass(cls, _ATOMS):
        return Kind(Tracking.FROZEN, atom=True)
    if issubclass(cls, tuple | frozenset):
        return Kind(Tracking.FROZEN, Inside.ITEMS, declared=Tracking.READS)
    if issubclass(cls, dict):
        return Kind(Tracking.READS, Inside.PAIRS, declared=Tracking.READS)
    if issubclass(cls, list | set | collections.deque):
        return Kind(Tracking.READS, Inside.ITEMS, declared=Tracking.READS)
    if issubclass(cls, bytearray) or not takes_barrier(cls):
        return Kind(Tracking.READS, declared=Tracking.READS)
    own = Tracking.FROZEN if _is_frozen(cls) else Tracking.WRITES
    hints = _annotated_fields(cls)
    if hints is None:
        return Kind(own, Inside.ATTRIBUTES, declared=own)
    by_name = {name: classify(hint, _seen | {cls}) for name, hint in hints.items()}
    watched = tuple(name for name, tracking in by_name.items() if tracking != Tracking.FROZEN)
    inside = Inside.FIELDS if watched else Inside.NOTHING
    return Kind(own, inside, watched, harder(own, *by_name.values()))


def classify(hint: Any, _seen: frozenset[type] = frozenset()) -> Tracking:  # noqa: PLR0911
    """Return the hardest tracking that a value of an annotated type can need."""
    hint = getattr(hint, "__value__", hint)  # type X = ...
    hint = getattr(hint, "__supertype__", hint)  # NewType
    origin = typing.get_origin(hint)
    arguments = typing.get_args(hint)
    if origin is typing.Annotated:
        return classify(arguments[0], _seen)
    if origin is typing.Literal or hint is None:
        return Tracking.FROZEN
    if origin in (typing.Union, types.UnionType):
        return harder(*(classify(argument, _seen) for argument in arguments))
    cls = origin or hint
    if not isinstance(cls, type) or cls in (object, Any):
        return Tracking.READS
    if issubclass(cls, tuple | frozenset) and arguments:
        parts = (argument for argument in arguments if argument is not Ellipsis)
        return harder(*(classify(part, _seen) for part in parts))
    if cls in _seen:
        return Tracking.FROZEN if _is_frozen(cls) else Tracking.WRITES  # looked at already
    return kind_of(cls).declared if not _seen else _kind_of(cls, _seen).declared


def declared_classes(hint: Any, found: set[type] | None = None) -> set[type]:
    """Return the classes that annotations allow in and below a value, and that take a barrier."""
    found = set() if found is None else found
    hint = getattr(hint, "__value__", hint)
    hint = getattr(hint, "__supertype__", hint)
    for argument in typing.get_args(hint):
        if typing.get_origin(hint) is not typing.Literal:
            declared_classes(argument, found)
    cls = typing.get_origin(hint) or hint
    if not isinstance(cls, type) or cls in found or not takes_barrier(cls) or kind_of(cls).atom:
        return found
    found.add(cls)
    for inner in (_annotated_fields(cls) or {}).values():
        declared_classes(inner, found)
    return found
