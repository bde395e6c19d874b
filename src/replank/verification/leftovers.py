"""What one generation has left running or attached, found by whose code it would run.

Blocking look at the whole process: away from traffic, or in a thread.
"""

from __future__ import annotations

import asyncio
import ctypes
import functools
import logging
import signal
import sys
import threading
import traceback
import weakref
from collections.abc import Callable, Container, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

from replank.hints import is_private
from replank.threads import IMPORT_PREFIX
from replank.verification.ownership import Owner
from replank.verification.surroundings import read_handler

_STACK_FRAMES_MAX: Final = 3
_SIGNALS: Final = tuple(sorted(map(int, signal.valid_signals())))


@dataclass(frozen=True, slots=True)
class Leftover:
    """One thing that a generation has left.

    Args:
        text: What it is, for the operator.
        do: What its author does about it.
        end: Ends it, or asks it to end.
        is_gone: Whether it has ended.
        soon: Whether it mostly ends by itself in a moment, and is asked only when it has not.
    """

    text: str
    do: str
    end: Callable[[], object]
    is_gone: Callable[[], bool]
    soon: bool = False


def running(
    owner: Owner,
    loop: asyncio.AbstractEventLoop,
    *,
    beside: asyncio.Task[Any] | None = None,
    new: Container[threading.Thread] = (),
) -> list[Leftover]:
    """Return what will run a generation's code by itself.

    Args:
        owner: The generation.
        loop: The event loop on which its code runs.
        beside: The task that asks.
        new: Threads that were not there before the generation, and are nobody else's.
    """
    return [
        *_tasks(owner, loop, beside),
        *_timers(owner, loop),
        *_readers(owner, loop),
        *_threads(owner, new),
    ]


def attached(owner: Owner, loop: asyncio.AbstractEventLoop) -> list[Leftover]:
    """Return what will run a generation's code when somebody else does something.

    Args:
        owner: The generation.
        loop: The event loop on which its code runs.
    """
    found = [*_handlers(owner), *_loop_signals(owner, loop), *_signals(owner), *_aliases(owner)]
    if owner.owns(getattr(loop, "_exception_handler", None)):
        take_away = functools.partial(loop.set_exception_handler, None)
        found.append(_attached("the event loop's exception handler is its code", take_away))
    return found


def thread_left(
    thread: threading.Thread, *, owned: bool, new: Container[threading.Thread] = ()
) -> Leftover:
    """Return a thread as a leftover; its text says where it stands.

    Args:
        thread: A thread that is alive.
        owned: Whether it certainly runs the generation's code.
        new: Threads that were not there before the generation, and are nobody else's.
    """
    if thread.name.startswith(IMPORT_PREFIX):
        name = thread.name.removeprefix(IMPORT_PREFIX)
        text = f"the import of {name} goes on"
        do = "look for an endless loop or a call that blocks"
    else:
        text = f"{'daemon thread' if thread.daemon else 'thread'} {thread.name!r} runs on"
        do = "end it in on_stop: hold an Event that it waits for, set it and join"
    return Leftover(
        text=text + _stack(thread),
        do=do,
        end=lambda: _ask_to_end(thread, owned=owned, new=new),
        is_gone=lambda: not thread.is_alive(),
        # The end may come anywhere: in our own code, too, unless that has long been left.
        soon=thread.name.startswith(IMPORT_PREFIX),
    )


def _threads(owner: Owner, new: Container[threading.Thread]) -> Iterator[Leftover]:
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and _runs(owner, thread):
            yield thread_left(thread, owned=True, new=new)


def _tasks(
    owner: Owner, loop: asyncio.AbstractEventLoop, beside: asyncio.Task[Any] | None
) -> Iterator[Leftover]:
    for task in asyncio.all_tasks(loop):
        if task is not beside and owner.owns(task.get_coro()):
            yield Leftover(
                text=f"task {task.get_name()!r} runs on",
                do="start it with self.spawn, or cancel it in on_stop",
                end=task.cancel,
                is_gone=task.done,
            )


def _timers(owner: Owner, loop: asyncio.AbstractEventLoop) -> Iterator[Leftover]:
    for handle in list(getattr(loop, "_scheduled", ())):
        if not handle.cancelled() and owner.owns((handle._callback, handle._args)):
            name = getattr(handle._callback, "__qualname__", repr(handle._callback))
            yield Leftover(
                text=f"a call of {name} by loop.call_later is still to come",
                do="use @every, or cancel it in on_stop",
                end=handle.cancel,
                is_gone=handle.cancelled,
            )


