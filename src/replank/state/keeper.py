"""Keep each module's state on disk across a stop and a start."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from replank.errors import ReplankError, SchemaError, SnapshotError
from replank.journal.journal import Journal
from replank.journal.records import SnapshotRecord
from replank.migration.engine import find_path, steps_of
from replank.migration.steps import Step
from replank.state.holder import Holder
from replank.state.snapshot import Snapshot, read, restore, take, write
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


class StateKeeper:
    """Write and find durable snapshots.

    Args:
        folder: Where the snapshots lie.
        journal: Knows which there are.
        kept: How many to keep of each module.
    """

    def __init__(self, folder: Path, journal: Journal, *, kept: int = 3) -> None:
        self._folder = folder
        self._journal = journal
        self._kept = kept

    def freeze(self, module: str, holder: Holder, digest: str, mark: Mark) -> Snapshot:
        """Copy a module's state with its inbox's mark; nothing may be in flight in it.

        Args:
            module: Its name.
            holder: The generation that holds the state.
            digest: Digest of its version.
            mark: Its inbox's, taken in the same step.

        Raises:
            MigrationError: A value cannot be taken apart.
        """
        definition = holder.definition
        carried = set(definition.carried)
        values = {key: value for key, value in holder.values().items() if key not in carried}
        return take(
            module,
            values,
            definition.schema,
            label=definition.label,
            digest=digest,
            hints=definition.hints,
            own=holder.own,
            messages=mark.messages,
            inbox_position=mark.position,
        )

    async def write(self, snapshot: Snapshot, kind: str) -> None:
        """Put a snapshot on the disk and make it known, durable on return.

        Args:
            snapshot: From `freeze`.
            kind: Why: "stop", "commit", "interval", "inbox".

        Raises:
            SnapshotError: The state cannot be written.
            JournalError: It was written, but not made known.
        """
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise SnapshotError(
                f"the folder {self._folder} cannot be made",
                module=snapshot.module,
                found=f"{type(error).__name__}: {error}",
                expected="a folder with room that this process may write to",
                do="make room or mend the permissions; the last snapshot is untouched",
            ) from error
        path = self._folder / f"{snapshot.module}-{uuid4().hex[:12]}.snapshot"
        await in_thread(write, snapshot, path)
        await self._journal.record_snapshot(
            SnapshotRecord(
                module=snapshot.module,
                path=path.name,
                digest=snapshot.digest,
                schema_version=snapshot.schema.version,
                taken_at=snapshot.taken_at,
                kind=kind,
            )
        )
        await self._prune(snapshot.module)

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
        for record in self._journal.latest_snapshots(module):
            try:
                snapshot = await in_thread(read, self._folder / record.path)
            except SnapshotError as error:
                warnings.append(f"{error.what}; the snapshot before it is used")
                continue
            values = await _fitted(snapshot, holder, steps_of_version)
            return Kept(values, snapshot.messages, tuple(warnings), snapshot.inbox_position)
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


async def _fitted(
    snapshot: Snapshot, holder: Holder, steps_of_version: StepsOfVersion
) -> dict[str, Any]:
    """Bring a snapshot's tree to the schema of what serves, and build its values."""
    definition = holder.definition
    old, new, own = snapshot.schema, definition.schema, steps_of(definition)
    try:
        migration = find_path(old, new, own, module=snapshot.module)
    except SchemaError as error:
        try:
            back = await steps_of_version(snapshot.digest)
        except ReplankError:
            raise error from None
        migration = find_path(old, new, own, module=snapshot.module, reverse=back, going_back=True)
    tree = migration.upgrade(snapshot.tree)
    return restore(tree, definition.schema, hints=definition.hints, own=holder.own)
