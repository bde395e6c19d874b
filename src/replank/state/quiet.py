"""Read the tables of an open window at the speed of a dict, for as long as nothing else runs.

A table in a window asks its layers for each item, since traffic may change them between two. Where
the event loop is held anyway, an invariant walks the whole table, and a million items must not take
seconds: all iteration here is done in C, over the base without its dead and then over the late.
"""

from __future__ import annotations

import collections.abc
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import chain, filterfalse
from typing import Any

from replank.state.layers import phase_class
from replank.state.tables import CopyingTable
from replank.table import Table


class QuietTable(CopyingTable):
    """A table in an open window that nobody writes to now."""

    __slots__ = ()

    def __iter__(self) -> Iterator[Any]:
        return self._layers.sequence()

    def values(self) -> Any:
        """Return the records; reading them here marks nothing."""
        return _QuietValues(self)

    def items(self) -> Any:
        """Return pairs of key and record."""
        return _QuietItems(self)

    def _base_keys(self) -> Iterator[Any]:
        dead = self._layers.dead
        keys = dict.__iter__(self)
        return filterfalse(dead.__contains__, keys) if dead else keys

    def _all_values(self) -> Iterator[Any]:
        layers = self._layers
        if not layers.dead:
            return chain(dict.values(self), layers.late.values())
        return chain(map(partial(dict.__getitem__, self), self._base_keys()), layers.late.values())


class _QuietValues(collections.abc.ValuesView[Any]):
    _mapping: QuietTable

    def __iter__(self) -> Iterator[Any]:
        return self._mapping._all_values()


class _QuietItems(collections.abc.ItemsView[Any, Any]):
    _mapping: QuietTable

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        return zip(self._mapping, self._mapping._all_values(), strict=True)


@contextmanager
def read_quietly(values: Iterable[Any]) -> Iterator[None]:
    """Make the tables among these values quick to walk; nothing may be awaited or written inside.

    Args:
        values: A module's state; what is no table in an open window is left alone.
    """
    open_now: list[Table[Any, Any]] = [one for one in values if isinstance(one, CopyingTable)]
    before = [type(one) for one in open_now]
    for one in open_now:
        one.__class__ = phase_class(one._layers.steady, QuietTable)
    try:
        yield
    finally:
        for one, kind in zip(open_now, before, strict=True):
            one.__class__ = kind


__all__ = ["QuietTable", "read_quietly"]
