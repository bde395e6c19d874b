"""Messages: one-way, ordered, queued items of one module, handled one after the other.

The queue belongs to the module, not to a generation: a reload carries it over by leaving it alone,
so a backlog never lengthens a drain. While the gate is closed the worker waits at it with the
message still in the queue.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from replank.errors import HostStopped, ModuleCrashed, UnknownCall
from replank.traffic.calls import ends_only_the_call
from replank.traffic.gate import Gate
from replank.traffic.message import Message, from_plain, to_plain

_STOP_GRACE_S = 1.0
_TURN_S = 0.001


class _Sending:
    """One sender that waits for room, in its turn; compared by identity."""

    def __init__(self, message: Message) -> None:
        self.message = message
        self.accepted: asyncio.Future[None] = asyncio.get_running_loop().create_future()


@dataclass(frozen=True, slots=True)
class Mark:
    """What of an inbox belongs into one snapshot together with the module's state."""

    position: int
    """The last handled position of a durable inbox; carried along by one that is not."""
    messages: tuple[dict[str, Any], ...] = ()
    """Accepted messages that were not handled and lie nowhere else, as plain values."""


@dataclass(frozen=True, slots=True)
class InboxStatistics:
    """What is true of an inbox now; accepted = handled + failed + queued."""

    accepted: int
    handled: int
    failed: int
    queued: int
    position: int


