"""When a module's state goes to the disk: at a stop, after each commit, at every interval.

A save has two parts. *Freezing* copies the state and the inbox's mark in one step, while nothing is
in flight; *writing* puts the copy on the disk while the module serves on. Two rules:

1. State and mark are of the same moment. Nothing may come between the two, and nothing may be in
   flight: half of a message in the state, and its position not, would have it handled one and a
   half times after a crash.
2. Saves never overlap. Who asks while one is being written gets the next one, together with all
   others who ask: a state asked for a hundred times is written twice at most.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Generic, Literal, Protocol, TypeVar

from replank.errors import HostStopped
from replank.traffic.messages import Mark

F = TypeVar("F")

Policy = Literal["stop", "commit", "interval"]


class Marked(Protocol):
    """What keeps step with the state: an inbox."""

    def mark(self) -> Mark:
        """Return what the snapshot must carry."""

    async def saved(self, position: int) -> None:
        """Note that a snapshot with a mark of this position is on the disk."""


class Persistence(Generic[F]):
    """Save one module's state, by its policy and whenever asked.

    Attributes:
        moment: Held while the state is frozen. A reload holds it from before its Drain until the
            gates are open again: two drains of one gate exclude each other.
        saves: How many snapshots have been written.

    Args:
        module: The module's name.
        inbox: The module's inbox.
        freeze: Copies the state of the generation that serves, with a mark: here at once, or by
            an awaitable when the state is in another process.
        write: Puts a copy on the disk, and makes it known; durable on return. Its second argument
            says why: "stop", "commit", "interval" or "inbox".
        quiet: Gives a context in which nothing is in flight in the module; raises when it cannot.
        policy: "stop", "commit" (and at a stop), or "interval" (and at a commit and a stop).
        interval_s: Seconds from the end of one save to the next, for "interval".
        on_failure: Called with why a save was wanted and what it raised; the next one is tried.
        approach: Makes ready for `freeze`, while calls go on.
    """

    def __init__(
        self,
        module: str,
        *,
        inbox: Marked,
        freeze: Callable[[Mark], F | Awaitable[F]],
        write: Callable[[F, str], Awaitable[None]],
        quiet: Callable[[], AbstractAsyncContextManager[object]],
        policy: Policy = "stop",
        interval_s: float = 60.0,
        on_failure: Callable[[str, BaseException], None],
        approach: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.module = module
        self.policy = policy
        self.interval_s = interval_s
        self.moment = asyncio.Lock()
        self.saves = 0
        self._inbox = inbox
        self._approach = approach
        self._freeze = freeze
        self._write = write
        self._quiet = quiet
        self._on_failure = on_failure
        self._reason = ""
        self._waiting: list[asyncio.Future[None]] = []
        self._asked = asyncio.Event()
        self._ending = False
        self._worker: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to save, by the policy and when asked."""
        assert self._worker is None, "persistence is started once"
        name = f"persistence of {self.module}"
        self._worker = asyncio.create_task(self._work(), name=name)

    def committed(self) -> None:
        """Note that a reload of the module has committed; its gates are open again, or soon."""
        if self.policy != "stop":
            self.request("commit")

    def request(self, reason: str) -> None:
        """Ask for a save and do not wait for it; nothing happens when it stops anyway.

        Args:
            reason: Why, for the history; the first one who asks is named.
        """
        self._reason = self._reason or reason
        self._asked.set()

    async def save(self, reason: str) -> None:
        """Save, and return when a copy taken after this call is on the disk.

        Args:
            reason: Why, for the history.

        Raises:
            Exception: What the freezing or writing raised.
            HostStopped: It stopped first; what is saved is what `finish` saves.
        """
        if self._ending or self._worker is None:
            raise self._stopped()
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(done)
        self.request(reason)
        await done

    async def finish(self) -> None:
        """End, and save once more: the module must be stopped, its inbox too.

        Raises:
            Exception: What the freezing or writing raised.
        """
        await self.close()
        async with self.moment:
            frozen, position = await self._copy()
        await self._keep(frozen, position, "stop")

    async def close(self) -> None:
        """End without another save; one that is being written is finished first."""
        self._ending = True
        self._asked.set()
        if self._worker is not None:
            await asyncio.wait((self._worker,))
        self._answer(self._take_waiting(), self._stopped())

    async def _work(self) -> None:
        while await self._wanted():
            self._asked.clear()
            reason, self._reason = self._reason or "interval", ""
            waiting = self._take_waiting()
            try:
                await self._save(reason)
            except asyncio.CancelledError:
                self._answer(waiting, self._stopped())
                raise
            except Exception as error:
                self._on_failure(reason, error)
                self._answer(waiting, error)
            else:
                self._answer(waiting, None)

    async def _wanted(self) -> bool:
        """Return when somebody has asked or the interval is over; False when it ends."""
        limit_s = self.interval_s if self.policy == "interval" else None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await self._asked.wait()
        return not self._ending

    async def _save(self, reason: str) -> None:
        if self._approach is not None:
            await self._approach()
        async with self.moment, self._quiet():
            frozen, position = await self._copy()
        await self._keep(frozen, position, reason)

    async def _copy(self) -> tuple[F, int]:
        """Take state and mark: of one moment, for nothing is in flight and nothing enters."""
        mark = self._inbox.mark()
        frozen = self._freeze(mark)
        return (await frozen if isinstance(frozen, Awaitable) else frozen), mark.position

    async def _keep(self, frozen: F, position: int, reason: str) -> None:
        """Write the copy; only when it is on the disk may the inbox forget what lies before it."""
        await self._write(frozen, reason)
        self.saves += 1
        await self._inbox.saved(position)

    def _take_waiting(self) -> list[asyncio.Future[None]]:
        waiting, self._waiting = self._waiting, []
        return waiting

    def _answer(self, waiting: list[asyncio.Future[None]], error: BaseException | None) -> None:
        for done in waiting:
            if done.done():
                continue
            if error is None:
                done.set_result(None)
            else:
                done.set_exception(error)

    def _stopped(self) -> HostStopped:
        return HostStopped("the state is not saved any more: it stops", module=self.module)


__all__ = ["Marked", "Persistence", "Policy"]
