"""What an isolated generation holds beside its state: its worker looks, the host judges."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from replank.errors import ModuleCrashed
from replank.verification.growth import Grown

if TYPE_CHECKING:
    from replank.isolation.remote import RemoteGeneration

_NOTHING: Final = ()


class RemoteHeld:
    """As `Held`, in the generation's worker; of one that has ended nothing is said.

    Args:
        generation: Whose worker is asked.
    """

    def __init__(self, generation: RemoteGeneration) -> None:
        self._generation = generation
        self._before: Mapping[str, int] = {}
        self._begun_in = generation.worker

    async def sizes(self) -> dict[str, int]:
        """Return how long each container is that can be reached, by its place."""
        if not self._generation.alive:
            return {}
        try:
            found: dict[str, int] = await self._generation.request("held.sizes")
        except ModuleCrashed:
            return {}
        return found

    async def begin(self, before: Mapping[str, int]) -> None:
        """Begin to watch."""
        self._before, self._begun_in = before, self._generation.worker
        await self._ask("held.begin", dict(before))

    async def look(self, calls: int) -> tuple[Grown, ...]:
        """Look once; a process that was started again is watched from its beginning."""
        if self._generation.worker is not self._begun_in:
            await self.begin(self._before)
        return tuple(await self._ask("held.look", calls) or _NOTHING)

    async def _ask(self, name: str, value: object) -> tuple[Grown, ...] | None:
        if not self._generation.alive:
            return None
        try:
            found: tuple[Grown, ...] | None = await self._generation.request(name, value)
        except ModuleCrashed:
            return None
        return found


__all__ = ["RemoteHeld"]
