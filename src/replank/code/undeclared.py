"""Find data that calls have left outside the declared state: a reload would lose it silently.

What `on_start` sets up is the new version's to set up again. But a plain value that a call has put
on the module, or changed in a variable that looks like state and is not declared, stays behind.
"""

from __future__ import annotations

import collections
import datetime as dt
import decimal
import inspect
import types
from collections.abc import Iterator, Mapping
from typing import Any, Final

from replank.definition import Definition

_CONTAINERS: Final = (dict, list, set, bytearray, collections.deque)
_DATA: Final = (
    *(bool, int, float, complex, str, bytes, tuple, frozenset, *_CONTAINERS),
    *(decimal.Decimal, dt.datetime, dt.date, dt.time, dt.timedelta),
)
_COPIED_MAX = 10_000


class Undeclared:
    """What a generation holds besides its state when it begins to serve.

    Args:
        definition: What the module declares.
        target: The module class's instance, or the plain file's Python module.
    """

    def __init__(self, definition: Definition, target: Any) -> None:
        self._declared = {*definition.hints, *(use.field for use in definition.uses)}
        self._target = target
        self._before = {name: id(value) for name, value in self._own().items()}
        self._copies = {
            name: type(value)(value)
            for name, value in self._written().items()
            if type(value) in _CONTAINERS and len(value) <= _COPIED_MAX
        }

    def changed(self) -> tuple[str, ...]:
        """Return the names of the data that was put there or changed since, in order."""
        now = self._own()
        put = (name for name, value in now.items() if self._before.get(name) != id(value))
        filled = (
            name
            for name, value in self._written().items()
            if name in self._copies and value != self._copies[name]
        )
        return tuple(sorted({*put, *filled}))

    def _own(self) -> dict[str, Any]:
        """What the instance, or the file, holds itself."""
        return dict(self._data(vars(self._target)))

    def _written(self) -> dict[str, Any]:
        """What stands in the class body, or the file: it is there before any call."""
        if isinstance(self._target, types.ModuleType):
            return self._own()
        return {
            name: value
            for owner in type(self._target).__mro__
            if owner.__module__ == type(self._target).__module__
            for name, value in self._data(vars(owner))
        }

    def _data(self, space: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        for name, value in list(space.items()):
            hidden = name.startswith(("__", "_replank")) or name in self._declared
            if not hidden and type(value) in _DATA and not inspect.isclass(value):
                yield name, value
