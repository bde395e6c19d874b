"""Calls that outlive a drain: aborted by its policy, or left to end on a retired generation.

A call costs nothing for this while no drain waits for it. Only when the deadline has passed is the
class of what counts it switched to one of these, whose `leave` tells the caller how it ended.
"""

from __future__ import annotations

import asyncio
import sys
from types import FrameType
from typing import Protocol

from replank.errors import CallAborted
from replank.traffic.calls import CANCELLED_BY_DRAIN, Blocker, Chain, LaneOfChain
from replank.traffic.leaf import LeafPass


class SealOfLane(Protocol):
    """What keeps the calls of a retired generation from writing to its state."""

    def check(self, error: BaseException | None) -> None:
        """Raise StateSealed when something was written behind the seal.

        Args:
            error: What the call raises already; then it gets a note instead.
        """


class AbortedChain(Chain, eq=False, gc=False):
    """A chain whose call was cancelled by a drain: its caller gets `CallAborted`."""

    def leave(self) -> None:
        """End the call; a cancellation by the drain becomes the error that says so."""
        error = _leaving(sys._getframe(1))
        super().leave()
        blocker, self.blocker = self.blocker, None  # it refers to the chain, and no collector sees
        _say_aborted(error, blocker)


class AbortedPass(LeafPass):
    """The same for the calls of a module that calls no other one."""

    __slots__ = ()

    def leave(self) -> None:
        """End one call; a cancellation by the drain becomes the error that says so."""
        error = _leaving(sys._getframe(1))
        super().leave()
        _say_aborted(error, self.blocker)


class OutlivingChain(Chain, eq=False, gc=False):
    """A detached chain: at its end it is looked whether it wrote behind the seal."""

    def leave(self) -> None:
        """End the call.

        Raises:
            StateSealed: What it wrote to is no longer current.
        """
        error = _leaving(sys._getframe(1))
        lanes = self.lanes
        super().leave()
        for lane in lanes:
            if lane.seal is not None:
                lane.seal.check(error)


class OutlivingPass(LeafPass):
    """The same for the calls of a module that calls no other one."""

    __slots__ = ()

    def leave(self) -> None:
        """End one call.

        Raises:
            StateSealed: What it wrote to is no longer current.
        """
        error = _leaving(sys._getframe(1))
        super().leave()
        seal = self.lane.seal
        if seal is not None:
            seal.check(error)


def abort(blocker: Blocker) -> None:
    """Cancel a call that outlived the drain; its caller gets `CallAborted`.

    Args:
        blocker: The call, with the task that holds it.
    """
    assert blocker.task is not None, "nobody holds the call"
    if blocker.chain is not None:
        blocker.chain.blocker = blocker
        blocker.chain.__class__ = AbortedChain
    elif blocker.leaf is not None:
        for one in (blocker.leaf, blocker.leaf.other):
            one.blocker = blocker
            one.__class__ = AbortedPass
    blocker.task.cancel(CANCELLED_BY_DRAIN)


def outlive(lane: LaneOfChain) -> None:
    """Have every call in flight in a lane looked at when it ends.

    Args:
        lane: The lane of a generation that is sealed.
    """
    for chain in tuple(lane.chains):
        chain.__class__ = OutlivingChain
    _switch(lane.leaf, OutlivingPass)


def as_usual(lane: LaneOfChain) -> None:
    """Count the calls of a lane as if no drain had been.

    Args:
        lane: A lane that serves again.
    """
    for chain in tuple(lane.chains):
        chain.__class__ = Chain
    _switch(lane.leaf, LeafPass)


def _switch(leaf: LeafPass | None, kind: type[LeafPass]) -> None:
    if leaf is not None:
        leaf.__class__ = leaf.other.__class__ = kind


def _leaving(frame: FrameType) -> BaseException | None:
    """Return the exception that leaves a frame just now, if one does.

    What `sys.exception` returns may as well be one that a caller further out is handling.
    """
    error = sys.exception()
    if error is None or error.__traceback__ is None:
        return None
    return error if error.__traceback__.tb_frame is frame else None


def _say_aborted(error: BaseException | None, blocker: Blocker | None) -> None:
    if not isinstance(error, asyncio.CancelledError) or error.args != (CANCELLED_BY_DRAIN,):
        return
    assert blocker is not None, "set together with the class"
    task = asyncio.current_task()
    if task is not None and task.uncancel() > 0:
        return  # its caller has been cancelled, too
    raise CallAborted(
        f"the call was ended after {blocker.age_s:.2f} s: the module's drain policy is cancel",
        module=blocker.module,
        phase="drain",
        found=str(blocker),
        expected="calls that end within drain_timeout_s",
        do="look what it has done before you call again; for longer calls raise drain_timeout_s, "
        "or set drain_policy to abort or detach",
    ) from None


__all__ = [
    "AbortedChain",
    "AbortedPass",
    "OutlivingChain",
    "OutlivingPass",
    "SealOfLane",
    "abort",
    "as_usual",
    "outlive",
]
