"""Streams: calls that answer item by item. A stream is at rest between two items.

An open stream never blocks a reload: it is in flight only while it computes its next item. After a
reload it goes on in the generation it began in, whose state no longer counts, until it ends.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any

from replank.errors import HostStopped
from replank.traffic.calls import Chain, live_chain
from replank.traffic.lane import Lane, LaneState


class Stream(AsyncIterator[Any]):
    """One open stream.

    Args:
        lane: The lane of the generation that the call named.
        call: Name of the call.
        args: Positional arguments.
        kwargs: Keyword arguments.
    """

    def __init__(
        self, lane: Lane, call: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        self._lane = lane
        self._call = call
        self._args = args
        self._kwargs = kwargs
        self._items: AsyncGenerator[Any, None] | None = None

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> Any:
        """Return the next item; waits at a closed gate like any call.

        Raises:
            UnknownCall: The version that serves when it begins has no such call.
            HostStopped: The host takes no more calls.
        """
        chain = await self._enter()
        try:
            if self._items is None:
                method = self._lane.gate.method(self._call, self._lane)
                self._items = method(*self._args, **self._kwargs)
                self._lane.calls += 1
            return await anext(self._items)
        finally:
            if chain is not None:
                chain.leave()

    async def aclose(self) -> None:
        """End the stream early; its `finally` blocks run, at a closed gate when it opens."""
        if self._items is None:
            return
        chain: Chain | None = None
        with contextlib.suppress(HostStopped):
            chain = await self._enter()
        try:
            await self._items.aclose()
        finally:
            if chain is not None:
                chain.leave()

    async def _enter(self) -> Chain | None:
        """Be in flight for one item; waits in the queue of the gate like any call.

        A stream that begins takes the generation that serves then, or the one that its chain has
        seen already. One that has begun stays where it is; when that is retired, nobody waits.
        """
        gate = self._lane.gate
        chain = live_chain()
        begins = self._items is None
        asked = gate.lane if begins else self._lane
        if begins or asked.state is not LaneState.RETIRED:
            let_in = gate.let_in(chain, asked)
            if let_in is None and not asked.open:
                fresh = await gate.wait(self._call)
                if self._items is None:
                    self._lane = gate.lane
                if fresh is not None:
                    fresh.touch(self._lane)
                    return fresh.begin()
            elif begins:
                self._lane = let_in or asked
        if chain is not None:
            chain.touch(self._lane)
            return None
        return Chain.of(self._lane, self._call).begin()


def stream_entry(lane: Lane, call: str) -> Callable[..., Stream]:
    """Return the entry of a streaming call: `async for item in handle.watch(): ...`.

    Args:
        lane: The generation's lane.
        call: Name of the call.
    """

    def entry(*args: Any, **kwargs: Any) -> Stream:
        return Stream(lane, call, args, kwargs)

    return entry
