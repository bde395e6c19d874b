"""Count the suspending calls of a module that calls no other one.

Such a call is a chain of one: nobody has to find it again from inside, so a count is enough. There
are two counts, used in turn, so that one can wait for the calls of now while new ones come.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, ClassVar, Protocol

GRACE_LOOK_S = 0.001
SINCE = "__replank_since__"
"""The local variable of a counted call that says when it began, to a beat; no class mangles it."""


class LaneOfLeaf(Protocol):
    """What a count needs of its lane."""

    quick: bool
    on_empty: Callable[[], None] | None
    seal: Any

    @property
    def in_flight(self) -> int:
        """How many calls from outside are in flight there."""


class LeafPass:
    """One of the two counts of a lane; every call that it counts holds it until it leaves.

    Args:
        lane: The lane.
        other: The other count, when that is made already.
    """

    __slots__ = ("blocker", "count", "lane", "other")

    others: ClassVar[tuple[()]] = ()
    """Not None, unlike a chain's that touched one lane: an entry lets `leave` do what is due."""
    blocker: Any
    """Set when a drain's policy ends its calls."""

    def __init__(self, lane: LaneOfLeaf, other: LeafPass | None = None) -> None:
        self.lane = lane
        self.count = 0
        self.other = other if other is not None else LeafPass(lane, self)

    def leave(self) -> None:
        """Count one call out."""
        self.count -= 1
        lane = self.lane
        if not lane.quick and lane.on_empty is not None and not lane.in_flight:
            lane.on_empty()

    async def ended(self) -> None:
        """Return when every call that it counts has ended."""
        while self.count:  # noqa: ASYNC110 - a hook would cost every call that leaves
            await asyncio.sleep(GRACE_LOOK_S)
