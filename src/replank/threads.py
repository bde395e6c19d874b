"""Work for another thread, which a busy loop does not keep from the interpreter lock.

A loop that never rests gives the interpreter lock away at each look for events and takes it back at
once: a thread that waits for the lock is woken, finds it taken and waits on, without ever asking
for it (CPython 3.11 to 3.13, `take_gil` in `Python/ceval_gil.c`: only a wait that runs out asks,
and each release starts a new one). Measured with 54 callers that never wait: 6 s for one journal
entry of 2 ms. So while work of ours is under way, the loop stands aside for a moment now and then.
"""

from __future__ import annotations

import asyncio
import contextvars
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from functools import partial
from time import sleep
from typing import Any, Final, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

from replank.errors import InternalError

P = ParamSpec("P")
T = TypeVar("T")

OURS_PREFIX: Final = "replank"
"""What the names of all our threads begin with, which take the work of many."""
POOL_PREFIX: Final = f"{OURS_PREFIX} calls of "
"""What the names of the threads begin with in which modules' calls run."""
IMPORT_PREFIX: Final = f"{OURS_PREFIX} import of "
"""What the names of the threads begin with in which candidates are imported, each in its own."""
_EVERY_S = 0.001
_BRISK_SWITCH_S = 0.0005
_STILL_S = (0.02, 0.1, 0.5, 2.0, 10.0)
"""How long other threads do not ask for the lock, from the second look on. One that has asked
before may then keep the lock for as long: so the early looks, which mostly do, risk little."""
_ASIDE_S = 0.00005
"""Long enough for a woken thread to take the lock; a twentieth of the loop's time."""


async def in_thread(work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Run work in the loop's own pool of threads, in the caller's context, and return its result.

    Args:
        work: What to run; it must not touch what belongs to the loop's thread.
        *args: Its arguments.
        **kwargs: Its arguments by name.
    """
    context = contextvars.copy_context()
    return await in_pool(None, partial(context.run, work, *args, **kwargs))


async def in_pool(pool: Executor | None, work: Callable[[], T]) -> T:
    """Run work in a pool of threads and return its result.

    Args:
        pool: Where; None for the loop's own.
        work: What to run; it must not touch what belongs to the loop's thread.
    """
    loop = asyncio.get_running_loop()
    job = loop.run_in_executor(pool, work)
    if getattr(loop, "runs_alone", False):  # a simulation runs the work itself
        return await job
    aside = Aside(loop, job.done)
    try:
        return await job
    finally:
        aside.end()


async def in_own_thread(name: str, work: Callable[[], T]) -> T:
    """Run work that may have to be ended from outside; return its result.

    A thread of a pool cannot be ended: the exception that ends its work may arrive when it has
    taken up somebody else's, which is then never done. This one does nothing afterwards. It keeps
    nobody from leaving, either: it is a daemon.

    Args:
        name: Of the thread.
        work: What to run; it must not touch what belongs to the loop's thread.

    Raises:
        InternalError: It was ended from outside.
    """
    loop = asyncio.get_running_loop()
    if getattr(loop, "runs_alone", False):
        return await in_thread(work)
    answer: asyncio.Future[T] = loop.create_future()
    context = contextvars.copy_context()

    def run() -> None:
        ended = InternalError(f"{name} was ended from outside")
        tell: Callable[[], None] = partial(_set_exception, answer, ended)
        told = False
        try:
            tell = _done(answer, partial(context.run, work))
        except SystemExit:  # the end from outside, which is told
            pass
        finally:  # also when another one arrives here
            while not told:
                try:
                    loop.call_soon_threadsafe(tell)
                    told = True
                except SystemExit:  # it came late, and must not keep the answer back
                    continue
                except RuntimeError:  # the loop is closed: nobody waits
                    return

    threading.Thread(target=run, name=name, daemon=True).start()
    aside = Aside(loop, answer.done)
    try:
        return await answer
    finally:
        aside.end()


def _done(answer: asyncio.Future[T], work: Callable[[], T]) -> Callable[[], None]:
    """Do the work; return what tells its answer."""
    try:
        return partial(_set_result, answer, work())
    except SystemExit:
        raise
    except BaseException as error:
        return partial(_set_exception, answer, error)


def _set_result(answer: asyncio.Future[T], result: T) -> None:
    if not answer.done():
        answer.set_result(result)


def _set_exception(answer: asyncio.Future[Any], error: BaseException) -> None:
    if not answer.done():
        answer.set_exception(error)


class Aside:
    """Has the loop stand aside for work in other threads, now and then, until it is done.

    Args:
        loop: The running loop.
        done: Whether the work is done.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, done: Callable[[], bool]) -> None:
        self._loop, self._done = loop, done
        self._next = loop.call_later(_EVERY_S, self._step)

    def _step(self) -> None:
        if self._done():
            return
        # One turn does for the work of all: a loop with many jobs under way works on.
        if self._loop.time() >= _rested.get(self._loop, 0.0):
            sleep(_ASIDE_S)
            _rested[self._loop] = self._loop.time() + _EVERY_S / 2
        self._next = self._loop.call_later(_EVERY_S, self._step)

    def end(self) -> None:
        """Stand aside no more."""
        self._next.cancel()


_rested: Final = WeakKeyDictionary[asyncio.AbstractEventLoop, float]()
"""By loop, the time of its clock until which it need not stand aside again."""


def undisturbed(look: Callable[[], T]) -> T:
    """Look at what other threads may be writing; when they do, again, and give them no turn.

    Args:
        look: What to do; it waits for nothing, and may be done more than once.

    Raises:
        RuntimeError: They write again and again.
    """
    usual_s = sys.getswitchinterval()
    try:
        for still_s in (usual_s, *_STILL_S[:-1]):
            sys.setswitchinterval(still_s)
            try:
                return look()
            except RuntimeError as error:
                if "during iteration" not in str(error):
                    raise
        sys.setswitchinterval(_STILL_S[-1])
        return look()
    finally:
        sys.setswitchinterval(usual_s)


_brisk_users = 0
_usual_switch_s = 0.005


@contextmanager
def brisk_switching() -> Iterator[None]:
    """Have a working thread hand the interpreter back ten times as often as usual.

    Work such as a candidate's import would otherwise delay calls by up to 5 ms a turn.
    Only ever entered on the event loop's thread, so that a plain counter does.
    """
    global _brisk_users, _usual_switch_s
    if _brisk_users == 0:
        _usual_switch_s = sys.getswitchinterval()
        sys.setswitchinterval(min(_BRISK_SWITCH_S, _usual_switch_s))
    _brisk_users += 1
    try:
        yield
    finally:
        _brisk_users -= 1
        if _brisk_users == 0:
            sys.setswitchinterval(_usual_switch_s)
