"""The ticket of a request for a reload: the answer to come."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from typing import Any

from replank.errors import SelfReload
from replank.report import ReloadReport
from replank.traffic.calls import live_chain


class Ticket(Awaitable[ReloadReport]):
    """The answer to come: await it for the report.

    A module may ask for its own reload from inside a call, and gets the ticket at once; waiting
    for it there would wait for ever, and is refused at once.

    Args:
        modules: The modules that will be reloaded.

    Attributes:
        modules: The same; more than were asked for when other requests have joined.
    """

    def __init__(self, modules: frozenset[str]) -> None:
        loop = asyncio.get_running_loop()
        self.modules = modules
        self._answer: asyncio.Future[ReloadReport] = loop.create_future()
        self._widened: asyncio.Future[None] = loop.create_future()
        self._followers: list[Ticket] = []
        self._answer.add_done_callback(_retrieve)

    @property
    def done(self) -> bool:
        """Whether the reload has ended."""
        return self._answer.done()

    def __await__(self) -> Generator[Any, None, ReloadReport]:
        """Wait for the report.

        Raises:
            SelfReload: The awaiting code runs inside a call of a module that is to be reloaded.
        """
        return self._wait().__await__()

    def widen(self, modules: frozenset[str]) -> None:
        """Note that the reload will be one of more modules than were asked for.

        Args:
            modules: All of them; whoever waits inside one of them is told that it waits in vain.
        """
        self.modules |= modules
        widened, self._widened = self._widened, asyncio.get_running_loop().create_future()
        widened.set_result(None)
        for one in self._followers:
            one.widen(modules)

    def lead(self, follower: Ticket) -> None:
        """Have another ticket know what this one's reload becomes.

        Args:
            follower: Of a request that this one's reload answers, too.
        """
        self._followers.append(follower)
        follower.widen(self.modules)

    def answer(self, report: ReloadReport) -> None:
        """Give the report to whoever waits."""
        if not self._answer.done():
            self._answer.set_result(report)

    def fail(self, error: BaseException) -> None:
        """Tell whoever waits that there will be no report."""
        if not self._answer.done():
            self._answer.set_exception(error)

    def on_answer(self, told: Callable[[asyncio.Future[ReloadReport]], None]) -> None:
        """Have a function called with the answer, once it is there.

        Args:
            told: Must not block.
        """
        self._answer.add_done_callback(told)

    async def _wait(self) -> ReloadReport:
        while not self._answer.done():
            self._refuse_self()
            # A caller that gives up must not cancel the reload, nor the answer that others await.
            await asyncio.wait((self._answer, self._widened), return_when=asyncio.FIRST_COMPLETED)
        return self._answer.result()

    def _refuse_self(self) -> None:
        chain = live_chain()
        if chain is None:
            return
        inside = sorted({lane.gate.module for lane in chain.lanes} & self.modules)
        if inside:
            raise SelfReload(
                "a call cannot wait for the reload of a module it is running in",
                module=inside[0],
                found=f"await of the ticket inside {inside[0]}.{chain.call}",
                expected="the call to end first: Drain waits for it",
                do="return from the call and look at the ticket later, or in another task",
            )


def _retrieve(answer: asyncio.Future[ReloadReport]) -> None:
    """Mark an error as seen: a ticket may be thrown away."""
    if not answer.cancelled():
        answer.exception()


__all__ = ["Ticket"]
