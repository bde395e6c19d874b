"""Take retired generations out of memory, after their last call, away from traffic."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import perf_counter

from replank.code.generation import Generation
from replank.errors import StreamEnded
from replank.instrumentation.events import Bus, GenerationRetired, Warned
from replank.traffic.streams import end_streams


class Retirement:
    """Wait for the last call of each retired generation, stop it and unload it.

    Args:
        bus: Is told.
        stop: Runs a generation's `on_stop`.
        streams_s: Seconds that open streams get to finish.
    """

    def __init__(
        self, bus: Bus, stop: Callable[[Generation], Awaitable[None]], streams_s: float
    ) -> None:
        self._bus = bus
        self._stop = stop
        self._streams_s = streams_s
        self._closing = asyncio.Event()
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
        self._closing.set()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=deadline_s)

    async def _retire(self, generation: Generation) -> None:
        began = perf_counter()
        await self._last_stream(generation)
        await _last_call(generation)
        name = generation.definition.name
        if generation.seal is not None:  # on_stop may write: it is no call
            generation.seal.lift()
        try:
            await self._stop(generation)
        except Exception as error:
            text = f"on_stop of {generation.label} failed: {type(error).__name__}: {error}"
            self._bus.publish(Warned(text=text, module=name))
        number = generation.number
        generation.unload()
        self._bus.publish(
            GenerationRetired(name=name, generation=number, seconds=perf_counter() - began)
        )

    async def _last_stream(self, generation: Generation) -> None:
        """Return when no stream is open in the generation; they get some time, and not for ever."""
        streams, loop = generation.lane.streams, asyncio.get_running_loop()
        if not streams:
            return
        empty = asyncio.Event()
        streams.on_empty = empty.set
        waiting = [loop.create_task(empty.wait()), loop.create_task(self._closing.wait())]
        try:
            await asyncio.wait(
                waiting, timeout=self._streams_s, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            streams.on_empty = None
            for one in waiting:
                one.cancel()
        end_streams(generation.lane, lambda call: self._late(generation, call))

    def _late(self, generation: Generation, call: str) -> StreamEnded:
        stopping = self._closing.is_set()
        why = "the host is stopping" if stopping else f"it was open for {self._streams_s:g} s more"
        return StreamEnded(
            f"the stream {call} did not finish in its version: {why}",
            module=generation.definition.name,
            found=f"a stream of {generation.label}, which no longer serves",
            expected=f"an end within stream_timeout_s = {self._streams_s:g}",
            do="open it again; for a feed without an end declare @stream(on_reload='resume')",
        )


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
