"""A state that a worker holds fast until it is written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from replank.journal.records import SnapshotRecord
from replank.state.keeper import StateKeeper
from replank.traffic.messages import Mark

if TYPE_CHECKING:
    from replank.isolation.remote import RemoteGeneration


@dataclass(frozen=True, slots=True)
class RemoteFrozen:
    """A state that a worker holds fast until it is written.

    Attributes:
        generation: Whose.
        mark: Of the inbox, of the same moment.
    """

    generation: RemoteGeneration
    mark: Mark

    async def write(self, keeper: StateKeeper, kind: str) -> None:
        """Have it on the disk, and make it known.

        Args:
            keeper: Makes it known.
            kind: Why it is written.

        Raises:
            SnapshotError: The state cannot be written.
            JournalError: It was written, but not made known.
        """
        generation = self.generation
        path, schema_version, digest, taken_at = await generation.request("state.write", kind)
        await keeper.record(
            SnapshotRecord(
                module=generation.definition.name,
                path=Path(path).name,
                digest=digest,
                schema_version=schema_version,
                taken_at=taken_at,
                kind=kind,
            )
        )
        generation.last_saved, generation.last_mark = (Path(path), taken_at), self.mark


__all__ = ["RemoteFrozen"]
