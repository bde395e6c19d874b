"""The way into one generation: what the hot path tests and counts, and who is in flight there."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Any, Protocol

from replank.definition import Call
from replank.traffic.calls import Chain, chain_var, finish, live_chain
from replank.traffic.leaf import GRACE_LOOK_S, LeafPass
from replank.traffic.open_streams import OpenStreams
from replank.traffic.thread_calls import ThreadCall


class GateLike(Protocol):
    """What a lane, and the chains in it, need of the gate of its module."""

    module: str
    longest_call_s: float
    lane: Lane
    threads: Any

    async def opened(self) -> None:
        """Return when the gate is open, at once when it is."""

    async def wait(self, call: str) -> Chain | None:
        """Wait for the gate; returns the new chain, already counted as in flight, or None."""

    def let_in(self, chain: Chain | None, asked: Lane) -> Lane | None:
        """Return the lane that a chain may enter although it is not open, or None to wait."""

    def let_through(self, chain: Chain) -> None:
        """Release what a chain has waiting at this gate, if it may be let in now."""

    def method(self, call: str, lane: Lane | None = None) -> Callable[..., Any]:
        """Return the bare method of a call."""

    async def wait_and_run(
        self, call: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        """Hold a call while the gate is closed, then run it on the generation that serves."""


class LaneState(enum.StrEnum):
    """Where a generation's lane stands."""

    PREPARED = "prepared"
    OPEN = "open"
    DRAINING = "draining"
    QUIET = "quiet"
    RETIRED = "retired"


class Lane:
    """The way into one generation.

    Attributes:
        open: Whether calls enter without a second look; the hot path tests only this.
        quick: Whether suspending calls enter and leave without a second look: nobody waits for the
            lane, times its calls or has sealed it.
        calls: How many calls have entered.
        chains: The chains in flight here.
        leaf: Counts the suspending calls of a module that calls no other one: they need no chain
            of their own, and cost a third.
        entries: What a handle calls, by call name: counts and admits, then runs the method.
        methods: The bare methods, by call name: for calls that have been admitted already.
    """

    __slots__ = (
        "_on_empty",
        "_seal",
        "_timed",
        "calls",
        "chains",
        "contract",
        "entries",
        "gate",
        "generation",
        "label",
        "leaf",
        "left_behind",
        "methods",
        "open",
        "quick",
        "state",
        "streams",
        "timed_since",
    )

    def __init__(self, gate: GateLike, generation: int) -> None:
        self.gate = gate
        self.generation = generation
        self.open = False
        self.state = LaneState.PREPARED
        self.calls = 0
        self.chains: set[Chain] = set()
        self.entries: dict[str, Callable[..., Any]] = {}
        self.methods: dict[str, Callable[..., Any]] = {}
        self.contract: Mapping[str, Call] = {}
        """What is known of each call, by name."""
        self.label = f"{gate.module} (generation {generation})"
        self.streams = OpenStreams()
        self.left_behind: dict[Chain, ThreadCall] = {}
        """Calls that run in a thread on, though their callers have given up."""
        self.timed_since = 0.0
        self.leaf: LeafPass | None = None
        self._on_empty: Callable[[], None] | None = None
        self._seal: Any = None
        self._timed = False
        self.quick = True

    def _look(self) -> None:
        quiet = self._on_empty is None and self._seal is None
        self.quick = quiet and not self._timed

    @property
    def on_empty(self) -> Callable[[], None] | None:
        """What is told when nothing is in flight any more; None while nobody waits for that."""
        return self._on_empty

    @on_empty.setter
    def on_empty(self, on_empty: Callable[[], None] | None) -> None:
        self._on_empty = on_empty
        self._look()

    @property
    def seal(self) -> Any:
        """What keeps calls that outlive the generation from writing; None while it serves."""
        return self._seal

    @seal.setter
    def seal(self, seal: Any) -> None:
        self._seal = seal
        self._look()

    @property
    def timed(self) -> bool:
        """Whether calls are timed: while a reload is in its window."""
        return self._timed

    @timed.setter
    def timed(self, timed: bool) -> None:
        self._timed, self.timed_since = timed, perf_counter()
        self._look()

    @property
    def in_flight(self) -> int:
        """How many calls from outside are in flight here."""
        leaf = self.leaf
        return len(self.chains) + (leaf.count + leaf.other.count if leaf is not None else 0)

    @property
    def outlived(self) -> bool:
        """Whether something goes on here although the lane is quiet."""
        return bool(self.in_flight or self.streams)

    @property
    def awaited(self) -> bool:
        """Whether a drain waits for the calls in flight here; a retirement does not count."""
        return self.on_empty is not None and self.state is LaneState.DRAINING

    def enter(self, call: str) -> Chain | LeafPass | None:
        """Count a suspending call in; the lane is open or the call has been admitted.

        Args:
            call: Name of the call.

        Returns:
            What must be left at its end, or None when the call belongs to a chain already.
        """
        self.calls += 1
        chain = chain_var.get()
        if chain is not None and chain.first is not None:
            chain.touch(self)
            return None
        leaf = self.leaf
        if leaf is not None:
            leaf.count += 1
            return leaf
        return Chain.of(self, call).begin()

    def forget(self, chain: Chain) -> None:
        """Count a chain out that goes on: it is kept where it stands; tells the drain if the last.

        Args:
            chain: It has touched this lane alone.
        """
        self.chains.discard(chain)
        if self.on_empty is not None and not self.in_flight:
            self.on_empty()

    def released(self) -> None:
        """Let what was kept in it go on, now that its module's gate opens; here: nothing is."""

    async def detour(self, call: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Take a call that found the lane not open: let its chain through, or have it wait.

        Args:
            call: Name of the call.
            args: Its positional arguments.
            kwargs: Its keyword arguments.

        Raises:
            Overloaded: Too many calls wait already.
            HostStopped: The host takes no more calls.
            UnknownCall: The version that serves after the wait has no such call.
        """
        # The chain is kept in no local: a drain takes the frame that holds a chain for its owner.
        lane = self.gate.let_in(live_chain(), self)
        if lane is None:
            return await self.gate.wait_and_run(call, args, kwargs)
        lane.calls += 1
        return await finish(self.gate.method(call, lane)(*args, **kwargs))

    async def grace(self) -> None:
        """Return when every chain that is in flight now has ended; later ones do not count.

        Open streams are not waited for: some never end.
        """
        waiting = set(self.chains) - {one.chain for one in self.streams}
        leaf = self.leaf
        if leaf is not None:
            await leaf.other.ended()
            self.leaf = leaf.other  # later calls are counted apart from those of now
            await leaf.ended()
        while waiting & self.chains:  # noqa: ASYNC110 - as said in the next line
            # A look each millisecond: a hook would cost every call that leaves.
            await asyncio.sleep(GRACE_LOOK_S)
