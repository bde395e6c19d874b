"""What candidates change outside themselves while they load and start, and how it is taken back.

Three sources, from certain to likely:

- what would run a candidate's code (threads, tasks, callbacks, handlers) is found by its private
  name whenever one looks;
- what changed during one step of its code on the event loop's thread (the constructor, a part of
  `on_start`) can be of nobody else;
- what changed while it was imported, in a thread beside the traffic, is taken for its own, unless
  another candidate of another transaction ran at the same time: then it is only told.

One object serves a whole transaction, for that is taken back, or kept, as a whole.
"""

from __future__ import annotations

import asyncio
import atexit
import inspect
import threading
import types
import weakref
from collections.abc import (
    Callable,
    Container,
    Coroutine,
    Generator,
    Iterable,
    Iterator,
    Sequence,
)
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Final

from replank.threads import OURS_PREFIX, in_thread
from replank.verification.leftovers import Leftover, attached, running, thread_left
from replank.verification.ownership import Others, Owner
from replank.verification.patches import place_changes, read_places
from replank.verification.surroundings import Change, Surroundings

_STEPS_MAX: Final = 32
"""Parts of one `on_start` that are looked at; what a longer one has left is found by its name."""
_END_WITHIN_S: Final = 1.0
"""Seconds that what was asked to end gets."""

_lock: Final = threading.Lock()
_open_steps: Final[weakref.WeakSet[_Step]] = weakref.WeakSet()
"""Of all transactions of the process: which of them run at the same time."""


@dataclass(frozen=True, slots=True)
class TakenBack:
    """What became of it, one line each, for the operator."""

    done: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    """What goes on all the same, and what to do about it."""


@dataclass(eq=False, slots=True, weakref_slot=True)
class _Step:
    """From the beginning to the end of one part of a candidate's code."""

    effects: Effects
    name: str
    before: Surroundings
    exact: bool
    shared: bool = False
    """Whether a candidate of another transaction ran meanwhile."""
    changes: list[Change] = field(default_factory=list)
    threads: frozenset[threading.Thread] = frozenset()


