"""The way into a generation in another process: its lane, its streams, its seal."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any

from replank.errors import InternalError
from replank.traffic.calls import Chain, live_chain
from replank.traffic.gate import Gate
from replank.traffic.lane import Lane

if TYPE_CHECKING:
    from replank.isolation.remote import RemoteGeneration


class RemoteLane(Lane):
    """The way into a generation in another process.

    Attributes:
        remote: The generation.
        streaming: By the chain of the item that is computed, the stream that it belongs to.
    """

    __slots__ = ("remote", "streaming")

    remote: RemoteGeneration

    def __init__(self, gate: Gate, generation: int) -> None:
        super().__init__(gate, generation)
        self.streaming: dict[Chain, RemoteItems] = {}

    def forget(self, chain: Chain) -> None:
        """Count a stream out that waits for its next item: its worker keeps it where it stands."""
        items = self.streaming.get(chain)
        if items is not None:
            self.remote.note("hold_stream", items.number)
        super().forget(chain)

    def released(self) -> None:
        """Let what was kept go on: the gate has opened."""
        self.remote.note("release")


class RemoteSeal:
    """Stands for the seal that the worker puts on its state.

    Args:
        generation: Whose state it is.
    """

    def __init__(self, generation: RemoteGeneration) -> None:
        self._generation = generation
        generation.note("seal")

    def check(self, error: BaseException | None) -> None:
        """Do nothing: the worker has looked before it answered."""

    def lift(self) -> None:
        """Let the state be written again."""
        if self._generation.seal is self:
            self._generation.seal = self._generation.lane.seal = None
            self._generation.note("unseal")


class RemoteItems(AsyncGenerator[Any, None]):
    """A stream in a worker, as the method that was called: computed there, item by item.

    Args:
        generation: Where it runs.
        number: Its number there.
        opening: The call, its arguments and keyword arguments.
    """

    def __init__(self, generation: RemoteGeneration, number: int, opening: tuple[Any, ...]) -> None:
        self.number = number
        self._generation = generation
        self._opening: tuple[Any, ...] | None = opening

    async def __anext__(self) -> Any:
        """Have the next item computed."""
        generation, lane = self._generation, self._generation.remote_lane
        chain = live_chain()
        if chain is not None:
            lane.streaming[chain] = self
        try:
            if self._opening is not None:
                opening, self._opening = self._opening, None
                await generation.request("open", self.number, *opening)
            kind, item = await generation.next_item(self.number)
        finally:
            if chain is not None:
                lane.streaming.pop(chain, None)
        if kind == "end":
            raise StopAsyncIteration
        return item

    async def aclose(self) -> None:
        """End it early."""
        if self._opening is None and self._generation.worker.alive:
            await self._generation.request("close", self.number)

    async def asend(self, value: Any) -> Any:
        """Refuse: nobody sends into a stream."""
        del value
        raise InternalError("a stream takes no values")

    async def athrow(self, *_: Any) -> Any:
        """Refuse: nobody throws into a stream."""
        raise InternalError("a stream takes no errors")


__all__ = ["RemoteItems", "RemoteLane", "RemoteSeal"]
