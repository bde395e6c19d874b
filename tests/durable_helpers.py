"""A module small enough for the tests of durable messages: what it handled is its state."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable
from typing import Any, get_type_hints

from replank.code.entries import generic_entry
from replank.definition import Call, CallKind
from replank.traffic.drain import Drain
from replank.traffic.durable import DurableInbox
from replank.traffic.gate import Gate
from replank.traffic.lane import Lane
from replank.traffic.messages import Message


def call_of(function: Callable[..., Any]) -> Call:
    """Return what a definition knows of a call."""
    hints = get_type_hints(function)
    signature = inspect.signature(function)
    return Call(function.__name__, CallKind.ASYNC, False, signature, hints, function)


def calls_of(*functions: Callable[..., Any]) -> dict[str, Call]:
    return {one.__name__: call_of(one) for one in functions}


def lane_of(gate: Gate, number: int, *functions: Callable[..., Any]) -> Lane:
    """Return a lane whose calls are these async functions."""
    lane = Lane(gate, number)
    lane.methods = {one.__name__: one for one in functions}
    lane.entries = {
        name: generic_entry(lane, name, one, is_async=True) for name, one in lane.methods.items()
    }
    return lane


def message(call: str, *args: Any, **kwargs: Any) -> Message:
    return Message(call, args, kwargs)


class Module:
    """One run of a module: its gate, its inbox, and a state that knows what it handled.

    Args:
        port: Where the messages lie.
        saved: State and position to start from.
        functions: Its calls; by default `note`, which writes down its argument.
    """

    def __init__(self, port: Any, saved: tuple[list[Any], int] = ([], 0), *functions, **options):
        self.state: list[Any] = list(saved[0])
        self.failures: list[tuple[Message, BaseException]] = []
        self.gate = Gate("ledger")
        self.calls: dict[str, Call] = {}
        options = {"messages_max": 1_000_000, "retry_s": 0.001, **options}
        self.inbox = DurableInbox(
            self.gate,
            port,
            calls=lambda: self.calls,
            on_failure=lambda one, error: self.failures.append((one, error)),
            **options,
        )
        self.inbox.position = saved[1]
        self.gate.first_open(self.load(1, *(functions or (self.note,))))

    async def note(self, value: Any) -> None:
        self.state.append(value)

    def load(self, number: int, *functions: Callable[..., Any]) -> Lane:
        """Make a generation's lane and serve its calls; returns the lane."""
        self.calls = calls_of(*functions)
        return lane_of(self.gate, number, *functions)

    async def send(self, *values: Any) -> None:
        for value in values:
            await self.inbox.put(message("note", value))

    async def all_handled(self) -> None:
        """Return when nothing is queued; by a drain's own means, so that nothing is in flight."""
        await self.inbox._opened()
        while self.inbox.queued:
            self.inbox._freed.clear()
            await self.inbox._freed.wait()

    @contextlib.asynccontextmanager
    async def quiet(self):
        """Give a context in which nothing is in flight, as the host does."""
        drain = Drain([self.gate])
        drain.close()
        try:
            yield await drain.wait(1.0, {})
        finally:
            drain.reopen()

    async def save(self) -> tuple[list[Any], int]:
        """Take state and position together."""
        async with self.quiet():
            return list(self.state), self.inbox.mark().position
