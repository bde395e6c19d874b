"""Take retired generations out of memory, after their last call, away from traffic."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import perf_counter

from replank.code.generation import Generation
from replank.config import ReloadConfig
from replank.coordinator.leak_watch import Leak, LeakWatch
from replank.errors import DefinitionError, StreamEnded
from replank.instrumentation.events import Bus, GenerationRetired, Warned
from replank.report import Phase
from replank.threads import in_thread
from replank.traffic.moves import end_streams
from replank.verification.effects import Effects, leaks_of


class Retirement:
    """Wait for the last call of each retired generation, stop it and unload it.

    Args:
        bus: Is told.
        stop: Runs a generation's `on_stop`.
        config: How long to wait for streams and for the collector, and how many may stay.
    """

    def __init__(
        self, bus: Bus, stop: Callable[[Generation], Awaitable[None]], config: ReloadConfig
    ) -> None:
        self._bus = bus
        self._stop = stop
        self._config = config
        self._closing = asyncio.Event()
        self._tasks: dict[asyncio.Task[None], Generation] = {}
        self._leaks = _Look()
        self.watch = LeakWatch(bus, config)
        """Looks whether they are gone."""

    @property
    def waiting(self) -> int:
        """How many generations are called still; one that is on its way out is none of them."""
        return sum(one.lane.outlived for one in self._tasks.values())

    @property
    def leaving(self) -> int:
        """How many generations are on their way out, those that are called still with them."""
        return len(self._tasks)

    @property
    def leaks(self) -> tuple[Leak, ...]:
        """The generations that were found to stay in memory, and do."""
        return self.watch.leaks

    def refuse_more(self, name: str) -> None:
        """Refuse one more generation when too many old ones stay.

        Args:
            name: The module that is to be reloaded.

        Raises:
            DefinitionError: There are as many as may be.
        """
        leaks, most = self.leaks, self._config.max_retired
        if len(leaks) + self.waiting < most:
            return
        raise DefinitionError(
            "too many old generations stay in memory",
            module=name,
            phase=Phase.PREPARE,
            found="; ".join(map(str, leaks[:3])) or f"{self.waiting} are called still",
            expected=f"fewer than max_retired = {most}",
            do="let go of what holds them, or restart; or raise reload.max_retired",
        )

    def retire(self, generation: Generation) -> None:
        """Begin to take a generation out of memory; returns at once."""
        task = asyncio.create_task(self._retire(generation), name=f"retire {generation.label}")
        self._tasks[task] = generation
        task.add_done_callback(self._tasks.pop)

    async def close(self, deadline_s: float) -> None:
        """Wait until all are gone, or the deadline."""
        self._closing.set()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=deadline_s)
        await self.watch.close()

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
        await self._tell_leaks(generation)
        number = generation.number
        alive = generation.witness()
        generation.unload()
        self._bus.publish(
            GenerationRetired(name=name, generation=number, seconds=perf_counter() - began)
        )
        if alive is not None:
            self.watch.expect(name, number, alive)

    async def _tell_leaks(self, generation: Generation) -> None:
        """Warn of what the generation has left running: beside its successor it runs twice."""
        if generation.effects is None:
            return
        try:
            lines = await self._leaks.of(generation.effects, generation.code.private_name)
        except Exception as error:
            lines = (f"what it has left could not be seen: {type(error).__name__}: {error}",)
        for line in lines:
            text = f"left behind by {generation.label}, which serves no more: {line}"
            self._bus.publish(Warned(text=text, module=generation.definition.name))

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
                waiting, timeout=self._config.stream_timeout_s, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            streams.on_empty = None
            for one in waiting:
                one.cancel()
        end_streams(generation.lane, lambda call: self._late(generation, call))

    def _late(self, generation: Generation, call: str) -> StreamEnded:
        stopping = self._closing.is_set()
        why = (
            "the host is stopping"
            if stopping
            else f"it was open for {self._config.stream_timeout_s:g} s more"
        )
        return StreamEnded(
            f"the stream {call} did not finish in its version: {why}",
            module=generation.definition.name,
            found=f"a stream of {generation.label}, which no longer serves",
            expected=f"an end within stream_timeout_s = {self._config.stream_timeout_s:g}",
            do="open it again; for a feed without an end declare @stream(on_reload='resume')",
        )


class _Look:
    """Looks for what generations have left, in a thread; those that ask meanwhile are the next."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._asked: dict[asyncio.Future[tuple[str, ...]], tuple[Effects, str]] = {}

    async def of(self, effects: Effects, name: str) -> tuple[str, ...]:
        """Return what one generation has left, one line each.

        Args:
            effects: Those of its transaction.
            name: Its private name.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[tuple[str, ...]] = loop.create_future()
        self._asked[answer] = effects, name
        async with self._turn:
            if not answer.done():
                await self._answer_all(loop)
        return await answer

    async def _answer_all(self, loop: asyncio.AbstractEventLoop) -> None:
        asked, self._asked = self._asked, {}
        try:
            found = await in_thread(leaks_of, list(asked.values()), loop)
        except asyncio.CancelledError:  # it is this one's end: the others ask again, by themselves
            self._asked = {**asked, **self._asked}
            raise
        except Exception as error:
            for answer in asked:
                if not answer.done():
                    answer.set_exception(error)
                    answer.exception()  # marked as seen: who asked may have been cancelled
            return
        for answer, lines in zip(asked, found, strict=True):
            if not answer.done():
                answer.set_result(lines)


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
