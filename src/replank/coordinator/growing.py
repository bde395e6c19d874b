"""The look at leaks on probation: what grows with the calls, in each module of a transaction."""

from __future__ import annotations

from typing import Protocol

from replank.code.generation import Generation
from replank.code.held import Held
from replank.coordinator.slot import Slot
from replank.coordinator.transaction import Transaction
from replank.isolation.remote import RemoteGeneration
from replank.isolation.remote_held import RemoteHeld
from replank.verification.growth import Grown


class _Watched(Protocol):
    async def look(self, calls: int) -> tuple[Grown, ...]:
        """Look once; return what has grown with the calls so far."""


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
        self._watched: dict[str, _Watched] = {}

    async def begin(self) -> None:
        """Read what the old generations hold, while they are in memory; in slices."""
        for one in self._tx.each():
            before = await _held_by(one.old, one.slot).sizes()
            watched = _held_by(one.new, one.slot)
            await watched.begin(before)
            self._watched[one.name] = watched

    async def look(self) -> str | None:
        """Look once, in slices; return what has grown beyond the budget, with numbers."""
        lines: list[str] = []
        worst = None
        for one in self._tx.each():
            for found in await self._watched[one.name].look(one.new.lane.calls):
                lines.append(f"{one.name}: {found}")
                if worst is None and 0 < self._budget_bytes < found.size_bytes:
                    worst = f"{lines[-1]}; the budget is {self._budget_bytes / 1e6:.2g} MB"
        self.lines = tuple(lines)
        return worst


def _held_by(generation: Generation, slot: Slot) -> Held | RemoteHeld:
    if isinstance(generation, RemoteGeneration):
        return RemoteHeld(generation)
    return Held(generation, lambda: slot.tasks.all_running)


__all__ = ["Growing"]
