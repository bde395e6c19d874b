"""Streams: calls that answer item by item. A stream is at rest between two items.

An open stream never blocks a reload. It is in flight only while it computes its next item, and one
that has waited for that for a while is kept where it waits, as a spawned task is: most of the time
a feed waits for news. What becomes of it when another generation serves, its method declares:

- finish (the default): it goes on in the generation it began in, whose state is sealed;
- resume: it is ended there, and its method called again in the new generation, with `resume=` the
  last item that was read;
- end: it is ended, and its reader gets `StreamEnded`.

After a rollback every stream goes on from where it stands.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from time import perf_counter
from typing import Any, Final

from replank.definition import CallKind, takes_resume
from replank.errors import HostStopped, ReplankError, StateSealed, StreamEnded, WrongArguments
from replank.instrumentation.log import logger
from replank.traffic.calls import Chain, live_chain, outside_chain
from replank.traffic.lane import Lane, LaneState
from replank.traffic.message import Message, renew, renewed
from replank.traffic.moves import Resumed
from replank.traffic.stepwise import stepwise

IDLE_S: Final = 0.1
"""A stream that has waited so long for its next item is taken for one that waits for news."""
_LOOK_SHARE: Final = 50
"""A look behind the seal may take a fiftieth of a stream's time."""
_NOTHING: Final = object()
_MOVED: Final = "another version serves"
_closings: set[asyncio.Task[None]] = set()
"""What ends methods between two items: the loop alone would not keep them."""