class Effects:
    """Everything that the candidates of one transaction did outside themselves."""

    def __init__(self) -> None:
        self.owner = Owner()
        self.exits: dict[str, list[Callable[..., object]]] = {}
        """By private name, what the code has registered with `atexit`."""
        self.notes: list[str] = []
        """What the probe has seen, for the operator."""
        self._patches: dict[str, Any] = {}
        self._steps: list[_Step] = []
        self._kept: dict[str, list[Change]] = {}
        self._forgotten = False
        self._late: asyncio.Task[TakenBack] | None = None

    def own(self, name: str) -> list[Callable[..., object]]:
        """Take what is below a private name as this transaction's.

        Args:
            name: Such as `ledger@7`.

        Returns:
            Where its code notes what it registers with `atexit`.
        """
        self.owner.names.add(name)
        return self.exits.setdefault(name, [])

    def expect_patches(self, places: Iterable[str]) -> None:
        """Remember what is about to be replaced; imports what is not imported yet.

        Args:
            places: As "json.dumps", by what a child process has seen.
        """
        self._patches.update(read_places(places))

    def take_notes(self) -> list[str]:
        """Return what the probe has seen, once."""
        notes, self.notes = self.notes, []
        return notes

    @contextmanager
    def step(self, name: str, *, exact: bool) -> Iterator[None]:
        """Note what changes while a part of a candidate's code runs.

        Args:
            name: The candidate's private name.
            exact: Whether it runs on the event loop's thread, where nothing else can run meanwhile.
        """
        one = _Step(self, name, Surroundings.now(), exact)
        with _lock:
            others = {other for other in _open_steps if other.effects is not self}
            for other in others:
                other.shared = True
            one.shared = bool(others)
            _open_steps.add(one)
        try:
            yield
        finally:
            with _lock:
                _open_steps.discard(one)
            if not self._forgotten:
                after = Surroundings.now()
                one.changes = list(one.before.changes(after))
                if not exact:
                    one.changes += place_changes(self._patches)
                one.threads = after.threads - one.before.threads
                self._steps.append(one)

    def watched(self, name: str, hook: Callable[[], Any]) -> Callable[[], Any]:
        """Return a hook that does the same, each of its steps noted.

        Args:
            name: The candidate's private name.
            hook: Plain or async, and takes nothing.
        """

        def run() -> Any:
            with self.step(name, exact=True):
                result = hook()
            return self._drive(name, result) if inspect.iscoroutine(result) else result

        return run

    def forget(self) -> None:
        """Let everything stand: the transaction is committed."""
        self._forgotten = True
        for step in self._steps:
            attached = [one for one in step.changes if one.stands()]
            self._kept.setdefault(step.name, []).extend(attached)
        self._steps.clear()

    def leaks(
        self, name: str, loop: asyncio.AbstractEventLoop, *, runs: bool = True
    ) -> tuple[str, ...]:
        """Return what a generation that serves no more has left, one line each.

        Args:
            name: Its private name.
            loop: The event loop on which it ran.
            runs: Whether anything may be left that would run its code.
        """
        found: list[Leftover] = []
        if runs:
            owner = Owner([name])
            owner.entries = self.owner.entries
            found = [*running(owner, loop), *attached(owner, loop)]
        lines = [f"{one.text}; {one.do}" for one in found]
        owned = " ".join(one.text for one in found)
        lines += [
            f"{one.text}; take it away in on_stop"
            for one in self._kept.pop(name, ())
            if one.stands() and not any(repr(thing) in owned for thing in one.things)
        ]
        lines += [
            f"atexit will run {_name_of(one)}; unregister it in on_stop"
            for one in self.exits.get(name, ())
        ]
        return tuple(dict.fromkeys(lines))

    def take_back_late(self) -> None:
        """Take back what an import did that went on after its reload had given it up."""
        self._late = asyncio.create_task(self.take_back(), name="take back")

    async def take_back(self) -> TakenBack:
        """End what runs, then put back what was changed, the last first."""
        done: list[str] = []
        left: list[str] = []
        loop = asyncio.get_running_loop()
        new = _Since(self._steps, loop)
        runs = running(self.owner, loop, beside=asyncio.current_task(), new=new)
        await _end([*runs, *self._appeared({one.text for one in runs}, new)], done, left)
        for step in reversed(self._steps):
            self._put_back(step, done, left)
        await _end(attached(self.owner, loop), done, left)
        for one in [one for exits in self.exits.values() for one in exits]:
            atexit.unregister(one)
            done.append(f"atexit function {_name_of(one)}")
        self.exits.clear()
        self._steps.clear()
        return TakenBack(tuple(dict.fromkeys(done)), tuple(dict.fromkeys(left)))

    def _put_back(self, step: _Step, done: list[str], left: list[str]) -> None:
        others = Others(self.owner)
        for change in step.changes:
            if step.exact:
                _put_back(change, done, left)
            elif others.owns(change.things):
                continue
            elif step.shared and not self.owner.owns(change.things):
                left.append(_uncertain(change))
            else:
                _put_back(change, done, left)

    def _appeared(self, known: set[str], new: _Since) -> list[Leftover]:
        """Return threads of a library that a step on the loop's thread has started."""
        threads = {
            thread
            for one in self._steps
            if one.exact
            for thread in one.threads
            if thread.is_alive() and thread in new
        }
        found = [thread_left(one, owned=False, new=new) for one in threads]
        return [one for one in found if one.text not in known]

    @types.coroutine
    def _drive(self, name: str, coroutine: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
        """Run a coroutine, each step noted by itself: between two of them others run."""
        act: Callable[[], Any] = lambda: coroutine.send(None)  # noqa: E731 - replaced each round
        taken = 0
        while True:
            taken += 1
            try:
                if taken < _STEPS_MAX:
                    with self.step(name, exact=True):
                        awaited = act()
                else:
                    awaited = act()
            except StopIteration as stop:
                return stop.value
            try:
                sent = yield awaited
            except BaseException as error:  # cancellation and the errors of what it awaits
                act = _throwing(coroutine, error)
            else:
                act = _sending(coroutine, sent)


def leaks_of(
    retired: Sequence[tuple[Effects, str]], loop: asyncio.AbstractEventLoop
) -> list[tuple[str, ...]]:
    """Return what each of some generations has left; blocks.

    The process is looked through once for all: mostly none has left anything.

    Args:
        retired: Their effects and private names.
        loop: The event loop on which they ran.
    """
    owner = Owner(name for _, name in retired)
    owner.entries = {code for effects, _ in retired for code in effects.owner.entries}
    runs = bool(running(owner, loop) or attached(owner, loop))
    return [effects.leaks(name, loop, runs=runs) for effects, name in retired]


class _Since:
    """The threads that were not there before the first of some steps, and are nobody else's.

    The loop's pool and Replank's own begin threads when there is work for them, whose it may be.
    """

    def __init__(self, steps: list[_Step], loop: asyncio.AbstractEventLoop) -> None:
        self._before = steps[0].before.threads if steps else None
        pool = getattr(loop, "_default_executor", None)
        self._of_loop: Container[threading.Thread] = getattr(pool, "_threads", ())

    def __contains__(self, thread: object) -> bool:
        return (
            self._before is not None
            and isinstance(thread, threading.Thread)
            and thread not in self._before
            and thread not in self._of_loop
            and not thread.name.startswith(OURS_PREFIX)
        )


async def _end(found: list[Leftover], done: list[str], left: list[str]) -> None:
    """Ask all to end, and say what came of it; nothing of what ends by itself meanwhile."""
    asked = [one for one in found if not one.soon]
    failed = _ask(asked, left)
    await _gone(found)
    late = [one for one in found if one.soon and not one.is_gone()]
    failed |= _ask(late, left)
    await _gone(late)
    for one in [*asked, *late]:
        if one.is_gone():
            done.append(one.text)
        elif one.text not in failed:
            left.append(f"{one.text}; {one.do}")


def _ask(found: list[Leftover], left: list[str]) -> set[str]:
    """Ask each to end; return the texts of those that could not be asked."""
    failed: set[str] = set()
    for one in found:
        try:
            one.end()
        except Exception as error:
            failed.add(one.text)
            left.append(f"{one.text}: {type(error).__name__}: {error}; {one.do}")
    return failed


async def _gone(found: list[Leftover]) -> None:
    """Return when all have ended, or had their time."""
    if all(one.is_gone() for one in found):
        return

    def wait() -> None:
        deadline = monotonic() + _END_WITHIN_S
        pause = threading.Event()
        while monotonic() < deadline and any(not one.is_gone() for one in found):
            pause.wait(0.005)

    if getattr(asyncio.get_running_loop(), "runs_alone", False):
        return  # a simulation has no threads, and its time stands still meanwhile
    await in_thread(wait)


def _put_back(change: Change, done: list[str], left: list[str]) -> None:
    try:
        put = change.put_back()
    except Exception as error:
        left.append(
            f"{change.text} was not put back: {type(error).__name__}: {error}; put it right by hand"
        )
    else:
        if put:
            done.append(change.text)


def _name_of(function: Callable[..., object]) -> str:
    return getattr(function, "__qualname__", repr(function))


def _uncertain(change: Change) -> str:
    return (
        f"{change.text} was left as it is: another candidate was loading at the same time, and it "
        "may be its; look, and put it right by hand"
    )


def _throwing(coroutine: Coroutine[Any, Any, Any], error: BaseException) -> Callable[[], Any]:
    return lambda: coroutine.throw(error)


def _sending(coroutine: Coroutine[Any, Any, Any], value: Any) -> Callable[[], Any]:
    return lambda: coroutine.send(value)


__all__ = ["Effects", "TakenBack", "leaks_of"]
