"""Call chains: a call from outside and all the calls it makes in turn."""

from __future__ import annotations

import asyncio
import contextvars
import traceback
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from math import inf
from time import perf_counter
from types import FrameType
from typing import Any, Protocol

import msgspec

from replank.suspended import references
from replank.traffic.beat import BEAT_S
from replank.traffic.leaf import SINCE, LeafPass
from replank.traffic.thread_calls import ThreadCall

_STACK_DEPTH_MAX = 50


class GateOfChain(Protocol):
    """What a chain needs of a gate."""

    module: str
    longest_call_s: float

    def let_through(self, chain: Chain) -> None:
        """Release what a chain has waiting at this gate, if it may be let in now."""


class LaneOfChain(Protocol):
    """What a chain needs of a lane that it touches."""

    chains: set[Chain]
    leaf: LeafPass | None
    quick: bool
    on_empty: Callable[[], None] | None
    seal: Any
    timed: bool
    timed_since: float
    left_behind: dict[Chain, ThreadCall]

    @property
    def awaited(self) -> bool:
        """Whether a drain waits for the calls in flight there."""

    @property
    def gate(self) -> GateOfChain:
        """The gate of the lane's module."""

    @property
    def in_flight(self) -> int:
        """How many calls from outside are in flight there."""


class Chain(msgspec.Struct, eq=False, gc=False):
    """One call from outside with all the calls it makes in turn; it carries its own admission.

    Every suspending call makes one. It is a Struct because that is made in half the time of a plain
    object, and unknown to the collector, which would take a third again: a chain that has ended
    refers to nothing. Ended, it stays in its context, dead: to put the context back costs more than
    to ask the next one that looks whether the chain lives.

    Attributes:
        first: The lane that it entered first; None once it has ended.
        call: Name of its outermost call.
        started_at: When it began, in seconds of `perf_counter`; up to a beat earlier when it began
            while nobody looked.
        others: Further lanes that it has touched, in order; None for none.
        waits_at: The gates at which branches of it wait.
        blocker: Set when a drain's policy ends the call.
    """

    first: LaneOfChain | None
    call: str
    started_at: float
    others: list[LaneOfChain] | None = None
    waits_at: tuple[GateOfChain, ...] = ()
    blocker: Blocker | None = None

    @staticmethod
    def of(lane: LaneOfChain, call: str) -> Chain:
        """Return a new chain, in flight in a lane.

        Args:
            lane: The lane it enters first.
            call: Name of its outermost call.
        """
        chain = Chain(lane, call, perf_counter())
        lane.chains.add(chain)
        return chain

    @property
    def alive(self) -> bool:
        """Whether the call is still in flight."""
        return self.first is not None

    @property
    def lanes(self) -> tuple[LaneOfChain, ...]:
        """Every lane that the chain has touched, in order; none once it has ended."""
        return () if self.first is None else (self.first, *(self.others or ()))

    @property
    def awaited(self) -> bool:
        """Whether some drain waits for this chain: it must be let through to its end."""
        return any(lane.awaited for lane in self.lanes)

    def begin(self) -> Chain:
        """Make this the chain of the running task, so that nested calls find it."""
        chain_var.set(self)
        return self

    def touch(self, lane: LaneOfChain) -> None:
        """Be in flight in this lane too, until the outermost call ends."""
        if lane is self.first or self.first is None:
            return
        if self.others is None:
            self.others = [lane]
        elif lane in self.others:
            return
        else:
            self.others.append(lane)
        lane.chains.add(self)

    def leave(self) -> None:
        """End the call: be in flight nowhere, and note how long it took while a reload looks."""
        first = self.first
        if first is None:
            return
        if first.timed:
            self._note_length(first)
        self.first = None
        first.chains.discard(self)
        if first.on_empty is not None or self.others is not None:
            self._tell(first)

    def _note_length(self, first: LaneOfChain) -> None:
        began, since = self.started_at, first.timed_since
        if began < since:  # known to a beat only: it took this long, or a little less than this
            began = min(began + BEAT_S, since)
        gate = first.gate
        gate.longest_call_s = max(gate.longest_call_s, perf_counter() - began)

    def _tell(self, first: LaneOfChain) -> None:
        """Tell the drains of every lane that this chain has left."""
        others, self.others = self.others or [], None
        self.waits_at = ()
        for lane in others:
            lane.chains.discard(self)
        for lane in (first, *others):
            if lane.on_empty is not None and not lane.in_flight:
                lane.on_empty()


chain_var: contextvars.ContextVar[Chain | None] = contextvars.ContextVar(
    "replank_chain", default=None
)


CANCELLED_BY_DRAIN = "the module's drain policy is cancel"


def ends_only_the_call(error: asyncio.CancelledError) -> bool:
    """Tell whether a cancellation ended one call, and not the worker that carries calls.

    A drain cancels what outlives it, with its own message; a module's code may also let the
    cancellation of something that it awaited go through. In both cases the worker goes on.

    Args:
        error: What came out of the call, in the running task.
    """
    task = asyncio.current_task()
    if task is None or not task.cancelling():
        return True
    if error.args != (CANCELLED_BY_DRAIN,):
        return False
    task.uncancel()
    return True


def outside_chain() -> contextvars.Context:
    """Return a copy of the running context in which no chain runs, for a task of its own."""
    context = contextvars.copy_context()
    context.run(chain_var.set, None)
    return context


async def finish(result: Any) -> Any:
    """Return what a method returned, awaited when it is a coroutine function's."""
    if isinstance(result, Coroutine):  # not asyncio.iscoroutine: on 3.11 a generator is one
        return await result
    return result


