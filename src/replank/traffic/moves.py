"""What a drain and a reload do with the open streams of a lane, all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from replank.errors import ReplankError
from replank.traffic.lane import Lane, LaneState


@dataclass(frozen=True, slots=True)
class Resumed:
    """A stream went on in another generation."""

    module: str
    call: str
    came_from: str
    goes_on_in: str


@dataclass(frozen=True, slots=True)
class Moved:
    """How many streams were open when another generation began to serve, and what became of them.

    Attributes:
        carried: Go on in the new generation.
        ended: Were ended with an error.
        finishing: Go on in the old one.
    """

    carried: int = 0
    ended: int = 0
    finishing: int = 0


def rest_streams(lane: Lane) -> None:
    """Keep the streams of a lane that is being drained where they stand, the rest a bit later.

    Args:
        lane: The lane; its gate is closed.
    """
    if not lane.streams or lane.state is not LaneState.DRAINING:
        return
    loop = asyncio.get_running_loop()
    waits = [wait_s for one in lane.streams if (wait_s := one.rest(loop.time())) > 0]
    if waits:
        loop.call_later(min(waits), rest_streams, lane)


def move_streams(old: Lane, new: Lane) -> Moved:
    """Decide what becomes of the open streams of a generation that no longer serves.

    Args:
        old: Its lane.
        new: The lane of the one that serves.
    """
    fates = [one.move(new) for one in old.streams]
    return Moved(**{name: fates.count(name) for name in ("carried", "ended", "finishing")})


def end_streams(lane: Lane, error: Callable[[str], ReplankError]) -> None:
    """End every open stream of a generation.

    Args:
        lane: Its lane.
        error: Makes what the readers get, from the name of the call.
    """
    for one in lane.streams:
        one.leave(error(one.call))


__all__ = ["Moved", "Resumed", "end_streams", "move_streams", "rest_streams"]
