"""Messages: one-way, ordered, queued items of one module, handled one after the other.

The queue belongs to the module, not to a generation: a reload carries it over by leaving it alone,
so a backlog never lengthens a drain. While the gate is closed the worker waits at it with the
message still in the queue.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec

from replank.definition import Call
from replank.errors import HostStopped, UnknownCall
from replank.traffic.gate import Gate


class Message(NamedTuple):
    """One queued call whose answer nobody waits for."""

    call: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class Inbox:
    """The queue of one module and the worker that empties it in order.

    Args:
        gate: The module's gate.
        messages_max: How many messages may be queued; a sender waits while it is full.
        on_failure: Called with a message and what its handling raised; the queue goes on.
    """

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
        self._on_failure = on_failure
        self._queue: deque[Message] = deque()
        self._busy = False
        self._stopped = False
        self._ending = False
        self._filled = asyncio.Event()
        self._room = asyncio.Condition()
        self._worker: asyncio.Task[None] | None = None

    @property
    def queued(self) -> int:
        """How many messages wait to be handled, the one being handled included."""
        return len(self._queue) + self._busy

    def start(self) -> None:
        """Start handling; messages put before are handled first."""
        self._worker = asyncio.create_task(self._work(), name=f"inbox of {self.gate.module}")

    async def put(self, message: Message) -> None:
        """Queue a message; waits while the queue is full.

        Args:
            message: What to handle; its call must exist in the version that serves now.

        Raises:
            UnknownCall: The module has no such call.
            HostStopped: The host takes no more messages.
        """
        if message.call not in self.gate.lane.methods:
            raise UnknownCall(
                f"there is no call {message.call!r} to send to",
                module=self.gate.module,
                found=message.call,
                expected=", ".join(sorted(self.gate.lane.methods)),
            )
        if len(self._queue) >= self.messages_max:
            async with self._room:
                await self._room.wait_for(
                    lambda: self._stopped or len(self._queue) < self.messages_max
                )
        if self._stopped:
            raise HostStopped("the host takes no more messages", module=self.gate.module)
        self.accepted += 1
        self._queue.append(message)
        self._filled.set()

    def put_back(self, messages: list[Message]) -> None:
        """Queue messages that an earlier run of the host had accepted but not handled."""
        self._queue.extend(messages)
        self.accepted += len(messages)
        if messages:
            self._filled.set()

    async def settle(self, deadline_s: float) -> None:
        """Refuse new messages and wait until the queued ones are handled, or the deadline.

        Args:
            deadline_s: How long to wait, in seconds.
        """
        self._stopped = True
        async with self._room:
            self._room.notify_all()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(deadline_s), self._room:
                await self._room.wait_for(lambda: not self._queue and not self._busy)

    async def stop(self) -> list[Message]:
        """Stop the worker; returns what was accepted and not handled."""
        self._stopped = self._ending = True
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.gather(self._worker, return_exceptions=True)
        left = list(self._queue)
        self._queue.clear()
        return left

    async def _work(self) -> None:
        while True:
            while not self._queue:
                self._filled.clear()
                await self._filled.wait()
            if not self.gate.is_open:
                await self.gate.opened()
            message = self._queue.popleft()
            self._busy = True
            try:
                await self._handle(message)
            finally:
                self._busy = False
            if len(self._queue) + 1 >= self.messages_max or self._stopped:
                async with self._room:
                    self._room.notify_all()

    async def _handle(self, message: Message) -> None:
        try:
            entry = self.gate.lane.entries[message.call]
            await entry(*message.args, **message.kwargs)
            self.handled += 1
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if self._ending or task is None:
                raise
            task.uncancel()  # the drain policy cancelled this message, not the worker
            self._fail(message, error)
        except Exception as error:
            self._fail(message, error)

    def _fail(self, message: Message, error: BaseException) -> None:
        self.failed += 1
        self._on_failure(message, error)


def to_plain(message: Message) -> dict[str, Any]:
    """Return a message as plain values, for the disk.

    Args:
        message: A message whose arguments have a schema of msgspec's.
    """
    plain: dict[str, Any] = msgspec.to_builtins(
        {"call": message.call, "args": list(message.args), "kwargs": message.kwargs},
        builtin_types=(bytes,),
    )
    return plain


def from_plain(plain: Mapping[str, Any], calls: Mapping[str, Call]) -> Message:
    """Read a message back, its arguments typed by the call's annotations.

    Args:
        plain: What `to_plain` returned.
        calls: The calls of the version that will handle it.
    """
    name, args, kwargs = plain["call"], list(plain["args"]), dict(plain["kwargs"])
    call = calls.get(name)
    if call is not None:
        parameters = list(call.signature.parameters)
        hinted = zip(parameters, args, strict=False)
        args = [_typed(call, key, value) for key, value in hinted] + args[len(parameters) :]
        kwargs = {key: _typed(call, key, value) for key, value in kwargs.items()}
    return Message(name, tuple(args), kwargs)


def _typed(call: Call, key: str, value: Any) -> Any:
    if key not in call.hints:
        return value
    try:
        return msgspec.convert(value, call.hints[key], strict=False)
    except (msgspec.ValidationError, TypeError):
        return value  # its handling will say what is wrong with it