def _readers(owner: Owner, loop: asyncio.AbstractEventLoop) -> Iterator[Leftover]:
    """Find listening servers and bare readers by the callbacks that the loop's selector holds."""
    selector = getattr(loop, "_selector", None)
    table = selector.get_map() if selector is not None else None
    for key in list((table or {}).values()):
        handles = key.data if isinstance(key.data, tuple) else ()
        reader = handles[0] if handles else None
        if reader is None or not owner.owns((reader._callback, reader._args or ())):
            continue
        server = next((one for one in reader._args if isinstance(one, asyncio.Server)), None)
        if server is not None:
            name = ", ".join(str(one.getsockname()) for one in server.sockets)
            text = f"a server listens on {name}"
        else:
            text = f"a reader of file descriptor {key.fd} is registered"
        end = server.close if server is not None else functools.partial(loop.remove_reader, key.fd)
        yield Leftover(text, "close it in on_stop", end, reader.cancelled)


def _handlers(owner: Owner) -> Iterator[Leftover]:
    known = logging.root.manager.loggerDict.copy()
    for logger in (logging.root, *known.values()):
        if not isinstance(logger, logging.Logger):
            continue
        name = f"logger {logger.name}" if logger is not logging.root else "the root logger"
        for handler in [one for one in logger.handlers if owner.owns(one)]:
            end = functools.partial(_detach, logger, handler)
            yield _attached(f"handler {handler!r} is attached to {name}", end)
        for one in [one for one in logger.filters if owner.owns(one)]:
            end = functools.partial(logger.removeFilter, one)
            yield _attached(f"filter {one!r} is attached to {name}", end)


def _detach(logger: logging.Logger, handler: logging.Handler) -> None:
    logger.removeHandler(handler)
    handler.close()


def _loop_signals(owner: Owner, loop: asyncio.AbstractEventLoop) -> Iterator[Leftover]:
    table = getattr(loop, "_signal_handlers", None)
    for number, handle in list(table.items() if isinstance(table, dict) else ()):
        if owner.owns((handle._callback, handle._args)):
            name = signal.Signals(number).name
            end = functools.partial(loop.remove_signal_handler, number)
            yield _attached(f"the event loop's handler of {name} is its code", end)


def _signals(owner: Owner) -> Iterator[Leftover]:
    for number in _SIGNALS:
        handler = read_handler(number)
        if callable(handler) and owner.owns(handler):
            name = signal.Signals(number).name
            end = functools.partial(signal.signal, number, signal.SIG_DFL)
            yield _attached(f"the handler of {name} is its code", end)


def _aliases(owner: Owner) -> Iterator[Leftover]:
    """Find the generation's own Python modules under other names in `sys.modules`."""
    for name, module in list(sys.modules.items()):
        called = getattr(module, "__name__", None)
        # Most are called as they stand there, and what is no private name can be nobody's.
        if called is name or not isinstance(called, str) or not is_private(called):
            continue
        if not owner.is_name(name) and owner.is_name(called):
            end = functools.partial(sys.modules.pop, name, None)
            yield _attached(f"it stands in sys.modules as {name!r}", end)


def _attached(text: str, end: Callable[[], object]) -> Leftover:
    gone = threading.Event()

    def take_away() -> None:
        end()
        gone.set()

    return Leftover(text, "take it away in on_stop", take_away, gone.is_set)


def _runs(owner: Owner, thread: threading.Thread) -> bool:
    """Tell whether a thread was started for, or stands in, the generation's code."""
    if owner.owns(thread) or owner.owns(getattr(thread, "function", None)):
        return True
    begun_with = (getattr(thread, "_target", None), getattr(thread, "_args", None))
    if owner.owns(begun_with):
        return True
    return owner.runs_in(sys._current_frames().get(thread.ident or 0))


def _ask_to_end(thread: threading.Thread, *, owned: bool, new: Container[threading.Thread]) -> None:
    """Ask in the way that this kind of thread understands; a blocking call hears nothing."""
    pool = _pool_of(thread)
    if isinstance(thread, threading.Timer):
        thread.cancel()
        return
    if pool is not None:
        if not all(one in new for one in pool._threads):
            return  # the end might arrive when it has taken up a job of somebody else's
        pool.shutdown(wait=False, cancel_futures=True)  # no thread of it is older: nor is the pool
    if owned and thread.ident is not None and thread.is_alive():
        # Arrives between two instructions, and runs the thread's own `finally` blocks.
        exit_ = ctypes.py_object(SystemExit)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), exit_)


def _pool_of(thread: threading.Thread) -> Any:
    """Return the thread pool that a thread works for, when it can be found."""
    references = [one for one in getattr(thread, "_args", None) or () if type(one) is weakref.ref]
    pools = [one() for one in references]
    return next((one for one in pools if isinstance(one, ThreadPoolExecutor)), None)


def _stack(thread: threading.Thread) -> str:
    frame = sys._current_frames().get(thread.ident or 0)
    if frame is None:
        return ""
    lines = [f"{one.filename}:{one.lineno} in {one.name}" for one in traceback.extract_stack(frame)]
    return ", at " + " < ".join(reversed(lines[-_STACK_FRAMES_MAX:]))


__all__ = ["Leftover", "attached", "running", "thread_left"]