class Inbox:
    """The queue of one module and the worker that empties it in order.

    Attributes:
        handles_again: Whether a message is handled again when the module's process ended under it.

    Args:
        gate: The module's gate.
        messages_max: How many messages may be queued; a sender waits while it is full.
        on_failure: Called with a message and what its handling raised; the queue goes on.
    """

    handles_again = False

    def __init__(
        self,
        gate: Gate,
        *,
        messages_max: int,
        on_failure: Callable[[Message, BaseException], None],
    ) -> None:
        self.gate = gate
        self.messages_max = messages_max
        self.accepted = 0
        self.handled = 0
        self.failed = 0
        self.position = 0
        """Of the last handled durable message; a plain inbox only hands it on to the next start."""
        self._on_failure = on_failure
        self._queue: deque[Message] = deque()
        self._left: list[Message] = []
        self._senders: deque[_Sending] = deque()
        self._busy = False
        self._stopped = False
        self._ending = False
        self._filled = asyncio.Event()
        self._idle = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None

    @property
    def queued(self) -> int:
        """How many messages wait to be handled, the one being handled included."""
        return len(self._queue) + self._busy

    async def open(self) -> None:
        """Find what an earlier run has left, so that `queued` is true; once, before `start`."""

    def start(self) -> None:
        """Start handling; messages put before are handled first."""
        self._worker = asyncio.create_task(self._work(), name=f"inbox of {self.gate.module}")

    async def put(self, message: Message) -> None:
        """Queue a message; waits while the queue is full, behind those that waited before.

        A sender that gives up while it waits is taken out; its message is never handled.

        Args:
            message: What to handle; its call must exist in the version that serves now.

        Raises:
            UnknownCall: The module has no such call.
            HostStopped: The host takes no more messages.
        """
        if self._stopped:
            raise self._refusal()
        self._refuse_unknown(message)
        if not self._senders and len(self._queue) < self.messages_max:
            self._accept(message)
            return
        sending = _Sending(message)
        self._senders.append(sending)
        try:
            await sending.accepted
        except asyncio.CancelledError:
            self._give_up(sending)
            raise

    def put_back(self, messages: list[Message]) -> None:
        """Queue messages that an earlier run of the host had accepted but not handled."""
        self._queue.extend(messages)
        self.accepted += len(messages)
        if messages:
            self._filled.set()

    def rewind(self, position: int, messages: Sequence[dict[str, Any]]) -> None:
        """Go back with the state to its last snapshot; what is queued in memory stays queued.

        Args:
            position: In the snapshot's mark.
            messages: In the snapshot's mark.
        """

    async def settle(self, deadline_s: float) -> None:
        """Refuse new messages and wait until the queued ones are handled, or the deadline.

        Args:
            deadline_s: How long to wait, in seconds.
        """
        self._refuse_all()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(deadline_s):
                while self.queued and self.gate.refusal is None:  # else nobody handles them
                    self._idle.clear()
                    await self._idle.wait()

    async def stop(self) -> list[Message]:
        """Stop the worker; returns what was accepted and not handled."""
        self._refuse_all()
        self._ending = True
        if self._worker is not None:
            self._worker.cancel()
            # A handler may swallow the cancellation; the worker then ends after its message.
            await asyncio.wait((self._worker,), timeout=_STOP_GRACE_S)
        self._left += self._queue
        self._queue.clear()
        return list(self._left)

    def mark(self) -> Mark:
        """Return what a snapshot taken now must carry, so that state and inbox stay in step.

        While it runs, a plain inbox has nothing to keep: its messages are in memory only. After
        `stop` it has what was left. What cannot be kept is told as a failure.
        """
        kept = []
        for message in self._left:
            try:
                kept.append(to_plain(message))
            except TypeError as error:
                self._fail(message, error)
        return Mark(self.position, tuple(kept))

    async def saved(self, position: int) -> None:
        """Note that a snapshot with a mark of this position is on the disk.

        Args:
            position: The mark's.
        """

    def statistics(self) -> InboxStatistics:
        """Return what is true now."""
        return InboxStatistics(self.accepted, self.handled, self.failed, self.queued, self.position)

    async def _work(self) -> None:
        turn_began = perf_counter()
        while not self._ending:
            await self._arrival()
            try:
                await self.gate.opened()
            except HostStopped:
                return  # what is queued is kept for the next start
            await self._handle_next()
            if perf_counter() - turn_began > _TURN_S:
                # Handlers that never wait would keep a backlog's length to themselves.
                await asyncio.sleep(0)
                turn_began = perf_counter()

    async def _arrival(self) -> None:
        """Return when there is a message to handle."""
        while not self._queue:
            self._filled.clear()
            await self._filled.wait()

    async def _handle_next(self) -> None:
        """Handle one message; the gate is open, and stays so until the message has entered."""
        if not self._queue:
            return  # its sender gave up while the worker waited at the gate
        message = self._queue.popleft()
        self._busy = True
        self._make_room()
        try:
            await self._handle(message)
        finally:
            self._busy = False
            if not self._queue:
                self._idle.set()

    async def _handle(self, message: Message) -> None:
        try:
            await self.gate.entry(message.call)(*message.args, **message.kwargs)
            self.handled += 1
        except asyncio.CancelledError as error:
            self._fail(message, error)
            if not ends_only_the_call(error):
                raise
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except ModuleCrashed as error:
            if self.handles_again:
                raise
            self._fail(message, error)
        except BaseException as error:  # a handler's sys.exit() must not end the worker
            self._fail(message, error)

    def _accept(self, message: Message) -> None:
        self.accepted += 1
        self._queue.append(message)
        self._filled.set()

    def _make_room(self) -> None:
        """Accept from the senders that wait, in order, as many as there is room for."""
        while self._senders and len(self._queue) < self.messages_max:
            sending = self._senders.popleft()
            if not sending.accepted.done():
                self._accept(sending.message)
                sending.accepted.set_result(None)

    def _give_up(self, sending: _Sending) -> None:
        """Take out the message of a sender that no longer waits."""
        if sending in self._senders:
            self._senders.remove(sending)
            return
        for index, message in enumerate(self._queue):
            if message is sending.message:  # accepted, but the sender never came to know
                del self._queue[index]
                self.accepted -= 1
                self._make_room()
                return

    def _refuse_all(self) -> None:
        """Take no more messages; those whose senders wait are not taken either."""
        self._stopped = True
        while self._senders:
            sending = self._senders.popleft()
            if not sending.accepted.done():
                sending.accepted.set_exception(self._refusal())

    def _refusal(self) -> HostStopped:
        return HostStopped("the host takes no more messages", module=self.gate.module)

    def _fail(self, message: Message, error: BaseException) -> None:
        self.failed += 1
        self._on_failure(message, error)

    def _refuse_unknown(self, message: Message) -> None:
        if message.call not in self.gate.lane.methods:
            raise UnknownCall(
                f"there is no call {message.call!r} to send to",
                module=self.gate.module,
                found=message.call,
                expected=", ".join(sorted(self.gate.lane.methods)),
            )


__all__ = ["Inbox", "InboxStatistics", "Mark", "Message", "from_plain", "to_plain"]
