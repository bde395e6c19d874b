"""Interrupt a candidate's code that holds the event loop and never gives it back.

`asyncio.timeout` ends a coroutine that waits; it cannot end `while True: pass`. Here a thread looks
at a deadline, and when it has passed it raises `Overrun` in the thread that runs the candidate's
code. A signal that does nothing wakes a blocking call such as `time.sleep` in the main thread, so
that the exception gets through. `Overrun` is a `BaseException`: a candidate's `except Exception`
does not swallow it, and one that swallows everything is interrupted again and again.

Rules: only the candidate's own steps are guarded, never a step of another task; after `release` no
exception can arrive any more (the two flags below are the handshake; single attribute reads and
writes are atomic under the interpreter lock).
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import inspect
import signal
import sys
import threading
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from time import monotonic, sleep
from typing import Any, Self, TypeVar

from replank.errors import PhaseTimeout

T = TypeVar("T")

_LOOK_EVERY_S = 0.02
_CANCEL_GRACE_S = 1.0
_PATIENCE = 3
"""How often guarded code may swallow `Overrun` before a trace function insists on it."""
_SIGNAL = getattr(signal, "SIGURG", None)


class Overrun(BaseException):
    """The candidate's code held the event loop for too long."""


class _Round:
    """From the first user's entry to the last one's exit: one thread, its side of the handshake."""

    def __init__(self) -> None:
        self.firing = False
        self.fired = False
        """Whether an exception was sent that may not have arrived."""
        self.ended = threading.Event()


class Watchdog:
    """Guard steps of a candidate's code with a deadline, in one thread.

    Use it as a context manager around a reload: its thread lives only as long as the block.
    """

    def __init__(self) -> None:
        self._deadline: float | None = None
        self._target = 0
        self._wake = False
        self._insists = False
        """Set by the watching thread: the guarded code swallows `Overrun`."""
        self._insisted = False
        self._tracer_before: Any = None
        self._users = 0
        self._round = _Round()

    def __enter__(self) -> Self:
        self._users += 1
        if self._users == 1:
            self._target = threading.get_ident()
            self._wake = _prepare_signal()
            self._round = _Round()
            threading.Thread(
                target=self._look, args=(self._round,), name="replank watchdog", daemon=True
            ).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._users -= 1
        if self._users == 0:
            self._round.ended.set()

    def guard(self, function: Callable[[], T], limit_s: float, what: str) -> T:
        """Run a function, and interrupt it when it runs longer than this.

        This is no context manager, because one is entered and left through calls of its own, in
        which `Overrun` could arrive before the deadline has been taken back.

        Args:
            function: Takes nothing; must not await.
            limit_s: Seconds that it may take.
            what: What runs, for the error: "check books_balance".

        Raises:
            PhaseTimeout: It took longer.
        """
        try:
            try:
                self._deadline = monotonic() + limit_s
                return function()
            finally:
                # Between the end of the function and this assignment nothing can be interrupted.
                self._deadline = None
                while True:
                    try:
                        self._settle()
                        break
                    except Overrun:  # one that was under way; there may be another
                        continue
        except Overrun:
            raise PhaseTimeout(
                f"{what} held the event loop for more than {limit_s:g} s",
                found="code that does not return and awaits nothing",
                expected="code that ends, or awaits, within its limit",
                do="look for an endless loop or a blocking call",
            ) from None

    async def run(self, result: Awaitable[T] | T, limit_s: float, what: str) -> T:
        """Await a candidate's coroutine, each of its steps guarded, all of it with a deadline.

        Args:
            result: What the candidate's function returned: a coroutine, or a plain value.
            limit_s: Seconds for the whole.
            what: What runs, for the error.

        Raises:
            PhaseTimeout: It took longer, waiting or computing.
        """
        if not inspect.isawaitable(result):
            return result
        coroutine = result if isinstance(result, Coroutine) else _awaiting(result)
        try:
            # The outer one ends a candidate that goes on after the inner one has cancelled it.
            async with asyncio.timeout(limit_s + _CANCEL_GRACE_S) as last:
                async with asyncio.timeout(limit_s) as first:
                    return await _guarded(coroutine, self, limit_s, what, last.expired)
        except TimeoutError as error:
            if not (first.expired() or last.expired()):
                raise  # the candidate's own
            raise PhaseTimeout(
                f"{what} did not end within {limit_s:g} s",
                expected="an end within its limit",
                do="find what it waits for, or raise the phase's timeout",
            ) from error

    async def call(self, function: Callable[[], Any], limit_s: float, what: str) -> Any:
        """Call a candidate's function, plain or async, guarded from its first step.

        Args:
            function: Takes nothing.
            limit_s: Seconds for the whole.
            what: What runs, for the error.

        Raises:
            PhaseTimeout: It took longer, waiting or computing.
        """
        began = monotonic()
        result = self.guard(function, limit_s, what)
        return await self.run(result, max(limit_s - (monotonic() - began), 0.0), what)

    def _settle(self) -> None:
        """Wait for a firing that is under way, and see that no exception is left to arrive.

        Raises:
            Overrun: One has arrived; call it again.
        """
        while self._round.firing:
            sleep(0)
        self._insists = False
        if self._insisted:
            sys.settrace(self._tracer_before)
            self._insisted = False
        if self._round.fired:
            # One that may be pending is not taken back but replaced and received: before 3.13 the
            # interpreter would look for it for ever after, at every jump; with a tracer or
            # profiler set it would then never come out of its own loop.
            self._round.fired = False
            _raise_in(self._target)
            while True:
                sleep(0)

    def _look(self, this: _Round) -> None:
        fired_for: float | None = None
        times = 0
        while not this.ended.wait(_LOOK_EVERY_S):
            this.firing = True
            deadline = self._deadline
            if deadline is not None and monotonic() > deadline:
                times = times + 1 if deadline == fired_for else 1
                fired_for = deadline
                self._fire(times)
            this.firing = False

    def _fire(self, times: int) -> None:
        insist = times > _PATIENCE and self._wake and _has_our_handler()
        self._insists = self._insists or insist
        if not insist:
            self._round.fired = True
            _raise_in(self._target)
        if self._wake and _SIGNAL is not None:
            signal.pthread_kill(self._target, _SIGNAL)

    def _insist(self, frames: list[types.FrameType]) -> None:
        """Raise `Overrun`, and once more on the first line of whatever swallows it.

        That line is outside the `try` that swallowed the first one, so the second gets further.
        """
        raised = False

        def trace(_: types.FrameType, event: str, arg: Any) -> Any:
            nonlocal raised
            if self._deadline is None:
                return None
            if event == "exception" and issubclass(arg[0], Overrun):
                raised = True
            elif event == "line" and raised:
                raise Overrun  # Python takes the trace function away by itself
            return trace

        for frame in frames:
            frame.f_trace = trace
        if not self._insisted:
            self._tracer_before, self._insisted = sys.gettrace(), True
        sys.settrace(trace)
        raise Overrun


