"""Views of a table while a reload is under way: live, with the set operations of a dict's views."""

from __future__ import annotations

import collections.abc
from collections.abc import Iterable, Iterator, Mapping
from reprlib import recursive_repr
from types import MappingProxyType
from typing import Any


class _View:
    """What the three views share."""

    _mapping: Any

    @property
    def mapping(self) -> MappingProxyType[Any, Any]:
        """A read-only proxy of the table, as a dict's views have it."""
        return MappingProxyType(self._mapping)

    def __copy__(self) -> Any:
        raise TypeError(f"cannot copy {type(self).__name__!r} object")


class KeysView(_View, collections.abc.KeysView[Any]):
    """Stand for `table.keys()`."""

    __slots__ = ()

    @classmethod
    def _from_iterable(cls, it: Iterable[Any]) -> set[Any]:
        return set(it)

    def __reversed__(self) -> Iterator[Any]:
        return iter(reversed(self._mapping))

    def __repr__(self) -> str:
        return f"dict_keys({list(self)!r})"


class ValuesView(_View, collections.abc.ValuesView[Any]):
    """Stand for `table.values()`."""

    __slots__ = ()

    def __iter__(self) -> Iterator[Any]:
        table = self._mapping
        return (table[key] for key in table)

    def __reversed__(self) -> Iterator[Any]:
        table = self._mapping
        return (table[key] for key in reversed(table))

    def __repr__(self) -> str:
        return f"dict_values({list(self)!r})"


class ItemsView(_View, collections.abc.ItemsView[Any, Any]):
    """Stand for `table.items()`."""

    __slots__ = ()

    @classmethod
    def _from_iterable(cls, it: Iterable[Any]) -> set[Any]:
        return set(it)

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        table = self._mapping
        return ((key, table[key]) for key in table)

    def __reversed__(self) -> Iterator[tuple[Any, Any]]:
        table = self._mapping
        return ((key, table[key]) for key in reversed(table))

    def __contains__(self, item: object) -> bool:
        if not isinstance(item, tuple) or len(item) != 2:  # noqa: PLR2004  # a key and a value
            return False
        key, value = item
        if key not in self._mapping:
            return False
        mine = self._mapping[key]
        return bool(mine is value or mine == value)

    def __repr__(self) -> str:
        return f"dict_items({list(self)!r})"


def same_items(table: Mapping[Any, Any], other: object) -> Any:
    """Compare as dicts compare: the same keys with equal values, in whatever order.

    Returns:
        Whether they are equal; NotImplemented when `other` is no dict.
    """
    if table is other:
        return True
    if not isinstance(other, dict):
        return NotImplemented
    return dict(table.items()) == dict(other.items())


@recursive_repr("{...}")
def show_items(table: Mapping[Any, Any]) -> str:
    """Write the table as a dict writes itself."""
    return "{" + ", ".join(f"{key!r}: {value!r}" for key, value in table.items()) + "}"
