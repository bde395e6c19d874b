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
from replank.traffic.gate import Lane, LaneState


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
        await self._pass()
        if self._items is None:
            self._items = self._lane.gate.method(self._call, self._lane)(
                *self._args, **self._kwargs
            )
            self._lane.calls += 1
        chain = self._enter()
        try:
            return await anext(self._items)
        finally:
            if chain is not None:
                chain.leave()

    async def aclose(self) -> None:
        """End the stream early; its `finally` blocks run, at a closed gate when it opens."""
        if self._items is None:
            return
        with contextlib.suppress(HostStopped):
            await self._pass()
        chain = self._enter()
        try:
            await self._items.aclose()
        finally:
            if chain is not None:
                chain.leave()

    async def _pass(self) -> None:
        """Wait until the stream may run; one that begins takes the generation that serves then."""
        gate = self._lane.gate
        while True:
            if self._items is not None:
                lane = self._lane
                if lane.open or lane.state is LaneState.RETIRED or gate.let_in(live_chain(), lane):
                    return
            else:
                # A chain that has touched this module stays with the generation that it has seen.
                let_in = gate.let_in(live_chain(), gate.lane)
                if let_in is not None or gate.lane.open:
                    self._lane = let_in or gate.lane
                    return
            await gate.opened()

    def _enter(self) -> Chain | None:
        chain = live_chain()
        if chain is not None:
            chain.touch(self._lane)
            return None
        return Chain(self._lane, self._call).begin()


def stream_entry(lane: Lane, call: str) -> Callable[..., Stream]:
    """Return the entry of a streaming call: `async for item in handle.watch(): ...`.

    Args:
        lane: The generation's lane.
        call: Name of the call.
    """

    def entry(*args: Any, **kwargs: Any) -> Stream:
        return Stream(lane, call, args, kwargs)

    return entry
