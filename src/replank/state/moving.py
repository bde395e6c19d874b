"""Objects of own classes without a schema: what they consist of, and empty ones to fill."""

from __future__ import annotations

import collections
from typing import Any

from replank.errors import MigrationError
from replank.state.names import Namespace

_CONTENT_BASES = (dict, list, set, collections.deque)
_VALUE_BASES = (str, bytes, int, float, tuple, frozenset)


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


def object_bases(cls: type, own: Namespace) -> tuple[Any, Any]:
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


def bare_value(base: Any, value: Any) -> Any:
    """Return the builtin value that an object of an own subclass of it holds."""
    return tuple(value) if base is tuple else base(value)


def new_object(cls: Any) -> Any:
    """Make an empty object without running the author's `__new__` or `__init__`."""
    for base in cls.__mro__:
        if base in (dict, list, set, collections.deque):
            return base.__new__(cls)
    return object.__new__(cls)


def not_movable(name: str, found: str) -> MigrationError:
    """Return the error for an object whose class has changed too much."""
    return MigrationError(
        f"an object of {name} cannot be moved to the new version's class",
        found=found,
        expected="a class of the same name with the same attributes",
        do=f"keep the layout of {name}, declare it as a Record, or write a step for it",
    )


__all__ = ["bare_value", "new_object", "not_movable", "object_bases", "slot_names"]
