"""Timers and tasks of a module: held in a pause, stopped with a generation, gone on; never two.

A spawned task runs beside the calls, and would write to a state that is being copied. So in Drain
it is *held*: it stays at the await where it stands, and what it waits for may come meanwhile. After
a rollback it goes on from there as if nothing had been. After a commit it is cancelled, and the new
generation's method of its name begins in its place.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from replank.errors import DefinitionError, ModuleError, PhaseTimeout
from replank.traffic.calls import ends_only_the_call, outside_chain
from replank.traffic.lane import Lane
from replank.traffic.stepwise import stepwise

_STOP_GRACE_S = 1.0


@dataclass(slots=True)
class _Timer:
    period_s: float
    due_at: float
    """Loop time of the next start."""


class Tasks:
    """What runs in one module beside its calls: its timers and the tasks it spawned.

    One object serves a module through all its generations, so that a timer keeps its time table
    and a spawned method is started again exactly once, in whichever generation serves.

    Args:
        on_failure: Called with the name of a timer or task and what it raised.
    """

    def __init__(self, on_failure: Callable[[str, BaseException], None]) -> None:
        self._on_failure = on_failure
        self._timers: dict[str, _Timer] = {}
        self._running: dict[asyncio.Task[Any], str | None] = {}
        self._held: dict[asyncio.Task[Any], str | None] = {}
        self._released = asyncio.Event()
        self._lane: Lane | None = None
        self._methods: Mapping[str, Callable[..., Any]] = {}

    @property
    def running(self) -> int:
        """How many tasks run, timers included."""
        return len(self._running)

    @property
    def all_running(self) -> Mapping[asyncio.Task[Any], str | None]:
        """What runs, timers included, with the names of the methods."""
        return self._running

    @property
    def resumable(self) -> tuple[str, ...]:
        """Names of the spawned methods that run, or are held: a next generation goes on with."""
        return tuple(name for name in (*self._running.values(), *self._held.values()) if name)

    @property
    def holds(self) -> bool:
        """Whether there is something to end before a next generation's tasks start."""
        return bool(self._held)

    def hold(self) -> None:
        """Keep every task where it stands, timers too; what is spawned from now on runs."""
        self._held.update(self._running)
        self._running = {}
        self._released.clear()

    def release(self) -> None:
        """Let the held tasks go on from where they stand."""
        self._running.update(self._held)
        self._held = {}
        self._released.set()

    async def end_held(self) -> tuple[str, ...]:
        """Cancel the held tasks: their generation no longer serves.

        Returns:
            Names of the spawned methods among them, for the next generation's `start`.
        """
        held, self._held = self._held, {}
        self._released.set()
        return await self._cancel(held)

    def adopt(self, lane: Lane, methods: Mapping[str, Callable[..., Any]]) -> None:
        """Take a generation as the one whose tasks these are; its `on_start` may spawn then.

        Args:
            lane: The generation's lane.
            methods: Every bound method or function of the generation, by name.
        """
        self._lane, self._methods = lane, methods

    def start(self, timers: Mapping[str, float], resume: Iterable[str] = ()) -> None:
        """Start the timers of the adopted generation and go on with what ran before.

        Args:
            timers: Method name to period, in seconds; one that was there keeps its time table.
            resume: Names of spawned methods, from `stop`; those that `on_start` has spawned
                already are not spawned twice.
        """
        now = asyncio.get_running_loop().time()
        kept = self._timers
        self._timers = {
            name: kept[name]
            if name in kept and kept[name].period_s == period_s
            else _Timer(period_s, now + period_s)
            for name, period_s in timers.items()
        }
        for name in self._timers:
            self._own(self._create(self._tick(name), f"@every {name}"), None)
        running = set(self._running.values())
        for name in resume:
            if name in self._methods and name not in running:
                self._resume(name)

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Start a task that is stopped with the generation that serves.

        Args:
            coroutine: What to run; when it is one of the module's own methods, called without
                arguments, the next generation's method of that name goes on in its place.
        """
        name: str = getattr(coroutine, "__name__", "")
        resumable = name in self._methods and _takes_nothing(self._methods[name])
        task = self._create(self._holdable(coroutine), f"task {name}")
        # One that is cancelled before its first step never awaits what it was given.
        task.add_done_callback(lambda _: coroutine.close())
        self._own(task, name if resumable else None)
        return task

    async def stop(self) -> tuple[str, ...]:
        """Stop all.

        Returns:
            Names of the spawned methods that were running, for the next generation's `start`.
        """
        running, self._running = self._running, {}
        return await self._cancel(running)

    async def _cancel(self, tasks: Mapping[asyncio.Task[Any], str | None]) -> tuple[str, ...]:
        names = tuple(name for task, name in tasks.items() if name and not task.done())
        for task in tasks:
            task.cancel("its generation no longer serves")
        if tasks:
            _, left = await asyncio.wait(tasks, timeout=_STOP_GRACE_S)
            for task in left:
                self._on_failure(task.get_name(), _still_running())
        return names

    async def _holdable(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        try:
            return await stepwise(coroutine, self._until_released)
        except SystemExit as error:  # out of a task it would end the host's loop
            raise ModuleError(
                f"a task called sys.exit({error.code!r})",
                found=f"SystemExit: {error.code!r}",
                expected="a task that returns",
                do="return from the task; to stop the host, ask self.host",
            ) from error

    async def _until_released(self) -> None:
        while asyncio.current_task() in self._held:
            await self._released.wait()

    def _resume(self, name: str) -> None:
        """Go on with a spawned method; runs after the point of no return, so it never raises."""
        try:
            coroutine = self._methods[name]() if _takes_nothing(self._methods[name]) else None
            if inspect.iscoroutine(coroutine):
                self.spawn(coroutine)
                return
            error: BaseException = DefinitionError(
                f"{name} ran as a task in the version before and cannot go on",
                found=f"a {name} that is no longer an async method without arguments",
                expected=f"async def {name}(self)",
                do="spawn its successor in on_start",
            )
        except Exception as raised:
            error = raised
        self._on_failure(f"task {name}", error)

    def _create(self, coroutine: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        # What is spawned outlives the call that spawned it: it is no part of its chain.
        return asyncio.create_task(coroutine, name=name, context=outside_chain())

    def _own(self, task: asyncio.Task[Any], name: str | None) -> None:
        self._running[task] = name
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.pop(task, None)
        self._held.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_failure(task.get_name(), error)

    async def _tick(self, name: str) -> None:
        loop = asyncio.get_running_loop()
        timer, lane = self._timers[name], self._lane
        assert lane is not None
        this = asyncio.current_task()
        while (
            this in self._running or this in self._held
        ):  # a method may swallow the cancellation that stops it
            await asyncio.sleep(timer.due_at - loop.time())
            await lane.gate.opened()
            timer.due_at = max(timer.due_at + timer.period_s, loop.time())
            chain = lane.enter(name)
            try:
                result = self._methods[name]()
                if inspect.isawaitable(result):
                    await result
            except asyncio.CancelledError as error:
                if not ends_only_the_call(error):
                    raise
                self._on_failure(f"@every {name}", error)
            except (Exception, SystemExit) as error:  # an exit would end the host's loop
                self._on_failure(f"@every {name}", error)
            finally:
                if chain is not None:
                    chain.leave()


def _still_running() -> PhaseTimeout:
    return PhaseTimeout(
        f"it did not end within {_STOP_GRACE_S:g} s after it was cancelled",
        found="a task that swallows its cancellation and runs beside its successor",
        expected="a task that lets CancelledError through",
        do="look for an except that catches everything",
    )


def _takes_nothing(method: Callable[..., Any]) -> bool:
    try:
        inspect.signature(method).bind()
    except (TypeError, ValueError):
        return False
    return True
