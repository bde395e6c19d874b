"""A deterministic event loop: virtual time, and everything that may vary varies by a seed.

What the seed may choose, because a real loop leaves it open:

- how long each step takes, so which timers are due between any two steps;
- when anything outside ends: `pause` (a disk, a network, another process) and each half of
  `run_in_executor` (when the function runs, and when its result arrives).

What it may not choose, because asyncio promises it and Replank relies on it: callbacks run in the
order of `call_soon`, and what a turn schedules runs in the next turn. The gate releases waiting
calls by completing futures in order of arrival and then looks again by `call_soon`; an inbox hands
senders their turn the same way. A loop that shuffled ready callbacks would find bugs that no
program can have.

Nothing here waits: when nothing is ready the clock jumps to the next timer.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import heapq
import random
import sys
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import Any, Final, TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

STEPS_MAX: Final = 200_000
"""Callbacks after which a run is taken for one that never ends."""
_STEP_S: Final = 2e-5
"""Seconds that a callback takes at most."""
_NO_WAIT_PART: Final = 0.3
"""Part of the pauses that take one turn of the loop and no more."""
_BURIAL_ROUNDS_MAX: Final = 20
_BUSY_PART: Final = 0.02
"""Part of the callbacks that take a hundred times as long."""


class SimulationStuck(Exception):
    """Nothing is ready, no timer is set and the main task waits; or the run never ends."""


class SimulatedLoop(asyncio.BaseEventLoop):
    """Run asyncio programs in virtual time; the same seed gives the same run.

    Args:
        seed: Chooses everything that may vary.
        steps_max: Callbacks after which `SimulationStuck` is raised.

    Attributes:
        random: The seed's generator; draw from it to stay replayable.
        steps: Callbacks run so far.
        on_step: Called after every callback; what it raises ends the run.
        problems: What asyncio would have logged: errors that nobody looked at.
    """

    runs_alone = True  # no thread waits for the interpreter lock

    _ready: deque[asyncio.Handle]
    _scheduled: list[asyncio.TimerHandle]

    def __init__(self, seed: int, *, steps_max: int = STEPS_MAX) -> None:
        super().__init__()
        self.random = random.Random(seed)  # noqa: S311 - replayable, not secret
        self.steps = 0
        self.on_step: Callable[[], None] | None = None
        self.problems: list[dict[str, Any]] = []
        self._steps_max = steps_max
        self._now = 0.0
        self._tasks: list[asyncio.Task[Any]] = []
        self._last_in_order: dict[Executor, float] = {}
        self.set_exception_handler(lambda _, context: self.problems.append(context))

    def time(self) -> float:
        """Return virtual seconds since the start."""
        return self._now

    def latency(self) -> float:
        """Draw how long something outside takes: often next to nothing, sometimes 20 ms."""
        return float(0.02 * self.random.random() ** 4)

    @property
    def unfinished(self) -> list[asyncio.Task[Any]]:
        """The tasks that have not ended, oldest first."""
        return [task for task in self._tasks if not task.done()]

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        """Start a task, as any loop does."""
        task: asyncio.Task[Any] = super().create_task(coro, **options)
        self._tasks.append(task)
        return task

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Any = None
    ) -> asyncio.Handle:
        """Have something called in the next turn, in order."""
        self._check_closed()  # type: ignore[attr-defined]
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    async def pause(self) -> None:
        """Wait for something outside: other tasks run meanwhile, as the seed gives."""
        if self.random.random() < _NO_WAIT_PART:
            await asyncio.sleep(0)
            return
        future = self.create_future()
        self.call_later(self.latency(), _finish, future)
        await future

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts
    ) -> asyncio.Future[T]:
        """Run a function on this thread, at a moment that the seed chooses.

        As with a real thread, cancelling before it has begun keeps it from running, and afterwards
        only its result is lost.

        Args:
            executor: One of your own is taken for a single thread: it runs in order.
            func: What to run.
            *args: Its arguments.
        """
        future: asyncio.Future[T] = self.create_future()
        when = self._now + self.latency()
        if executor is not None:
            when = max(when, self._last_in_order.get(executor, 0.0) + 1e-9)
            self._last_in_order[executor] = when
        self.call_at(when, self._execute, future, lambda: func(*args))
        return future

    def _execute(self, future: asyncio.Future[T], work: Callable[[], T]) -> None:
        if future.cancelled():
            return
        try:
            result = work()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as raised:
            self.call_later(self.latency(), _fail, future, raised)
        else:
            self.call_later(self.latency(), _finish, future, result)

    def _run_once(self) -> None:
        """Do one turn: what is due joins what is ready, then everything that is ready runs."""
        scheduled, ready = self._scheduled, self._ready
        while scheduled and scheduled[0].cancelled():
            heapq.heappop(scheduled)._scheduled = False  # type: ignore[attr-defined]
        if not ready and not self._stopping:  # type: ignore[attr-defined]
            if not scheduled:
                raise SimulationStuck("nothing is ready and no timer is set")
            self._now = max(self._now, scheduled[0].when())
        while scheduled and scheduled[0].when() <= self._now:
            handle = heapq.heappop(scheduled)
            handle._scheduled = False  # type: ignore[attr-defined]
            ready.append(handle)
        for _ in range(len(ready)):
            self._step(ready.popleft())

    def _step(self, handle: asyncio.Handle) -> None:
        if handle.cancelled():
            return
        chance = self.random.random()
        # Time moves with every step, so that no two events ever happen at the same time.
        self._now += _STEP_S * (1.0 + chance) * (100.0 if chance < _BUSY_PART else 0.5)
        self.steps += 1
        if self.steps > self._steps_max:
            raise SimulationStuck(f"the run did not end within {self._steps_max} steps")
        handle._run()
        if self.on_step is not None:
            self.on_step()

    def _write_to_self(self) -> None:
        """Wake nobody: there is no selector to wake."""

    def _process_events(self, event_list: Any) -> None:
        """Process nothing: there are no sockets."""


def _finish(future: asyncio.Future[Any], result: Any = None) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[Any], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)


def simulate(main: Coroutine[Any, Any, T], loop: SimulatedLoop) -> T:
    """Run a coroutine to its end in virtual time, with the clocks of Replank virtual too.

    Args:
        main: What to run.
        loop: A fresh loop; it is closed afterwards.

    Raises:
        SimulationStuck: Nothing can happen any more, or the run never ends.
    """
    with virtual_clocks(loop.time):
        try:
            return loop.run_until_complete(main)
        finally:
            bury(loop)


def bury(loop: SimulatedLoop) -> None:
    """End what an interrupted run has left, so that nothing of it runs when it is collected.

    Args:
        loop: A loop that no longer runs; it is closed.
    """
    loop.on_step = None
    for _ in range(_BURIAL_ROUNDS_MAX):  # what is cancelled may start something else
        left = loop.unfinished
        if not left:
            break
        for task in left:
            task.cancel("the simulation has ended")
        loop.steps = 0
        with contextlib.suppress(SimulationStuck, RuntimeError):
            loop.run_until_complete(asyncio.wait(left, timeout=60.0))
    for task in loop.unfinished:
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        coroutine = task.get_coro()
        with contextlib.suppress(RuntimeError):  # it may ignore even this
            if coroutine is not None:
                coroutine.close()
    loop.close()


_CLOCKS: Final = (time.perf_counter, time.monotonic)


@contextmanager
def virtual_clocks(now: Callable[[], float], package: str = "replank") -> Iterator[None]:
    """Have the modules of a package read virtual time where they read a real clock.

    A choice that depends on the time that something took would otherwise differ from run to run.
    Entering it takes a millisecond, inside another one next to nothing.

    Args:
        now: Returns virtual seconds.
        package: Whose modules; they must have imported the clocks by name.
    """
    global _now
    before, _now = _now, now
    restore = _replace_clocks(package) if before is None else []
    try:
        yield
    finally:
        _now = before
        for put_back in restore:
            put_back()


_now: Callable[[], float] | None = None


def _read_virtual() -> float:
    return time.perf_counter() if _now is None else _now()


def _replace_clocks(package: str) -> list[Callable[[], None]]:
    """Replace the clocks; returns what puts them back."""
    restore: list[Callable[[], None]] = []
    for name, module in list(sys.modules.items()):
        if name == __name__ or not (name == package or name.startswith(f"{package}.")):
            continue
        for key, value in list(vars(module).items()):
            if isinstance(value, type) and value.__module__ == name:
                restore += _replace_defaults(value)
            elif _is_clock(value):
                setattr(module, key, _read_virtual)
                restore.append(functools.partial(setattr, module, key, value))
    return restore


def _replace_defaults(owner: type) -> Iterator[Callable[[], None]]:
    """Replace a clock that a dataclass took as a field's default factory."""
    for cell in getattr(vars(owner).get("__init__"), "__closure__", None) or ():
        value = cell.cell_contents
        if _is_clock(value):
            cell.cell_contents = _read_virtual
            yield functools.partial(setattr, cell, "cell_contents", value)


def _is_clock(value: object) -> bool:
    return any(value is clock for clock in _CLOCKS)


__all__ = ["STEPS_MAX", "SimulatedLoop", "SimulationStuck", "bury", "simulate", "virtual_clocks"]
