"""What the state manager needs of a generation, and what the coordinator needs of a transfer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from replank.definition import Definition
from replank.state.bad_policy import BadRecord
from replank.state.meter import Meter
from replank.state.names import Namespace
from replank.table import Table
from replank.traffic.drain import Drained


class Holder(Protocol):
    """What holds a module's live state: a generation."""

    definition: Definition

    @property
    def seal(self) -> Any:
        """What keeps calls that outlive it from writing; None while it serves alone."""

    @property
    def own(self) -> Namespace:
        """The names that are the generation's own."""

    def values(self) -> dict[str, Any]:
        """Return the state, field by field; carried fields too."""

    def assign(self, values: Mapping[str, Any]) -> None:
        """Set state fields."""


class Transfer(Protocol):
    """The way of one module's state from the old generation to the candidate.

    Each of the three steps has a part in the window and a part in the pause; the latter needs the
    proof that the module is quiet.
    """

    mode: str
    meter: Meter | None

    @property
    def records(self) -> int:
        """How many records travel."""

    @property
    def predicted_pause_s(self) -> float:
        """What the pause will take by what was measured, in seconds."""

    @property
    def moved(self) -> frozenset[str]:
        """The old generation's fields whose tables the candidate takes over as they are."""

    @property
    def followed(self) -> bool:
        """Whether the old state is kept in step after the commit."""

    def bad_records(self) -> list[BadRecord]:
        """Return the records that did not migrate, and were let through by the policy."""

    async def snapshot(self, drained: Drained | None) -> None:
        """Copy the state; with the proof of quiet, what was written last."""

    async def migrate(self, drained: Drained | None) -> None:
        """Upgrade the copy and check it against the new types."""

    async def restore(self, drained: Drained | None) -> None:
        """Give the candidate its state; with the proof of quiet, also what is carried."""

    def align(self) -> None:
        """Bring the whole copy to this moment; never gives the loop back."""

    async def approach(self) -> None:
        """Leave as little as possible for the pause."""

    def digests(self) -> tuple[str, str]:
        """Return the digests of the copied state and of the candidate's."""

    def abandon(self) -> None:
        """Drop the copy; the old state is as it was."""

    def committed(self) -> None:
        """Finish what had to wait for the commit record; calls wait still; must not fail."""

    async def settle(self) -> None:
        """Do, while the outcome serves, what is left over: nothing that calls wait for."""


class Without:
    """A generation without its large tables: in their place an empty one, which costs nothing.

    Args:
        holder: The generation.
        without: The fields of its large tables.
    """

    def __init__(self, holder: Holder, without: set[str]) -> None:
        self._holder = holder
        self._without = without
        self.definition = holder.definition
        self.own = holder.own

    @property
    def seal(self) -> Any:
        """What keeps calls that outlive the generation from writing."""
        return self._holder.seal

    def values(self) -> dict[str, Any]:
        """Return the state with empty tables."""
        return {
            name: Table() if name in self._without else value
            for name, value in self._holder.values().items()
        }

    def assign(self, values: Mapping[str, Any]) -> None:
        """Set everything but the tables."""
        kept = {name: value for name, value in values.items() if name not in self._without}
        self._holder.assign(kept)
