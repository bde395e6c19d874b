"""What a process shares and any code may change: read before and after, and put back one by one.

A change is put back only where what stands there is still what the change has left: whoever wrote
to the same place since has the last word.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

MISSING: Final = object()
_PLAIN: Final = (logging.NOTSET, False, True, (), ())
"""Level, disabled, propagate, handlers and filters of a logger that nobody has touched."""
_SIGNALS: Final = tuple(sorted(int(one) for one in signal.valid_signals() if one < 32))  # noqa: PLR2004 - what comes after is for real time

_plain_signal: Final[Any] = sys.modules.get("_signal", signal)
read_handler: Final[Callable[[int], Any]] = _plain_signal.getsignal
"""Says what handles a signal, by number, and makes no enumeration of it: for that `signal` would
describe each handler in words and throw them away, half of the time that a whole look takes."""

LoggerState = tuple[int, bool, bool, tuple[Any, ...], tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Change:
    """One difference, and how to take it back.

    Args:
        text: What was changed, for the operator.
        put_back: Takes it back; returns whether it did, False when another has changed it since.
        things: The objects that were put there, by which their owner is found.
        stands: Whether what was attached is attached still.
    """

    text: str
    put_back: Callable[[], bool]
    things: tuple[Any, ...] = ()
    stands: Callable[[], bool] = bool


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What was where at one moment."""

    environ: Mapping[Any, Any]
    """As the process keeps it, in bytes: it is put into words only where something differs."""
    places: Mapping[str, Any]
    lists: Mapping[str, tuple[Any, ...]]
    loggers: Mapping[str, LoggerState]
    signals: Mapping[int, Any]
    loop_signals: Mapping[int, Any]
    threads: frozenset[threading.Thread]

    @classmethod
    def now(cls) -> Surroundings:
        """Read everything; on the event loop's thread its handlers too."""
        loop = _running_loop()
        main = threading.current_thread() is threading.main_thread()
        return cls(
            environ=_environ(),
            places={name: read() for name, (read, _) in _places(loop).items()},
            lists={name: tuple(read()) for name, read in _LISTS.items()},
            loggers={name: _logger_state(one) for name, one in _loggers().items()},
            signals={number: read_handler(number) for number in _SIGNALS} if main else {},
            loop_signals=dict(_loop_signals(loop)),
            threads=frozenset(threading.enumerate()),
        )

    def changes(self, after: Surroundings) -> Iterator[Change]:
        """Yield what became different, in the order in which it should be taken back.

        Args:
            after: A later moment.
        """
        loop = _running_loop()
        yield from self._logger_changes(after)
        for number, before, now in _differing(self.loop_signals, after.loop_signals):
            yield _loop_signal_change(loop, number, before, now, self.signals)
        for number, before, now in _differing(self.signals, after.signals):
            if number not in after.loop_signals:
                yield _signal_change(number, before, now)
        for name, before, now in _differing(self.places, after.places):
            read, write = _places(loop)[name]
            yield _change(name, before, now, read, write)
        for name, before, now in _differing(self.environ, after.environ):
            yield _environ_change(*(_decoded(one) for one in (name, before, now)))
        for name, before, now in _differing(self.lists, after.lists):
            yield from _list_changes(name, before, now, _LISTS[name])

    def _logger_changes(self, after: Surroundings) -> Iterator[Change]:
        for name, state in after.loggers.items():
            before = self.loggers.get(name, _PLAIN)
            if state != before:
                yield from _logger_change(name, before, state, self._handlers())

    def _handlers(self) -> frozenset[int]:
        """Return the identity of every handler that was attached anywhere."""
        return frozenset(id(one) for state in self.loggers.values() for one in state[3])


def _differing(before: Mapping[Any, Any], now: Mapping[Any, Any]) -> Iterator[tuple[Any, Any, Any]]:
    if before == now:
        return
    for key in [*before, *(key for key in now if key not in before)]:
        was, is_now = before.get(key, MISSING), now.get(key, MISSING)
        if was is not is_now and was != is_now:
            yield key, was, is_now


def _change(
    text: str, before: Any, now: Any, read: Callable[[], Any], write: Callable[[Any], Any]
) -> Change:
    def put_back() -> bool:
        if (found := read()) is not now and found != now:
            return False
        write(before)
        return True

    return Change(text, put_back, (now,))


def _environ() -> Mapping[Any, Any]:
    """Return a copy of the environment, undecoded where that can be had."""
    kept: Any = getattr(os.environ, "_data", None)
    return kept.copy() if type(kept) is dict else os.environ.copy()


def _decoded(one: Any) -> Any:
    return os.fsdecode(one) if isinstance(one, bytes) else one


def _environ_change(name: str, before: Any, now: Any) -> Change:
    def write(value: Any) -> None:
        if value is MISSING:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value

    read = lambda: os.environ.get(name, MISSING)  # noqa: E731 - as short as the write
    return _change(f"environment variable {name}", before, now, read, write)


# -- single places ----------------------------------------------------------------------------

Place = tuple[Callable[[], Any], Callable[[Any], Any]]


def _places(loop: asyncio.AbstractEventLoop | None) -> dict[str, Place]:
    places: dict[str, Place] = {
        "the working directory": (_cwd, os.chdir),
        "logging.disable": (lambda: logging.root.manager.disable, logging.disable),
        "sys.excepthook": _attribute(sys, "excepthook"),
        "sys.unraisablehook": _attribute(sys, "unraisablehook"),
        "threading.excepthook": _attribute(threading, "excepthook"),
        "warnings.showwarning": _attribute(warnings, "showwarning"),
    }
    if loop is not None:
        with contextlib.suppress(AttributeError, NotImplementedError):
            loop.get_exception_handler()
            handler = (loop.get_exception_handler, loop.set_exception_handler)
            places["the event loop's exception handler"] = handler
    return places


