"""Taking the simplest containers apart."""

from __future__ import annotations

import collections
from typing import Any

from replank.plain import Walk
from replank.state.memo import Memo


def list_of(walk: Walk) -> Walk:
    """Return the function for lists whose items go through another function."""

    def items(value: Any, memo: Memo) -> Any:
        if (known := memo.get(id(value))) is not None:
            return known
        node: list[Any] = []
        memo[id(value)] = node
        node.extend([part if part.__class__ is str else walk(part, memo) for part in value])
        return node

    return items


def deque_of(walk: Walk) -> Walk:
    """Return the function for deques."""

    def items(value: Any, memo: Memo) -> Any:
        if (known := memo.get(id(value))) is not None:
            return known
        node: collections.deque[Any] = collections.deque(maxlen=value.maxlen)
        memo[id(value)] = node
        node.extend([walk(part, memo) for part in value])
        return node

    return items


def tuple_of(walk: Walk) -> Walk:
    """Return the function for tuples of any length."""

    def items(value: Any, memo: Memo) -> Any:
        parts = tuple([walk(part, memo) for part in value])
        return ("$tuple", *parts) if looks_tagged(value) else parts

    return items


def copy_bytes(value: Any, memo: Memo) -> Any:
    """Copy a bytearray once."""
    known = memo.get(id(value))
    if known is None:
        known = memo[id(value)] = value.copy()
    return known


def looks_tagged(value: tuple[Any, ...]) -> bool:
    """Tell whether a real tuple could be taken for a tag, so that it needs one itself."""
    return bool(value) and value[0].__class__ is str and value[0].startswith("$")


__all__ = ["copy_bytes", "deque_of", "list_of", "looks_tagged", "tuple_of"]
