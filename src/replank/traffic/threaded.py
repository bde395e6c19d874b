"""Run the `def` calls of a module in threads: the loop goes on, and a drain waits for them.

Everything but the method itself happens on the loop: the gate, the count, the way out. A thread
cannot be stopped, and three things follow. A call that still waits for a thread is taken out when
its caller gives up. One that runs stays in flight until its thread has ended, whether anybody waits
for its answer or not. And no policy cancels it: a drain that it outlives names it, with the place
where its thread stands.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from replank.errors import StateSealed
from replank.threads import POOL_PREFIX, Aside
from replank.traffic.calls import Chain, finish
from replank.traffic.lane import Lane
from replank.traffic.thread_calls import ThreadCall


class ThreadPool:
    """The threads in which the `def` calls of one module run, through all its generations.

    Args:
        module: Its name.
        threads_max: How many calls may run at once; more wait for a thread.
    """

    def __init__(self, module: str, threads_max: int) -> None:
        self._executor = ThreadPoolExecutor(threads_max, f"{POOL_PREFIX}{module}")
        self._running = 0
        self._aside: Aside | None = None

    def submit(self, work: Callable[[], Any]) -> Future[Any]:
        """Have work done in a thread; a loop that never rests lets it have its turn."""
        future = self._executor.submit(work)
        self._running += 1
        if self._aside is None:
            self._aside = Aside(asyncio.get_running_loop(), lambda: not self._running)
        return future

    def done(self) -> None:
        """Note that something submitted has ended."""
        self._running -= 1
        if not self._running and self._aside is not None:
            self._aside.end()
            self._aside = None

    def close(self) -> None:
        """Begin nothing more; what runs is left to end by itself."""
        self._executor.shutdown(wait=False, cancel_futures=True)


def threaded(
    pool: ThreadPool, lane: Lane, name: str, method: Callable[..., Any]
) -> Callable[..., Coroutine[Any, Any, Any]]:
    """Return a coroutine function that runs a method in a thread.

    Args:
        pool: Of the method's module.
        lane: Of the method's generation.
        name: Name of the call.
        method: The method, bound.
    """

    async def run(*args: Any, **kwargs: Any) -> Any:
        work = ThreadCall()
        return await finish(await _in_pool(pool, lane, name, work, (method, args, kwargs)))

    return run


async def _in_pool(
    pool: ThreadPool,
    lane: Lane,
    name: str,
    work: ThreadCall,
    what: tuple[Callable[..., Any], tuple[Any, ...], Mapping[str, Any]],
) -> Any:
    context = contextvars.copy_context()  # with the chain: what it calls in turn is let through
    future = pool.submit(lambda: context.run(work.run, *what))
    answer = asyncio.wrap_future(future)
    answer.add_done_callback(lambda one: pool.done() if not one.cancelled() else None)
    try:
        return await asyncio.shield(answer)
    except asyncio.CancelledError:
        if future.cancel():
            pool.done()  # it had not begun, and never will
        elif not answer.done():
            _leave_behind(lane, name, work, answer)
        raise


def _leave_behind(lane: Lane, name: str, work: ThreadCall, answer: asyncio.Future[Any]) -> None:
    """Count a call whose caller has given up, for as long as its thread runs."""
    chain = Chain.of(lane, name)
    lane.left_behind[chain] = work

    def ended(answer: asyncio.Future[Any]) -> None:
        lane.left_behind.pop(chain, None)
        with contextlib.suppress(StateSealed):  # nobody is there who could be told
            chain.leave()
        if not answer.cancelled():
            answer.exception()  # seen: nobody will ask for it

    answer.add_done_callback(ended)


__all__ = ["ThreadPool", "threaded"]
