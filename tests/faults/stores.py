"""The modules of the fault tests: one text, with a place for a fault in each piece of user code."""

from __future__ import annotations

import textwrap
from pathlib import Path

TEXT = """
import asyncio
import time
from typing import Any

from replank import Module, Uses, check, every, query, step, uses
from tests.faults import hooks

LABEL = "{label}"
FAULTY = True

def in_pause():
    return not __replank_lane__.gate.is_open

{import_}

def up(old):
    FAULT_IN_STEP
    new = dict(old)
    new["cents"] = new.pop("total")
    return new

def down(new):
    old = dict(new)
    old["total"] = old.pop("cents")
    return old

class Store(Module, version="{label}", schema={schema}):
    log: list[tuple[str, int]] = []
    {amount}: int = 0
    odd: list[Any] = []
    ticks: int = 0
    {uses}
    migrations = [step(1, 2, up, down)]

    def __init__(self):
        FAULT_IN_CONSTRUCTOR

    ON_START

    async def add(self, caller: str, number: int) -> str:
        self.log.append((caller, number))
        self.{amount} += 1
        return LABEL

    async def relay(self, caller: str, number: int) -> str:
        labels = {{LABEL, await self.add(caller, number)}}
        {relay}
        return "+".join(sorted(labels))

    async def hold(self, until) -> str:
        await until.wait()
        return LABEL

    async def spoil(self, thing) -> None:
        self.odd.append(thing)

    async def cure(self) -> None:
        self.odd.clear()

    @query
    async def read(self) -> dict:
        return {{"label": LABEL, "log": list(self.log), "amount": self.{amount}}}

    @check(when="rehearsal")
    async def rehearsed(self):
        FAULT_IN_REHEARSAL
        assert self.{amount} == len(self.log)

    @check(when="pause")
    async def paused(self):
        FAULT_IN_PAUSE
        assert self.{amount} == len(self.log)

    @every(0.005)
    async def tick(self):
        self.ticks += 1

    async def pump(self):
        await asyncio.Event().wait()
"""

ON_START = """
    async def on_start(self):
        hooks.note("start", self)
        FAULT_IN_ON_START
        self.spawn(self.pump())

    async def on_stop(self):
        hooks.note("stop", self)
"""

PLACES = ("import", "constructor", "step", "rehearsal", "pause", "on_start")

FAULTS = {
    "raises": 'raise ValueError("injected")',
    "exits": "raise SystemExit(3)",
    "interrupts": "raise KeyboardInterrupt",
    "cancels": "raise asyncio.CancelledError",
    "waits": "await asyncio.Event().wait()",
    "loops": "while FAULTY: pass",
    "blocks": "time.sleep(60)",
}
"""What user code may do wrong, as a statement; `waits` only where it may await."""


def write(
    path: Path,
    label: str,
    *,
    schema: int = 1,
    uses: str = "",
    place: str = "",
    fault: str = "",
    only_in_pause: bool | None = None,
    on_start: bool = True,
) -> Path:
    """Write one version of a store.

    Args:
        path: The source file.
        label: Its version label.
        schema: 1 keeps its amount in `total`, 2 in `cents`.
        uses: The store that `relay` calls in turn; "" for none.
        place: Where the fault is, one of PLACES; "" for nowhere.
        fault: Which, one of FAULTS.
        only_in_pause: Whether the fault waits for the pause (True) or happens only in the window
            (False); None for both.
        on_start: Whether it has `on_start` at all.
    """
    statement = FAULTS.get(fault, "pass")
    if only_in_pause is not None:
        condition = "in_pause()" if only_in_pause else "not in_pause()"
        statement = (
            f"if {condition}: {statement}"
            if ":" not in statement
            else (f"while FAULTY and {condition}: pass")
        )
    text = TEXT.format(
        label=label,
        schema=schema,
        amount="total" if schema == 1 else "cents",
        uses=f'used: Uses = uses("{uses}")' if uses else "",
        relay="labels.add(await self.used.relay(caller, number))" if uses else "",
        import_=statement if place == "import" else "",
    )
    text = text.replace("    ON_START\n", ON_START if on_start else "")
    for name in PLACES[1:]:
        mark = f"FAULT_IN_{name.upper()}"
        text = text.replace(mark, statement if name == place else "pass")
    path.write_text(textwrap.dedent(text).lstrip())
    return path
