"""Gates with small generations behind them, for the tests of the traffic room."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

from replank.code.entries import generic_entry
from replank.definition import read_call
from replank.traffic.gate import Gate
from replank.traffic.lane import Lane
from replank.traffic.streams import stream_entry


def make_lane(gate: Gate, generation: int, **methods: Callable[..., Any]) -> Lane:
    """Return a prepared lane whose calls are these functions."""
    lane = Lane(gate, generation)
    lane.methods = dict(methods)
    lane.contract = {
        name: read_call(name, method, gate.module, bound=False) for name, method in methods.items()
    }
    lane.entries = {
        name: stream_entry(lane, name)
        if inspect.isasyncgenfunction(method)
        else generic_entry(lane, name, method, is_async=inspect.iscoroutinefunction(method))
        for name, method in methods.items()
    }
    return lane


def open_gate(module: str = "ledger", *, waiting_max: int = 10_000, **methods: Any) -> Gate:
    """Return a gate that is open for a first generation with these calls."""
    gate = Gate(module, waiting_max=waiting_max)
    gate.first_open(make_lane(gate, 1, **methods))
    return gate


async def call(gate: Gate, name: str, *args: Any, **kwargs: Any) -> Any:
    """Call through the gate's current lane, as a handle does."""
    return await gate.lane.entries[name](*args, **kwargs)


def start(coroutine: Any) -> asyncio.Task[Any]:
    return asyncio.ensure_future(coroutine)


async def turns(count: int = 10) -> None:
    """Let everything run that can."""
    for _ in range(count):
        await asyncio.sleep(0)


class Step:
    """A method that tells when it was reached and goes on when it is let."""

    def __init__(self, answer: Any = None) -> None:
        self.answer = answer
        self.reached = asyncio.Event()
        self.go = asyncio.Event()
        self.runs = 0

    async def __call__(self, *_: Any) -> Any:
        self.runs += 1
        self.reached.set()
        await self.go.wait()
        return self.answer


def held(answer: Any = None) -> tuple[Step, Callable[..., Any]]:
    """Return a step and an async function that runs it."""
    step = Step(answer)

    async def method(*args: Any) -> Any:
        return await step(*args)

    return step, method
