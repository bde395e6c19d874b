"""What a generation holds beside its state, for the look at leaks on probation."""

from __future__ import annotations

import asyncio
import sys
from functools import partial
from typing import Any

from replank.code.caches import is_below
from replank.code.generation import Generation
from replank.coordinator.slot import Slot
from replank.coordinator.transaction import Transaction
from replank.verification.growth import Growth, Space, read_sizes


class Growing:
    """Watches the modules of one transaction, from its commit on.

    Args:
        tx: The transaction.
        budget_bytes: What one thing may grow to; 0 for any size.

    Attributes:
        lines: What grows with the calls, one line each, as it was at the last look.
    """

    def __init__(self, tx: Transaction, budget_bytes: int) -> None:
        self.lines: tuple[str, ...] = ()
        self._tx = tx
        self._budget_bytes = budget_bytes
        self._growths: dict[str, Growth] = {}

    async def begin(self) -> None:
        """Read what the old generations hold, while they are in memory; in slices."""
        for one in self._tx.each():
            before: dict[str, int] = {}
            spaces, declared = _spaces(one.slot, one.old), _declared(one.old)
            for _ in read_sizes(spaces, declared, before):
                await asyncio.sleep(0)
            self._growths[one.name] = Growth(
                partial(_spaces, one.slot, one.new), partial(_declared, one.new), before
            )

    async def look(self) -> str | None:
        """Look once, in slices; return what has grown beyond the budget, with numbers."""
        lines: list[str] = []
        worst = None
        for one in self._tx.each():
            growth = self._growths[one.name]
            for _ in growth.look(one.new.lane.calls):
                await asyncio.sleep(0)
            for found in growth.grown:
                lines.append(f"{one.name}: {found}")
                if worst is None and 0 < self._budget_bytes < found.size_bytes:
                    worst = f"{lines[-1]}; the budget is {self._budget_bytes / 1e6:.2g} MB"
        self.lines = tuple(lines)
        return worst


def _declared(generation: Generation) -> list[Any]:
    return list(generation.values().values()) if generation.target is not None else []


def _spaces(slot: Slot, generation: Generation) -> list[Space]:
    """Return the names in which a generation can keep something."""
    if generation.target is None:  # it was unloaded
        return []
    root = generation.code.private_name
    modules = [one for name, one in sorted(sys.modules.items()) if is_below(name, root)]
    found: list[Space] = [
        (f"global {'.'.join((*one.__name__.split('.')[1:], '{}'))}", vars(one)) for one in modules
    ]
    if generation.definition.owner is not None:
        declared = generation.definition.hints
        own = {name: one for name, one in vars(generation.target).items() if name not in declared}
        found.append(("self.{}", own))
    return [*found, ("{}", {"its tasks": slot.tasks.all_running})]


__all__ = ["Growing"]