def live_chain() -> Chain | None:
    """Return the chain that the running code belongs to, if it has not ended."""
    chain = chain_var.get()
    return chain if chain is not None and chain.first is not None else None


@dataclass(frozen=True, slots=True)
class Blocker:
    """One call that kept a drain from ending."""

    module: str
    call: str
    age_s: float
    stack: tuple[str, ...]
    """Where it stands, outermost first: "ledger.py:12 in deposit"."""
    task: asyncio.Task[Any] | None
    """What can be cancelled; None when it runs in a thread, which cannot."""
    blocks: tuple[str, ...] = ()
    """The drained modules that it is in flight in; `module` is where it came in."""
    chain: Chain | None = None
    leaf: LeafPass | None = None
    """What counts it: a chain of its own, or its module's count."""

    def __str__(self) -> str:
        # The first frame is the call's own line; the last is what it waits in.
        ends = dict.fromkeys((*self.stack[:1], *self.stack[-1:]))
        where = ", at " + " -> ".join(ends) if ends else ""
        return f"{self.module}.{self.call} ({self.age_s:.2f} s{where})"


def find_blockers(lanes: Iterable[LaneOfChain], since: float | None = None) -> tuple[Blocker, ...]:
    """Name the calls in flight in these lanes, how old they are and where they stand.

    Nothing is recorded per call for this: the tasks' own frames are searched, only when asked.

    Args:
        lanes: The lanes that are being drained.
        since: When the drain began; a call whose beginning nobody noted is at least as old.
    """
    lanes = tuple(lanes)
    chains = {chain for lane in lanes for chain in tuple(lane.chains)}
    held = _holders(chains, lanes)
    now = perf_counter()
    blockers = []
    for chain in sorted(chains, key=lambda one: one.started_at):
        task, stack = held.chains.get(id(chain)) or (None, _left_behind(chain))
        blockers.append(
            Blocker(
                module=chain.lanes[0].gate.module,
                call=chain.call,
                age_s=now - chain.started_at,
                stack=stack,
                task=task,
                blocks=tuple(lane.gate.module for lane in lanes if chain in lane.chains),
                chain=chain,
            )
        )
    least_s = now - (now if since is None else since)
    for lane in lanes:
        module = lane.gate.module
        found = [one for one in held.leaves if one[0] is lane]
        blockers += [
            Blocker(module, call, max(least_s, now - began), stack, task, (module,), leaf=lane.leaf)
            for _, call, task, stack, began in found
        ]
        unseen = lane.in_flight - len(lane.chains) - len(found)  # run by something else than a task
        blockers += [Blocker(module, "a call", least_s, (), None, (module,))] * unseen
    return tuple(blockers)


@dataclass(slots=True)
class _Holders:
    """Which task holds which call, and where it stands."""

    chains: dict[int, tuple[asyncio.Task[Any] | None, tuple[str, ...]]]
    leaves: list[tuple[LaneOfChain, str, asyncio.Task[Any] | None, tuple[str, ...], float]]


def _holders(chains: set[Chain], lanes: tuple[LaneOfChain, ...]) -> _Holders:
    wanted = {id(chain) for chain in chains}
    held = _Holders({}, [])
    for task in asyncio.all_tasks():
        stack = _stack_of(task)
        referred = [references(suspended) for suspended, _ in stack]
        frames, in_thread = _with_thread([frame for _, frame in stack], referred)
        holder = None if in_thread else task
        for depth, ((_, frame), values) in enumerate(zip(stack, referred, strict=True)):
            for value in values:
                if id(value) in wanted and id(value) not in held.chains:
                    held.chains[id(value)] = (holder, tuple(map(_place, frames[depth:])))
                elif isinstance(value, LeafPass) and value.lane in lanes:
                    places = tuple(map(_place, frames[depth:]))
                    began = frame.f_locals.get(SINCE, inf)
                    held.leaves.append((value.lane, frame.f_code.co_name, holder, places, began))
    return held


def _with_thread(
    frames: list[FrameType], referred: list[list[Any]]
) -> tuple[list[FrameType], bool]:
    """Follow a task that waits for a thread into the thread."""
    for depth, values in enumerate(referred):
        work = next((one for one in values if isinstance(one, ThreadCall)), None)
        if work is not None:
            # What leads from the entry, one frame further out, to the thread is the runtime's own.
            outer = max(depth - 1, 0)
            return [*frames[:outer], *work.frames()] or frames, not work.waits
    return frames, False


def _left_behind(chain: Chain) -> tuple[str, ...]:
    """Return where the thread of a call stands whose caller has given up."""
    found = [lane.left_behind[chain] for lane in chain.lanes if chain in lane.left_behind]
    return tuple(_place(frame) for work in found for frame in work.frames())


def _stack_of(task: asyncio.Task[Any]) -> list[tuple[Any, FrameType]]:
    """Return what a suspended task awaits, with frames, from outermost to innermost."""
    stack: list[tuple[Any, FrameType]] = []
    awaited: Any = task.get_coro()
    while awaited is not None and len(stack) < _STACK_DEPTH_MAX:
        frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "gi_frame", None)
        if frame is None:
            break
        stack.append((awaited, frame))
        awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "gi_yieldfrom", None)
    return stack


def _place(frame: FrameType) -> str:
    summary = traceback.FrameSummary(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name)
    name = summary.name.removeprefix("_replank_entry_")
    return f"{summary.filename.rpartition('/')[2]}:{summary.lineno} in {name}"
