"""A forecast looks at a state while its module serves."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from replank.record import Record
from replank.state.forecast import forecast
from replank.table import Table


class Item(Record):
    n: int = 0


class Holder:
    """A generation with some fields."""

    own = None

    def __init__(self, **fields: Any) -> None:
        self.fields = fields
        hints = dict.fromkeys(fields, Table[str, Item])
        self.definition = SimpleNamespace(hints=hints, carried=())

    def values(self) -> dict[str, Any]:
        return dict(self.fields)


async def test_calls_get_their_turn_after_each_field() -> None:
    fields = {f"table_{n}": Table((str(i), Item(i)) for i in range(300)) for n in range(4)}
    turns = 0

    async def call() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    calls = asyncio.create_task(call())
    seen = await forecast(Holder(**fields), (), {})  # type: ignore[arg-type]
    calls.cancel()
    assert turns >= len(fields)
    assert seen.state_bytes > 4 * 300 * 50
    assert seen.cost.pause_s > 0
