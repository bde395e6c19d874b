"""Probation: for a while after a commit the old generations are kept ready to serve again.

What was copied in a window is brought to its place first; then followers keep the old records in
step with every write. A rollback in that time is one more pause of the same length. A transaction
is in probation as a whole, and a new reload of one of its modules ends it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from replank.code.generation import Generation
from replank.coordinator.slot import Watching
from replank.coordinator.transaction import Transaction
from replank.coordinator.watch import Countdown
from replank.instrumentation.events import Bus, Warned
from replank.state.windowed import WindowedTransfer

_FOLLOW_EVERY_S = 0.02


class Probation:
    """What is left to do after one commit, and the way back while it lasts.

    Args:
        tx: The transaction that was committed.
        countdown: How long the old state is kept in step.
        retire: Takes an old generation out of memory.
        stop: Runs a generation's `on_stop`: at once, for nothing may run twice; a return runs
            its `on_start` again.
        bus: Is told what goes wrong.
        watch: Looks at how the new version does; None when nobody does.
    """

    def __init__(
        self,
        tx: Transaction,
        countdown: Countdown,
        retire: Callable[[Generation], None],
        stop: Callable[[Generation], Awaitable[None]],
        bus: Bus,
        watch: Watching | None = None,
    ) -> None:
        self.participants = tx.participants
        self.watch: Watching | None = watch
        self._countdown = countdown
        self._retire = retire
        self._stop = stop
        self._bus = bus
        self._settled = asyncio.Event()
        self._over = False
        large = [one for one in tx.each() if isinstance(one.transfer, WindowedTransfer)]
        lasts = countdown.left_s > 0
        self._kept = bool(large) and lasts and all(one.state.followed for one in tx.each())
        self._work = asyncio.create_task(self._run(), name=f"probation of {', '.join(tx.names)}")

    @property
    def returnable(self) -> bool:
        """Whether the old generations can serve again at once."""
        return self._kept and not self._over and not self._in_use

    @property
    def _in_use(self) -> bool:
        """Whether something goes on in an old generation still: its state must stay sealed."""
        return any(one.old.lane.outlived for one in self.participants.values())

    async def settled(self) -> None:
        """Return when everything has its place."""
        await self._settled.wait()

    async def end(self) -> None:
        """Let the old generations go, now."""
        await self._settled.wait()
        if self.watch is not None:
            await self.watch.end("ended")
        if not self._over:
            self._work.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._work
            await self._finish()
        elif not self._work.done():  # it ends already: what was not migrated yet is, just now
            await asyncio.wait((self._work,))

    async def hand_over(self) -> None:
        """Stop following: a rollback takes the old generations over."""
        await self._settled.wait()
        if self.watch is not None:
            await self.watch.end("returned")
        self._over = True
        self._work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._work

    def resume(self) -> None:
        """Follow again: the rollback did not happen."""
        self._over = False
        if self.watch is not None:
            self.watch.begin()
        self._work = asyncio.create_task(self._follow(), name="probation, resumed")

    async def _run(self) -> None:
        if self._kept:
            for one in self.participants.values():
                await self._attempt(f"on_stop of {one.old.label}", self._stop(one.old))
        for one in self.participants.values():
            await self._attempt(f"settling the state of {one.name}", one.state.settle())
        if self.watch is not None:
            await self._attempt("measuring what the old version holds", self.watch.measure())
            self.watch.begin()
        self._settled.set()
        await self._follow()

    async def _attempt(self, what: str, action: Awaitable[None]) -> None:
        try:
            await action
        except Exception as error:
            text = f"{what} failed: {type(error).__name__}: {error}"
            self._bus.publish(Warned(text=text))

    async def _follow(self) -> None:
        try:
            while self._kept and self._countdown.left_s > 0:
                await asyncio.sleep(_FOLLOW_EVERY_S)
                for one in self.participants.values():
                    if isinstance(one.transfer, WindowedTransfer):
                        await one.transfer.follow(one.new.lane.grace)
        except Exception as error:  # a write that the old version cannot take: no way back then
            text = f"the old state is no longer kept: {type(error).__name__}: {error}"
            self._bus.publish(Warned(text=text))
        await self._finish()

    async def _finish(self) -> None:
        if self._over:
            return
        self._over = True
        for transfer in self._large():
            await self._attempt("letting the old state go", transfer.forget())
        for one in self.participants.values():
            self._retire(one.old)
            # They hold steps, records and methods of the old code, which is to be freed.
            one.migration = one.transfer = one.invariants = None

    def _large(self) -> list[WindowedTransfer]:
        transfers = [one.transfer for one in self.participants.values()]
        return [one for one in transfers if isinstance(one, WindowedTransfer)]
