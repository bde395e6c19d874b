"""The gate of one module, and the lanes through which calls reach its generations.

The theory, in six rules:

1. Each generation has a *lane*; a call enters a generation through its lane. The lane's `open` is
   the one attribute that the hot path tests; it is true only for the current generation of a
   module whose gate is open.
2. A *chain* is a call from outside with all the calls it makes in turn. A chain that has touched a
   lane is in flight there until its outermost call ends, so a call sees one epoch of every module.
3. While a lane is *draining*, a chain that some drain already waits for may still enter it: were it
   to wait, the drain would wait for it, and it for the drain.
4. Once a lane is *quiet*, nothing enters until the gate opens again, for a new lane or the same.
5. A chain that was detached, because it outlived the drain, goes on in the lane it is in; what it
   calls in that module from then on waits, and enters the generation that serves next.
6. Calls that wait are released in the order of their arrival, and nothing overtakes them: the lane
   opens for all only when the last one has started.

Everything here runs on the host's event loop; no lock is needed, and none is taken.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, cast

from replank.errors import HostStopped, Overloaded, ReplankError, UnknownCall
from replank.traffic.calls import Chain, finish, live_chain
from replank.traffic.lane import Lane, LaneState
from replank.traffic.moves import Moved, end_streams, move_streams

_RELEASE_ROUNDS_MAX = 1_000
_PASSED = (LaneState.QUIET, LaneState.RETIRED)
"""States in which only detached calls are in flight: what they call from then on waits (rule 5)."""


@dataclass(slots=True, eq=False)
class _Waiting:
    """One call held at the closed gate."""

    call: str
    chain: Chain | None
    released: asyncio.Future[Chain | None]
    arrived_at: float = field(default_factory=perf_counter)


@dataclass(frozen=True, slots=True)
class Held:
    """What a closed gate held, from close to open."""

    calls: int
    longest_wait_s: float
    closed_s: float
    streams: Moved = field(default_factory=Moved)
    """What became of the streams that were open, when another generation serves now."""


@dataclass(slots=True)
class _Hold:
    closed_at: float
    calls: int = 0
    longest_wait_s: float = 0.0


class Gate:
    """Whether new calls enter a module, and the calls that wait while they do not.

    Args:
        module: Name of the module.
        waiting_max: How many calls may wait at the closed gate before new ones are refused.
    """

    def __init__(self, module: str, *, waiting_max: int = 10_000) -> None:
        self.module = module
        self.waiting_max = waiting_max
        self.lane = Lane(self, 0)
        self.refused = 0
        self.on_hold: Callable[[], None] | None = None
        """Called in the context of each call that has to wait; it must not raise."""
        self.refusal: Callable[[], ReplankError] | None = None
        """Makes what every call gets, while the module takes none; its messages wait."""
        self.threads: Any = None
        """Where the module's `def` calls run: its `ThreadPool`; None for the event loop."""
        self.longest_call_s = 0.0
        self._calls_before = 0
        self._waiting: deque[_Waiting] = deque()
        self._hold: _Hold | None = None
        self._closings = 0
        self._opened = asyncio.Event()
        self._stopped: str | None = None

    @property
    def is_open(self) -> bool:
        """Whether new calls enter."""
        return self.lane.open

    @property
    def waiting(self) -> int:
        """How many calls wait."""
        return len(self._waiting)

    @property
    def in_flight(self) -> int:
        """How many call chains are in flight in the lane that serves."""
        return self.lane.in_flight

    @property
    def calls(self) -> int:
        """How many calls have entered, in all generations."""
        return self._calls_before + self.lane.calls

    def close(self) -> None:
        """Let no new chain in; those in flight go on."""
        assert self._hold is None, f"the gate of {self.module} is closed twice"
        self._hold = _Hold(perf_counter(), calls=len(self._waiting))
        self._closings += 1
        self.lane.open = False
        self.lane.state = LaneState.DRAINING
        self._opened.clear()

    def quiet(self) -> None:
        """Note that nothing is in flight: now not even a chain in flight elsewhere enters."""
        assert self._hold is not None, f"the gate of {self.module} is not closed"
        self.lane.state = LaneState.QUIET

    def reopen(self, lane: Lane | None = None) -> Held:
        """Release the waiting calls in order of arrival, then open for all.

        Args:
            lane: The lane of the generation that serves from now on; None for the same as before.

        Returns:
            What was held and how long.
        """
        hold = self._hold
        assert hold is not None, f"the gate of {self.module} is not closed"
        self._hold = None
        streams = Moved()
        before = self.lane
        if lane is not None and lane is not before:
            self.refusal = None
            before.state = LaneState.RETIRED
            self._calls_before += before.calls
            streams = move_streams(before, lane)
            self.lane = lane
            lane.released()
        self.lane.state = LaneState.OPEN
        before.released()
        now = perf_counter()
        for waiting in self._waiting:
            hold.longest_wait_s = max(hold.longest_wait_s, now - waiting.arrived_at)
        if self.refusal is None:
            self._release(self._closings, _RELEASE_ROUNDS_MAX)
        return Held(hold.calls, hold.longest_wait_s, now - hold.closed_at, streams)

    def first_open(self, lane: Lane) -> None:
        """Open for the first generation."""
        self.lane = lane
        lane.state = LaneState.OPEN
        self._release(self._closings, _RELEASE_ROUNDS_MAX)

    def interrupt(self) -> None:
        """Let no call in for now: what should run them is not there. `reopen` lets them in."""
        self.lane.open = False
        self._opened.clear()

    def refuse(self, refusal: Callable[[], ReplankError]) -> None:
        """Refuse every call that waits and every later one, until another generation serves.

        Args:
            refusal: Makes what their callers get.
        """
        self.refusal = refusal
        self.interrupt()
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.released.done():
                waiting.released.set_exception(refusal())

    def stop(self, reason: str) -> None:
        """Refuse every call that waits and every later one.

        Args:
            reason: Why, for the caller.
        """
        self._stopped = reason
        self.lane.open = False
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.released.done():
                waiting.released.set_exception(self._stopping())
        self._opened.set()
        end_streams(self.lane, lambda _: self._stopping())

    async def opened(self) -> None:
        """Return when the gate is open, at once when it is."""
        while not self.lane.open:
            if self._stopped is not None:
                raise self._stopping()
            await self._opened.wait()

    def let_in(self, chain: Chain | None, asked: Lane) -> Lane | None:
        """Let a chain into a lane that is not open, if it may enter; None if it must wait.

        Args:
            chain: The live chain of the call, if it has one.
            asked: The lane that the call came by.
        """
        if chain is None or self._stopped is not None:
            return None
        for touched in chain.lanes:
            if touched.gate is self and cast("Lane", touched).state not in _PASSED:
                return cast("Lane", touched)
        lane = asked if asked.state is not LaneState.RETIRED else self.lane
        if lane.state is LaneState.DRAINING and chain.awaited:
            chain.touch(lane)
            return lane
        return None

    def let_through(self, chain: Chain) -> None:
        """Admit the waiting calls of a chain that a drain has begun to wait for (rule 3).

        Args:
            chain: A chain with calls of its own that wait here, begun by its other branches.
        """
        if self.lane.state is not LaneState.DRAINING:
            return
        for waiting in [one for one in self._waiting if one.chain is chain]:
            self._waiting.remove(waiting)
            self._admit(waiting)

    async def wait_and_run(
        self, call: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        """Hold a call while the gate is closed, then run it on the generation that serves.

        A caller that is cancelled or gives up is taken out; its call is never run.
        """
        if self.lane.open:  # a stale reference to a retired generation: no wait, today's entry
            return await self.entry(call)(*args, **kwargs)
        return await self.wait_and_read(call, lambda: (args, kwargs))

    async def wait_and_read(
        self, call: str, read: Callable[[], tuple[tuple[Any, ...], Mapping[str, Any]]]
    ) -> Any:
        """Hold a call while the gate is closed, then read its arguments and run it.

        Arguments made of the module's own classes must be of the generation that runs the call.

        Args:
            call: Name of the call.
            read: Returns its arguments; called when it enters.
        """
        chain = await self.wait(call)
        try:
            args, kwargs = read()
            method = self.method(call)
            self.lane.calls += 1
            if chain is None:
                return await finish(method(*args, **kwargs))
            chain.begin()
            return await finish(method(*args, **kwargs))
        finally:
            if chain is not None:
                chain.leave()

    async def wait(self, call: str) -> Chain | None:
        """Wait for the gate; returns the new chain, already counted as in flight, or None."""
        if self._stopped is not None:
            raise self._stopping()
        if self.refusal is not None:
            raise self.refusal()
        if len(self._waiting) >= self.waiting_max:
            self.refused += 1
            raise Overloaded(
                "too many calls wait for this module",
                module=self.module,
                found=f"{len(self._waiting)} waiting",
                expected=f"at most {self.waiting_max}",
                do="try again shortly, or raise max_waiting in the module's configuration",
            )
        waiting = _Waiting(call, live_chain(), asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        if self.on_hold is not None:
            self.on_hold()
        if waiting.chain is not None:
            waiting.chain.waits_at = (*waiting.chain.waits_at, self)
        if self._hold is not None:
            self._hold.calls += 1
        try:
            return await waiting.released
        except asyncio.CancelledError:
            self._give_up(waiting)
            raise

    def _give_up(self, waiting: _Waiting) -> None:
        """Take out a call whose caller no longer waits; also one released but not yet started."""
        if waiting in self._waiting:
            self._waiting.remove(waiting)
        elif not waiting.released.cancelled() and waiting.released.exception() is None:
            chain = waiting.released.result()
            if chain is not None:
                chain.leave()
        if self._hold is not None:
            waited = perf_counter() - waiting.arrived_at
            self._hold.longest_wait_s = max(self._hold.longest_wait_s, waited)

    def _release(self, closing: int, rounds: int) -> None:
        """Start every waiting call, look again after they have started; open when none came."""
        if self._stopped is not None or closing != self._closings:
            return  # closed again meanwhile: what arrived since waits for the next opening
        last = not self._waiting or rounds == 0
        while self._waiting:
            self._admit(self._waiting.popleft())
        if last:
            self.lane.open = True
            self._opened.set()
        else:
            asyncio.get_running_loop().call_soon(self._release, closing, rounds - 1)

    def _admit(self, waiting: _Waiting) -> None:
        """Count a waiting call in before it runs, so that a drain that starts now waits for it."""
        if waiting.released.done():
            return
        chain = waiting.chain
        if chain is not None and chain.alive:
            chain.touch(self.lane)
            waiting.released.set_result(None)
        else:
            waiting.released.set_result(Chain.of(self.lane, waiting.call))

    def entry(self, call: str) -> Callable[..., Any]:
        """Return what a handle calls in the generation that serves, or raise UnknownCall."""
        return self._lookup(self.lane.entries, call)

    def method(self, call: str, lane: Lane | None = None) -> Callable[..., Any]:
        """Return the bare method in a lane, by default what serves, or raise UnknownCall."""
        return self._lookup((lane or self.lane).methods, call)

    def _lookup(self, table: dict[str, Callable[..., Any]], call: str) -> Callable[..., Any]:
        try:
            return table[call]
        except KeyError:
            raise UnknownCall(
                f"the version that serves has no call {call!r}",
                module=self.module,
                found=call,
                expected=", ".join(sorted(table)) or "no calls at all",
                serves=f"generation {self.lane.generation}",
            ) from None

    def _stopping(self) -> HostStopped:
        return HostStopped(
            f"the host takes no more calls: {self._stopped}",
            module=self.module,
            do="call again when the host has started",
        )
