"""Keep each module's state on disk across a stop and a start."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from replank.errors import ReplankError, SchemaError, SnapshotError
from replank.journal.journal import Journal
from replank.journal.records import SnapshotRecord
from replank.migration.engine import Migration, find_path, steps_of
from replank.migration.steps import Step
from replank.state.holder import Holder
from replank.state.loading import load, read_head
from replank.state.snapshot import Snapshot
from replank.state.writing import Copier, Writing
from replank.threads import in_thread
from replank.traffic.messages import Mark


@dataclass(frozen=True, slots=True)
class Kept:
    """What was found on disk for a module."""

    values: dict[str, Any] = field(default_factory=dict)
    messages: tuple[Any, ...] = ()
    warnings: tuple[str, ...] = ()
    inbox_position: int = 0


StepsOfVersion = Callable[[str], Awaitable[tuple[Step, ...]]]
Frozen = Snapshot | Writing
"""A state of one moment: copied, or being written by a child that is a copy of that moment."""


class StateKeeper:
    """Write and find durable snapshots.

    Args:
        folder: Where the snapshots lie.
        journal: Knows which there are.
        kept: How many to keep of each module.
        limit_s: Seconds that writing a large state may take.
    """

    def __init__(
        self, folder: Path, journal: Journal, *, kept: int = 3, limit_s: float = 600.0
    ) -> None:
        self._folder = folder
        self._journal = journal
        self._kept = kept
        self._limit_s = limit_s
        self._copiers: dict[str, Copier] = {}

    async def approach(self, module: str, holder: Holder) -> None:
        """Make ready for `freeze`, while calls go on.

        Args:
            module: Its name.
            holder: The generation that holds the state.
        """
        await self._copier(module).approach(holder)

    def freeze(self, module: str, holder: Holder, digest: str, mark: Mark) -> Frozen:
        """Hold fast a module's state with its inbox's mark; nothing may be in flight in it.

        A small state is copied; a large one is left to a forked child, which takes milliseconds
        whatever its size.

        Args:
            module: Its name.
            holder: The generation that holds the state.
            digest: Digest of its version.
            mark: Its inbox's, taken in the same step.

        Raises:
            MigrationError: A value cannot be taken apart.
        """
        return self._copier(module).freeze(holder, digest, mark)

    async def write(self, frozen: Frozen, kind: str) -> None:
        """Put a snapshot on the disk and make it known, durable on return.

        Args:
            frozen: From `freeze`.
            kind: Why: "stop", "commit", "interval", "inbox".

        Raises:
            SnapshotError: The state cannot be written.
            JournalError: It was written, but not made known.
            ChildDied: The child that wrote it was killed; the next save copies in this process.
        """
        head, path = await self._copier(_module_of(frozen)).put(frozen, kind, self._limit_s)
        await self.record(
            SnapshotRecord(
                module=head.module,
                path=path.name,
                digest=head.digest,
                schema_version=head.schema.version,
                taken_at=head.taken_at,
                kind=kind,
            )
        )

    async def record(self, written: SnapshotRecord) -> None:
        """Make known what lies on the disk, and forget what is too old.

        Args:
            written: Where it lies, and what it is.

        Raises:
            JournalError: It is not made known.
        """
        await self._journal.record_snapshot(written)
        await self._prune(written.module)

    def _copier(self, module: str) -> Copier:
        return self._copiers.setdefault(module, Copier(module, self._folder))

    def found(self, module: str) -> Iterator[Path]:
        """Yield where the snapshots of a module lie, newest first.

        Args:
            module: Its name.
        """
        for record in self._journal.latest_snapshots(module):
            yield self._folder / record.path

    async def load(self, module: str, holder: Holder, steps_of_version: StepsOfVersion) -> Kept:
        """Find a module's last sound snapshot and bring it to the schema of what serves.

        Args:
            module: Its name.
            holder: The generation that will hold the state.
            steps_of_version: Finds the steps of a stored version by its digest: after a rollback
                that no stop has followed, the snapshot may be a newer version's, and only that
                one knows the way down.

        Raises:
            SchemaError: The snapshot's shape is another one and there is no path.
            MigrationError: A step failed.
        """
        warnings: list[str] = []
        definition = holder.definition
        for record in self._journal.latest_snapshots(module):
            path = self._folder / record.path
            try:
                head = await in_thread(read_head, path)
                way = await _way(head, holder, steps_of_version)
                schema, hints = definition.schema, definition.hints
                head, values = await load(path, way, schema, hints, holder.own)
            except SnapshotError as error:
                warnings.append(f"{error.what}; the snapshot before it is used")
                continue
            return Kept(values, head.messages, tuple(warnings), head.inbox_position)
        return Kept(warnings=tuple(warnings))

    def sweep(self) -> None:
        """Remove what a crash has left half written or unknown; blocks; for a start only."""
        known = {record.path for record in self._journal.all_snapshots()}
        for path in [*self._folder.glob("*.snapshot"), *self._folder.glob(".*.tmp")]:
            if path.name not in known:
                with contextlib.suppress(OSError):
                    path.unlink()

    async def _prune(self, module: str) -> None:
        for record in self._journal.latest_snapshots(module)[self._kept :]:
            await self._journal.forget_snapshot(record.path)
            with contextlib.suppress(OSError):
                (self._folder / record.path).unlink()


def _module_of(frozen: Frozen) -> str:
    return frozen.module if isinstance(frozen, Snapshot) else frozen.head.module


async def _way(head: Snapshot, holder: Holder, steps_of_version: StepsOfVersion) -> Migration:
    """Find the way from a snapshot's schema to that of what serves."""
    definition = holder.definition
    old, new, own = head.schema, definition.schema, steps_of(definition)
    try:
        return find_path(old, new, own, module=head.module)
    except SchemaError as error:
        try:
            back = await steps_of_version(head.digest)
        except ReplankError:
            raise error from None
        return find_path(old, new, own, module=head.module, reverse=back, going_back=True)
