"""Streams: calls that answer item by item. A stream is at rest between two items.

An open stream never blocks a reload: it is in flight only while it computes its next item. After a
reload it goes on in the generation it began in, whose state no longer counts, until it ends.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any

from replank.traffic.calls import Chain, chain_var
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
        """Return the next item; waits at a closed gate like any call."""
        await self._pass()
        if self._items is None:
            self._lane = self._lane.gate.lane  # the generation that serves when it begins
            self._items = self._lane.methods[self._call](*self._args, **self._kwargs)
            self._lane.calls += 1
        chain = self._enter()
        try:
            return await anext(self._items)
        finally:
            if chain is not None:
                chain.leave()

    async def aclose(self) -> None:
        """End the stream early; its `finally` blocks run."""
        if self._items is not None:
            await self._items.aclose()

    async def _pass(self) -> None:
        chain = chain_var.get()
        nested = chain is not None and chain.alive
        if not nested and self._lane.state is not LaneState.RETIRED:
            await self._lane.gate.opened()

    def _enter(self) -> Chain | None:
        chain = chain_var.get()
        if chain is not None and chain.alive:
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