def _attribute(module: Any, name: str) -> Place:
    return (lambda: getattr(module, name)), (lambda value: setattr(module, name, value))


def _cwd() -> str:
    try:
        return os.getcwd()  # noqa: PTH109 - a path object costs more, and this runs in the pause
    except FileNotFoundError:
        return ""


# -- lists ------------------------------------------------------------------------------------

_LISTS: Final[Mapping[str, Callable[[], list[Any]]]] = {
    "sys.path": lambda: sys.path,
    "sys.meta_path": lambda: sys.meta_path,
    "sys.path_hooks": lambda: sys.path_hooks,
    "warnings.filters": lambda: cast("list[Any]", warnings.filters),
    "gc.callbacks": lambda: gc.callbacks,
}


def _list_changes(
    text: str, before: tuple[Any, ...], now: tuple[Any, ...], read: Callable[[], list[Any]]
) -> Iterator[Change]:
    """Yield one change for each entry: who added one of them need not have added the others."""
    for one in _without(now, before):
        take_out = functools.partial(_take_out, read, one)
        yield Change(f"{text}: +{one!r}", take_out, (one,), functools.partial(_is_in, read, one))
    for one in _without(before, now):
        give_back = functools.partial(_put_in, read, one, before.index(one))
        yield Change(f"{text}: -{one!r}", give_back)


def _take_out(read: Callable[[], list[Any]], one: Any) -> bool:
    live = read()
    if one not in live:
        return False
    live.remove(one)
    _tell_warnings()
    return True


def _is_in(read: Callable[[], list[Any]], one: Any) -> bool:
    return one in read()


def _put_in(read: Callable[[], list[Any]], one: Any, index: int) -> bool:
    live = read()
    if one in live:
        return False
    live.insert(min(index, len(live)), one)
    _tell_warnings()
    return True


def _tell_warnings() -> None:
    """Have Python decide anew: for each place it keeps what its filters have said."""
    getattr(warnings, "_filters_mutated", lambda: None)()


def _without(first: tuple[Any, ...], second: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return what is in the first and not, or not so often, in the second."""
    left = list(second)
    found = []
    for one in first:
        if one in left:
            left.remove(one)
        else:
            found.append(one)
    return tuple(found)


# -- logging ----------------------------------------------------------------------------------


def _loggers() -> dict[str, logging.Logger]:
    known = logging.root.manager.loggerDict.copy()
    found = {name: one for name, one in known.items() if isinstance(one, logging.Logger)}
    return {"": logging.root, **found}


def _logger_state(logger: logging.Logger) -> LoggerState:
    return (
        logger.level,
        logger.disabled,
        logger.propagate,
        tuple(logger.handlers),
        tuple(logger.filters),
    )


def _logger_change(
    name: str, before: LoggerState, now: LoggerState, known: frozenset[int]
) -> Iterator[Change]:
    logger = logging.getLogger(name or None)
    called = f"logger {name}" if name else "the root logger"
    handlers = _list_changes(f"handlers of {called}", before[3], now[3], lambda: logger.handlers)
    for change in handlers:
        new = [one for one in change.things if id(one) not in known]
        yield _closing(change, new)
    yield from _list_changes(f"filters of {called}", before[4], now[4], lambda: logger.filters)
    for index, attribute in enumerate(("level", "disabled", "propagate")):
        if now[index] != before[index]:
            read, write = _attribute(logger, attribute)
            if attribute == "level":
                write = logger.setLevel  # it forgets what the loggers below have cached
            yield _change(f"{attribute} of {called}", before[index], now[index], read, write)


def _closing(change: Change, new: list[logging.Handler]) -> Change:
    """Have a handler closed when it is taken away: its file or socket, nobody else has ever had."""

    def put_back() -> bool:
        put = change.put_back()
        for handler in new:
            handler.close()
        return put

    return Change(change.text, put_back, change.things, change.stands)


# -- signals ----------------------------------------------------------------------------------


def _loop_signals(loop: asyncio.AbstractEventLoop | None) -> Mapping[int, Any]:
    """Return what `loop.add_signal_handler` has noted; nothing where a loop does not show it."""
    found: Any = getattr(loop, "_signal_handlers", None)
    return found if isinstance(found, dict) else {}


def _signal_change(number: int, before: Any, now: Any) -> Change:
    name = signal.Signals(number).name
    if before is None:  # not set from Python: it cannot be set again from Python

        def refuse() -> bool:
            raise ValueError("the handler before was not set by Python code")

        return Change(f"handler of {name}", refuse, (now,))
    write = lambda value: signal.signal(number, value)  # noqa: E731 - bound to this number
    return _change(f"handler of {name}", before, now, lambda: signal.getsignal(number), write)


def _loop_signal_change(
    loop: asyncio.AbstractEventLoop | None,
    number: int,
    before: Any,
    now: Any,
    signals: Mapping[int, Any],
) -> Change:
    name = signal.Signals(number).name
    handlers: Any = _loop_signals(loop)
    was = signals.get(number)

    def put_back() -> bool:
        assert loop is not None, "its table has been read"
        if handlers.get(number, MISSING) is not now:
            return False
        if before is not MISSING:
            if now is MISSING:
                loop.add_signal_handler(number, before._callback, *before._args)
            handlers[number] = before
            return True
        loop.remove_signal_handler(number)
        if was is not None:
            signal.signal(number, was)
        return True

    thing = getattr(now, "_callback", None)
    return Change(f"the event loop's handler of {name}", put_back, (thing,))


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


__all__ = ["MISSING", "Change", "Surroundings", "read_handler"]
