"""What keeps shared objects shared while a state is taken apart or put together.

The memo maps `id(object)` to its node, or `id(node)` to the object built from it. It relies on
both staying alive while it is used: live values and trees do; what is made on the fly (by a
property, or a default that is filled in) is kept alive under key 0.
"""

from __future__ import annotations

from typing import Any

from replank.plain import Walk

Memo = dict[int, Any]

_KEPT = 0
_MADE_BY = -1


def new_memo(kept: list[Any] | None = None) -> Memo:
    """Return an empty memo.

    Args:
        kept: Objects to keep alive while it is used; 0 is no object's id.
    """
    return {_KEPT: [] if kept is None else kept, _MADE_BY: {}}


class Conflict(Exception):
    """A container is shared by two fields whose types say different things about its items.

    Its node can leave out the class names that one of the types knows, but then the other cannot
    tell what the items are.
    """


def mark(value: Any, maker: Any, memo: Memo) -> None:
    """Note who makes a container's node.

    Raises:
        Conflict: Another type made it already, and left out what this one needs.
    """
    key = id(value)
    if key not in memo:
        memo.setdefault(_MADE_BY, {})[key] = maker
    elif memo.get(_MADE_BY, {}).get(key, maker) is not maker:
        raise Conflict


def unshared(walk: Walk) -> Walk:
    """Refuse to use a node that a typed walk made: it may lack class names."""

    def checked(value: Any, memo: Memo) -> Any:
        if id(value) in memo.get(_MADE_BY, ()):
            raise Conflict
        return walk(value, memo)

    return checked


__all__ = ["Conflict", "Memo", "mark", "new_memo", "unshared"]
