"""Drain: close the gates of a transaction and wait until nothing is in flight in any of them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter

from replank.errors import PhaseTimeout
from replank.traffic.calls import Blocker, find_blockers
from replank.traffic.gate import Gate, Held
from replank.traffic.lane import Lane
from replank.traffic.moves import rest_streams
from replank.traffic.outliving import abort, as_usual

_BLOCKERS_NAMED_MAX = 5
_CANCEL_GRACE_S = 1.0


@dataclass(frozen=True, slots=True)
class Drained:
    """Proof of quiet: only a drain makes one, and what touches live state asks for it."""

    modules: tuple[str, ...]
    detached: tuple[Blocker, ...] = ()
    cancelled: tuple[Blocker, ...] = ()


class Drain:
    """Hold the gates of one transaction closed, from Drain to Commit or Rollback.

    Args:
        gates: The gates of all modules of the transaction.
    """

    def __init__(self, gates: Sequence[Gate]) -> None:
        self._gates = tuple(gates)
        self._lanes: tuple[Lane, ...] = ()
        self._empty = asyncio.Event()
        self._closed_at = 0.0

    def close(self) -> None:
        """Close all gates at once: between two of them no call can run."""
        self._closed_at = perf_counter()
        for gate in self._gates:
            gate.close()
        self._lanes = tuple(gate.lane for gate in self._gates)
        for lane in self._lanes:
            lane.on_empty = self._look
        for chain in [one for lane in self._lanes for one in tuple(lane.chains) if one.waits_at]:
            for other in chain.waits_at:  # one branch waits at another drain's gate
                other.let_through(chain)
        for lane in self._lanes:
            rest_streams(lane)
        self._look()

    async def wait(self, deadline_s: float, policies: Mapping[str, str]) -> Drained:
        """Wait until nothing is in flight in any of the modules.

        Args:
            deadline_s: How long to wait, in seconds.
            policies: Per module what becomes of calls that outlive the deadline: "abort" fails
                the drain, "cancel" cancels them and tells their callers, "detach" lets them finish
                on the old generation.

        Returns:
            The proof that the modules are quiet.

        Raises:
            PhaseTimeout: Calls are in flight still; names them, their age and where they stand.
        """
        cancelled: tuple[Blocker, ...] = ()
        detached: tuple[Blocker, ...] = ()
        if not await self._wait_empty(deadline_s):
            blockers = find_blockers(self._lanes, since=self._closed_at)
            if any(_follows("cancel", b, policies) for b in blockers):
                cancelled = await self._cancel(blockers, policies)
            left = find_blockers(self._lanes, since=self._closed_at)
            detached = tuple(b for b in left if _follows("detach", b, policies))
            if len(detached) < len(left):
                raise _timeout(left, deadline_s)
        for gate in self._gates:
            gate.quiet()
        return Drained(tuple(gate.module for gate in self._gates), detached, cancelled)

    def reopen(self, lanes: dict[str, Lane] | None = None) -> dict[str, Held]:
        """Open all gates: for the given lanes, or for those that served before.

        Args:
            lanes: By module, the lane of the generation that serves from now on.

        Returns:
            By module, what its gate held.
        """
        self._release_lanes()
        chosen = lanes or {}
        return {gate.module: gate.reopen(chosen.get(gate.module)) for gate in self._gates}

    def _release_lanes(self) -> None:
        for lane in self._lanes:
            lane.on_empty = None
            if lane.seal is None:
                as_usual(lane)

    def _look(self) -> None:
        # A chain let through to one module may enter another that was empty: all at the same time.
        if any(lane.in_flight for lane in self._lanes):
            self._empty.clear()
        else:
            self._empty.set()

    async def _wait_empty(self, deadline_s: float) -> bool:
        try:
            async with asyncio.timeout(deadline_s):
                while any(lane.in_flight for lane in self._lanes):
                    self._empty.clear()
                    await self._empty.wait()
        except TimeoutError:
            return not any(lane.in_flight for lane in self._lanes)
        return True

    async def _cancel(
        self, blockers: Sequence[Blocker], policies: Mapping[str, str]
    ) -> tuple[Blocker, ...]:
        chosen = tuple(
            b for b in blockers if b.task is not None and _follows("cancel", b, policies)
        )
        for blocker in chosen:
            abort(blocker)
        if chosen:
            await self._wait_empty(_CANCEL_GRACE_S)
        return chosen


def _follows(policy: str, blocker: Blocker, policies: Mapping[str, str]) -> bool:
    """Tell whether a policy holds for a call: in every drained module that it is in flight in."""
    return all(policies.get(module) == policy for module in blocker.blocks)


def _timeout(blockers: Sequence[Blocker], deadline_s: float) -> PhaseTimeout:
    named = "; ".join(str(blocker) for blocker in blockers[:_BLOCKERS_NAMED_MAX])
    more = len(blockers) - _BLOCKERS_NAMED_MAX
    return PhaseTimeout(
        f"{len(blockers)} call(s) did not end within {deadline_s:g} s",
        module=blockers[0].module,
        found=named + (f"; and {more} more" if more > 0 else ""),
        expected="calls that end within drain_timeout_s",
        do="raise drain_timeout_s, or set the module's drain_policy to cancel or detach",
    )
