"""Records that did not migrate, kept on the disk until somebody takes them back or discards them.

One file for each module and reload, in the format of snapshots: checksums, and under its name only
when all of it is on the disk. It holds the old values without their classes, and their schema.
"""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import msgspec

from replank.errors import SnapshotError
from replank.plain import show
from replank.shapes import Schema
from replank.state.bad_policy import BadRecord
from replank.state.snapshot import Snapshot, read, write

FOLDER = "quarantine"
_SUFFIX = ".quarantine"


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """What one reload has left behind."""

    name: str
    """Of its file, without the ending: the module and the reload."""
    module: str
    label: str
    """Of the version whose records they are."""
    schema: Schema
    taken_at: str
    records: tuple[BadRecord, ...]


class Quarantined(msgspec.Struct, frozen=True, kw_only=True):
    """One kept record, for people."""

    batch: str
    table: str
    key: str
    value: str
    schema: int
    step: str
    field: str
    reason: str
    taken_at: str
    filled: tuple[str, ...] = ()
    """Fields that got their defaults: the record serves, and this is what it was."""


class Quarantine:
    """The kept records of all modules; every method blocks.

    Args:
        folder: Where the files lie; made when the first one is written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(
        self, module: str, tx_id: str, label: str, schema: Schema, records: Iterable[BadRecord]
    ) -> str:
        """Write what a reload leaves behind; durable on return.

        Args:
            module: The module's name.
            tx_id: The reload.
            label: Of the version whose records they are.
            schema: Theirs.
            records: At least one.

        Returns:
            The batch's name.

        Raises:
            SnapshotError: The disk refuses.
        """
        name = f"{module}-{tx_id}"
        taken_at = dt.datetime.now(dt.UTC).isoformat(timespec="microseconds")
        self._write(
            Batch(
                name=name,
                module=module,
                label=label,
                schema=schema,
                taken_at=taken_at,
                records=tuple(records),
            )
        )
        return name

    def batches(self, module: str) -> list[Batch]:
        """Return what is kept of a module, the oldest first.

        Raises:
            SnapshotError: A file is torn or corrupt; it is named.
        """
        paths = sorted(self._folder.glob(f"{module}-*{_SUFFIX}"))
        return sorted((_batch(path, module) for path in paths), key=lambda one: one.taken_at)

    def remove(self, batch: str, keys: Collection[tuple[str, Any]] | None = None) -> None:
        """Forget records; a batch that is gone already is no error.

        Args:
            batch: Its name.
            keys: Table and key of each; None for all.
        """
        path = self._path(batch)
        if not path.exists():
            return
        found = _batch(path, None)
        kept = [
            one for one in found.records if keys is not None and (one.table, one.key) not in keys
        ]
        if kept:
            self._write(msgspec.structs.replace(found, records=tuple(kept)))
        else:
            path.unlink()

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}{_SUFFIX}"

    def _write(self, batch: Batch) -> None:
        with contextlib.suppress(OSError):  # the writing says it better
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        snapshot = Snapshot(
            module=batch.module,
            label=batch.label,
            digest="",
            schema=batch.schema,
            tree={},
            records=len(batch.records),
            taken_at=batch.taken_at,
            messages=tuple(msgspec.structs.asdict(one) for one in batch.records),
        )
        write(snapshot, self._path(batch.name))


def _batch(path: Path, module: str | None) -> Batch:
    snapshot = read(path, module=module)
    try:
        records = tuple(BadRecord(**plain) for plain in snapshot.messages)
    except TypeError as error:
        raise SnapshotError(
            f"{path.name} holds no records that were set aside",
            module=snapshot.module,
            found=str(error),
            do="move the file away",
        ) from None
    return Batch(
        name=path.name.removesuffix(_SUFFIX),
        module=snapshot.module,
        label=snapshot.label,
        schema=snapshot.schema,
        taken_at=snapshot.taken_at,
        records=records,
    )


def listed(batches: Iterable[Batch]) -> tuple[Quarantined, ...]:
    """Return kept records for people.

    Args:
        batches: From `Quarantine.batches`.
    """
    return tuple(
        Quarantined(
            batch=batch.name,
            table=one.table,
            key=one.key if isinstance(one.key, str) else show(one.key),
            value=show(one.value, 400),
            schema=batch.schema.version,
            step=one.step,
            field=one.field,
            reason=one.reason,
            taken_at=batch.taken_at,
            filled=one.filled,
        )
        for batch in batches
        for one in batch.records
    )


__all__ = ["FOLDER", "Batch", "Quarantine", "Quarantined", "listed"]