class Stream(AsyncIterator[Any]):
    """One open stream.

    Args:
        lane: The lane of the generation that the call named.
        call: Name of the call.
        args: Positional arguments.
        kwargs: Keyword arguments.

    Attributes:
        call: Name of the call.
        resumed: Where it has gone on, reload by reload.
    """

    def __init__(
        self, lane: Lane, call: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        self.resumed: list[Resumed] = []
        self._lane = lane
        self.call = call
        self._args = args
        self._kwargs = kwargs
        self._items: AsyncGenerator[Any, None] | None = None
        self._came_from = ""
        self._last: Any = _NOTHING
        self._over = False
        # While it computes an item: the chain of that alone, the reader, and since when.
        self._chain: Chain | None = None
        self._reader: asyncio.Task[Any] | None = None
        self._since = 0.0
        self._held = False
        self._is_cut = self._was_cut = False
        self._leaves = False
        self._ends_with: ReplankError | None = None
        self._look_at = 0.0

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> Any:
        """Return the next item; waits at a closed gate like any call.

        Raises:
            UnknownCall: The version that serves when it begins has no such call.
            StreamEnded: Another version serves, and this stream does not go on in it.
            StateSealed: It goes on in the old version, and has written to its state.
            HostStopped: The host takes no more calls.
        """
        while not self._over:
            if self._leaves:
                await self._go_over()
            chain = await self._enter()
            try:
                if not self._leaves:  # it may have been moved while it waited at the gate
                    return await self._next(chain)
            except (StopAsyncIteration, asyncio.CancelledError):
                if not self._was_cut:
                    raise
            finally:
                if chain is not None:
                    chain.leave()
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """End the stream early; its `finally` blocks run, at a closed gate when it opens."""
        if self._items is None:
            self._over = True
            return
        chain: Chain | None = None
        with contextlib.suppress(HostStopped):
            chain = await self._enter()
        items, self._items = self._items, None
        try:
            if items is not None:
                await items.aclose()
        finally:
            self._finish()
            if chain is not None:
                chain.leave()

    @property
    def chain(self) -> Chain | None:
        """The chain of the item that is computed now, unless that is part of another call."""
        return self._chain

    # -- what a drain and a reload do with it ---------------------------------------------------

    def rest(self, now_s: float) -> float:
        """Be kept where it stands, if it may be: it is no longer in flight then.

        Args:
            now_s: The loop's time.

        Returns:
            Seconds after which it may be; 0 when it is kept, or when there is nothing to keep.
        """
        chain = self._chain
        if chain is None or self._held or chain.lanes != (self._lane,):
            return 0.0  # inside a call, or while it calls another module, it is in flight
        wait_s = self._since + IDLE_S - now_s
        if wait_s > 0 and not self._may_be_cut():
            return wait_s
        self._held = True
        self._lane.forget(chain)
        return 0.0

    def move(self, new: Lane) -> str:
        """Decide what becomes of it, now that another generation serves.

        Args:
            new: The lane of that generation.

        Returns:
            The field of `Moved` that counts it.
        """
        contract = self._lane.contract.get(self.call)
        policy = contract.on_reload if contract is not None else "finish"
        if policy == "finish":
            return "finishing"
        why_not = "its version says so: @stream(on_reload='end')"
        if policy == "resume":
            why_not = self._why_not_in(new)
        self.leave(self._ended(new, why_not) if why_not else None)
        return "ended" if why_not else "carried"

    def leave(self, error: ReplankError | None) -> None:
        """Have it leave its generation: at once, whenever its reader asks for the next item.

        Args:
            error: What its reader gets; None when it goes on in the generation that serves.
        """
        if self._leaves:
            return  # it does already, and its reader has been told why
        self._leaves, self._ends_with = True, error
        if self._reader is None:
            closing = asyncio.get_running_loop().create_task(
                self._let_go(),
                name=f"end of a stream of {self._lane.label}",
                context=outside_chain(),
            )
            _closings.add(closing)
            closing.add_done_callback(_closings.discard)
        elif not self._is_cut:
            self._is_cut = True
            self._reader.cancel(_MOVED)

    # -- inside -----------------------------------------------------------------------------------

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
                fresh = await gate.wait(self.call)
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
        return Chain.of(self._lane, self.call).begin()

    def _begin(self) -> AsyncGenerator[Any, None]:
        lane, args, kwargs = self._lane, self._args, self._kwargs
        if self._came_from:
            if why_not := self._why_not_in(lane):
                raise self._ended(lane, why_not)
            self._renew(lane)
            args, kwargs = self._args, self._kwargs
            if self._last is not _NOTHING:
                kwargs = {**kwargs, "resume": self._last}
            self.resumed.append(Resumed(lane.gate.module, self.call, self._came_from, lane.label))
        method = lane.gate.method(self.call, lane)
        items: AsyncGenerator[Any, None] = method(*args, **kwargs)
        lane.calls += 1
        lane.streams.add(self)
        return items

    def _renew(self, lane: Lane) -> None:
        """Have arguments and last item in a generation's own types.

        Raises:
            WrongArguments: They do not fit.
        """
        module = lane.gate.module
        message = Message(self.call, self._args, self._kwargs)
        _, self._args, self._kwargs = renewed(message, lane.contract, module)
        if self._last is not _NOTHING:
            self._last = renew(self._last, lane.contract[self.call], "resume", module)

    async def _next(self, chain: Chain | None) -> Any:
        self._was_cut = False
        try:
            if self._items is None:
                self._items = self._begin()
            self._last = await self._compute(self._items, chain)
        except BaseException as error:
            if not self._was_cut:
                self._finish()
                ended = isinstance(error, StopAsyncIteration)
                self._look(None if ended else error, at_end=True)
            raise
        return self._last

    async def _compute(self, items: AsyncGenerator[Any, None], chain: Chain | None) -> Any:
        reader = self._reader = asyncio.current_task()
        self._chain, self._is_cut = chain, False
        self._since = asyncio.get_running_loop().time()
        try:
            item = await stepwise(items.__anext__(), self._may_step)
        finally:
            self._reader = self._chain = None
            self._held = False
            if self._is_cut and reader is not None:
                # Unless its reader has been cancelled as well, that was the move alone.
                self._was_cut = reader.uncancel() == 0
        self._look(None)
        return item

    def _may_step(self) -> Coroutine[Any, Any, None] | None:
        return self._until_released() if self._held else None

    async def _until_released(self) -> None:
        lane, chain = self._lane, self._chain
        if lane.state is not LaneState.RETIRED:
            await lane.gate.opened()
        self._held = False
        if chain is not None and chain.alive:
            lane.chains.add(chain)

    async def _go_over(self) -> None:
        """Leave the generation it was in; it begins again in the one that serves, or it is over."""
        self._leaves, error = False, self._ends_with
        await self._let_go()
        if error is not None:
            self._over = True
            raise error

    async def _let_go(self) -> None:
        """End the method in the generation it was in, which may wait for nothing else."""
        items, self._items = self._items, None
        if items is None:
            return
        old = self._lane
        self._came_from = old.label
        try:
            await items.aclose()
        except Exception as failure:
            # Its clean-up runs in a version that is gone: it may read, and not write.
            name = f"{self._lane.gate.module}.{self.call}"
            logger.warning("%s failed when its stream was ended: %s", name, failure)
        finally:
            old.streams.discard(self)
        new = old.gate.lane
        if new is not old and not self._why_not_in(new):
            # A reader that is slow must not keep the old version in memory, by objects of it.
            with contextlib.suppress(WrongArguments):  # it is told when it reads
                self._renew(new)

    def _finish(self) -> None:
        self._over = True
        self._lane.streams.discard(self)

    def _look(self, error: BaseException | None, *, at_end: bool = False) -> None:
        """See whether it wrote behind the seal: at its end, and now and then before."""
        seal = self._lane.seal
        began = perf_counter()
        if seal is None or not (at_end or began >= self._look_at):
            return
        try:
            seal.check(error)
        except StateSealed:
            self._finish()
            raise
        took = perf_counter() - began
        self._look_at = began + took * _LOOK_SHARE

    def _may_be_cut(self) -> bool:
        """Whether it may be kept in the middle of an item: it is declared so, or never writes."""
        contract = self._lane.contract.get(self.call)
        return contract is not None and (contract.query or contract.on_reload != "finish")

    def _why_not_in(self, new: Lane) -> str:
        """Return why it cannot go on in a generation, or nothing."""
        contract = new.contract.get(self.call)
        if contract is None or contract.kind is not CallKind.STREAM:
            return f"the new version has no stream {self.call}"
        if not takes_resume(contract.signature):
            return f"{self.call} takes no resume value in the new version"
        return ""

    def _ended(self, new: Lane, why: str) -> StreamEnded:
        return StreamEnded(
            f"the stream {self.call} was ended by a reload: {why}",
            module=new.gate.module,
            found=f"a stream of {self._came_from or self._lane.label}",
            serves=new.label,
            do=f"open {self.call} again: the version that serves answers it",
        )


def stream_entry(lane: Lane, call: str) -> Callable[..., Stream]:
    """Return the entry of a streaming call: `async for item in handle.watch(): ...`.

    Args:
        lane: The generation's lane.
        call: Name of the call.
    """

    def entry(*args: Any, **kwargs: Any) -> Stream:
        return Stream(lane, call, args, kwargs)

    return entry


__all__ = ["IDLE_S", "Stream", "stream_entry"]
