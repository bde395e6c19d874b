"""Take retired generations out of memory, after their last call, away from traffic."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import perf_counter

from replank.code.generation import Generation
from replank.instrumentation.events import Bus, GenerationRetired, Warned
from replank.threads import in_thread


class Retirement:
    """Wait for the last call of each retired generation, stop it and unload it.

    Args:
        bus: Is told.
        stop: Runs a generation's `on_stop`.
    """

    def __init__(self, bus: Bus, stop: Callable[[Generation], Awaitable[None]]) -> None:
        self._bus = bus
        self._stop = stop
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def waiting(self) -> int:
        """How many generations are not out of memory yet."""
        return len(self._tasks)

    def retire(self, generation: Generation) -> None:
        """Begin to take a generation out of memory; returns at once."""
        task = asyncio.create_task(self._retire(generation), name=f"retire {generation.label}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self, deadline_s: float) -> None:
        """Wait until all are gone, or the deadline."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=deadline_s)

    async def _retire(self, generation: Generation) -> None:
        began = perf_counter()
        await _last_call(generation)
        name = generation.definition.name
        if generation.seal is not None:  # on_stop may write: it is no call
            generation.seal.lift()
        try:
            await self._stop(generation)
        except Exception as error:
            text = f"on_stop of {generation.label} failed: {type(error).__name__}: {error}"
            self._bus.publish(Warned(text=text, module=name))
        await self._tell_leaks(generation)
        number = generation.number
        generation.unload()
        self._bus.publish(
            GenerationRetired(name=name, generation=number, seconds=perf_counter() - began)
        )

    async def _tell_leaks(self, generation: Generation) -> None:
        """Warn of what the generation has left running: beside its successor it runs twice."""
        if generation.effects is None:
            return
        loop, name = asyncio.get_running_loop(), generation.code.private_name
        try:
            lines = await in_thread(generation.effects.leaks, name, loop)
        except Exception as error:
            lines = (f"what it has left could not be seen: {type(error).__name__}: {error}",)
        for line in lines:
            text = f"left behind by {generation.label}, which serves no more: {line}"
            self._bus.publish(Warned(text=text, module=generation.definition.name))


async def _last_call(generation: Generation) -> None:
    """Return when no call is in flight in the generation; detached ones may take their time."""
    empty = asyncio.Event()
    lane = generation.lane
    while lane.in_flight:
        empty.clear()
        lane.on_empty = empty.set
        try:
            await empty.wait()
        finally:
            lane.on_empty = None
