"""The timers and tasks of an isolated module: timers tick in the host, tasks run in the worker.

A timer's method is a call like any other, and the host's timetable survives the worker. A spawned
task lives where it was spawned: what is done with the tasks of a generation is told to its worker.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import cast

from replank.isolation.link import LinkEnded
from replank.isolation.remote import RemoteGeneration
from replank.isolation.remote_lane import RemoteLane
from replank.traffic.lane import Lane
from replank.traffic.tasks import Tasks


class RemoteTasks(Tasks):
    """What runs in an isolated module beside its calls."""

    _holding: RemoteGeneration | None = None

    @property
    def holds(self) -> bool:
        """Whether there is something to end, here or in the worker."""
        return super().holds or self._holding is not None

    def hold(self) -> None:
        """Keep every task where it stands; what the worker is asked afterwards finds them held."""
        super().hold()
        self._holding = _generation_of(self._lane)
        if self._holding is not None:
            self._holding.note("hold")

    def release(self) -> None:
        """Let the held tasks go on."""
        super().release()
        holding, self._holding = self._holding, None
        if holding is not None:
            holding.note("release")

    async def end_held(self) -> tuple[str, ...]:
        """Cancel the held tasks; returns the names of the spawned methods among them."""
        names = await super().end_held()
        holding, self._holding = self._holding, None
        return names + await _asked(holding, "end_held")

    def start(self, timers: Mapping[str, float], resume: Iterable[str] = ()) -> None:
        """Start the timers, and have the worker go on with what ran before."""
        super().start(timers)
        generation, names = _generation_of(self._lane), tuple(resume)
        if generation is not None and names:
            generation.note("resume", names)

    async def stop(self) -> tuple[str, ...]:
        """Stop all."""
        names = await super().stop()
        return names + await _asked(_generation_of(self._lane), "stop_tasks")


async def _asked(generation: RemoteGeneration | None, name: str) -> tuple[str, ...]:
    if generation is None or not generation.worker.alive:
        return ()
    try:
        names: tuple[str, ...] = await generation.worker.request(name)
    except LinkEnded:
        return ()  # they have ended with their process
    return names


def _generation_of(lane: Lane | None) -> RemoteGeneration | None:
    return None if lane is None else cast("RemoteLane", lane).remote


__all__ = ["RemoteTasks"]
