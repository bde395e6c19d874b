"""About how much memory a state takes, from a look at few of its objects."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Final

from replank.table import Table

LOOKED_AT_MAX: Final = 2_000
"""Objects looked at for each field: about a millisecond, however large the state is."""
_WIDTH: Final = 64
_DEPTH: Final = 12
"""Levels looked into: an object that holds itself has no last one."""
_SEQUENCES: Final = (list, tuple, set, frozenset, deque)


def state_size(values: Mapping[str, Any]) -> tuple[int, int]:
    """Return how many records a state has, and about how many bytes of memory it takes.

    Args:
        values: Its fields, without those that are carried.
    """
    records = sum(len(value) for value in values.values() if isinstance(value, Table))
    return records, sum(about_bytes(value) for value in values.values())


def about_bytes(value: Any, looks: int = LOOKED_AT_MAX, depth: int = _DEPTH) -> int:
    """Return about how many bytes an object takes with all that it holds.

    Args:
        value: Any object.
        looks: How many objects may be looked at.
        depth: How many levels may be looked into.
    """
    size = sys.getsizeof(value)
    if looks <= 1 or depth == 0:
        return size
    count, parts = _parts(value)
    if not count:
        return size
    sampled = min(count, _WIDTH, looks - 1)
    each = (looks - 1) // sampled
    found = sum(about_bytes(part, each, depth - 1) for part in islice(parts, sampled))
    return size + found * count // sampled


def _parts(value: Any) -> tuple[int, Iterable[Any]]:
    """Return how many parts an object has, and the parts."""
    if isinstance(value, dict):
        # Past the table's own reading: a look must not count as one.
        return 2 * len(value), _pairs(value)
    if isinstance(value, _SEQUENCES):
        return len(value), value
    names = getattr(type(value), "__struct_fields__", None)
    if names:
        return len(names), (getattr(value, name, None) for name in names)
    space = getattr(value, "__dict__", None)
    if isinstance(space, dict) and not isinstance(value, type):
        return len(space), space.values()
    return 0, ()


def _pairs(value: dict[Any, Any]) -> Iterator[Any]:
    for key, item in dict.items(value):
        yield key
        yield item


__all__ = ["LOOKED_AT_MAX", "about_bytes", "state_size"]
