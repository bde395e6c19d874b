"""Where two trees differ, for people: place, first and second value."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from replank.migration import paths
from replank.plain import Opaque, show

_ABSENT = object()


def differences(one: Any, other: Any) -> Iterator[tuple[str, str, str]]:
    """Yield place, first and second value wherever two trees differ; order of keys aside.

    Args:
        one: The first tree.
        other: The second one.
    """
    for location, before, after in _compare(one, other, (), set()):
        yield (
            paths.shown(location),
            "nothing" if before is _ABSENT else show(before),
            "nothing" if after is _ABSENT else show(after),
        )


def _compare(
    one: Any, other: Any, location: tuple[Any, ...], open_pairs: set[tuple[int, int]]
) -> Iterator[tuple[tuple[Any, ...], Any, Any]]:
    if isinstance(one, dict) and isinstance(other, dict) and type(one) is type(other):
        pair = (id(one), id(other))
        if pair in open_pairs:
            return
        open_pairs.add(pair)
        for key in [*one, *(key for key in other if key not in one)]:
            before, after = one.get(key, _ABSENT), other.get(key, _ABSENT)
            yield from _compare(before, after, (*location, key), open_pairs)
        return
    listed = isinstance(one, list | tuple) and isinstance(other, list | tuple)
    if listed and type(one) is type(other) and len(one) == len(other):
        pair = (id(one), id(other))
        if pair in open_pairs:
            return
        open_pairs.add(pair)
        for index, (before, after) in enumerate(zip(one, other, strict=True)):
            yield from _compare(before, after, (*location, index), open_pairs)
        return
    if isinstance(one, Opaque) and isinstance(other, Opaque) and one.value is other.value:
        return
    if type(one) is not type(other) or (one != other and not (one != one and other != other)):  # noqa: PLR0124 - NaN
        yield location, one, other


__all__ = ["differences"]