def _raise_in(thread: int) -> None:
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(Overrun))


@types.coroutine
def _guarded(
    coroutine: Coroutine[Any, Any, T],
    watchdog: Watchdog,
    limit_s: float,
    what: str,
    is_given_up: Callable[[], bool],
) -> Generator[Any, Any, T]:
    """Drive a coroutine step by step: the watchdog holds only while its own code runs."""
    step: Callable[[], Any] = lambda: coroutine.send(None)  # noqa: E731 - replaced each round
    while True:
        try:
            awaited = watchdog.guard(step, limit_s, what)
        except StopIteration as stop:
            value: T = stop.value
            return value
        try:
            sent = yield awaited
        except GeneratorExit:
            coroutine.close()
            raise
        except BaseException as error:  # cancellation and errors of what it awaits are its own
            if is_given_up():
                with contextlib.suppress(RuntimeError):  # it may swallow even this
                    watchdog.guard(coroutine.close, limit_s, what)
                raise
            step = _throwing(coroutine, error)
        else:
            step = _sending(coroutine, sent)


async def _awaiting(awaitable: Awaitable[T]) -> T:
    return await awaitable


def _throwing(coroutine: Coroutine[Any, Any, T], error: BaseException) -> Callable[[], Any]:
    return lambda: coroutine.throw(error)


def _sending(coroutine: Coroutine[Any, Any, T], value: Any) -> Callable[[], Any]:
    return lambda: coroutine.send(value)


def _on_signal(_: int, frame: types.FrameType | None) -> None:
    """Do nothing, which wakes a blocking call; insist when the guarded code swallows `Overrun`."""
    frames = []
    while frame is not None and frame.f_code is not Watchdog.guard.__code__:
        frames.append(frame)
        frame = frame.f_back
    if frame is not None:
        watchdog: Watchdog = frame.f_locals["self"]
        if watchdog._insists and watchdog._deadline is not None:
            watchdog._insist(frames)


def _has_our_handler() -> bool:
    return _SIGNAL is not None and signal.getsignal(_SIGNAL) is _on_signal


def _prepare_signal() -> bool:
    """Have a handler in place, so that a signal wakes a blocking call."""
    if _SIGNAL is None or threading.current_thread() is not threading.main_thread():
        return False
    if signal.getsignal(_SIGNAL) in (signal.SIG_DFL, signal.SIG_IGN, None):
        signal.signal(_SIGNAL, _on_signal)
    return True
