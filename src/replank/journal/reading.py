"""Read a data directory's journal without opening it for writing: also while a host runs."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from replank.errors import JournalError
from replank.journal import storage
from replank.journal.records import Committed, SnapshotRecord

T = TypeVar("T")
_BUSY_TIMEOUT_S = 1.0


class Recorded(msgspec.Struct, frozen=True):
    """What a journal knows of one module."""

    committed: Committed | None = None
    """What serves, or would after a start."""
    schemas: tuple[dict[str, Any], ...] = ()
    """The schema of every version that was ever committed, newest first, as `Schema.to_dict`."""
    snapshots: tuple[SnapshotRecord, ...] = ()
    """Durable snapshots, newest first; paths are relative to the folder `snapshots`."""


def read_recorded(path: Path, module: str) -> Recorded:
    """Return what a journal knows of one module.

    Args:
        path: The database file; without it nothing is known.
        module: The module's name.

    Raises:
        JournalError: It is no sound journal.
    """
    if not path.is_file():
        return Recorded()
    return _read(
        path,
        lambda db: Recorded(
            storage.committed(db).get(module), _schemas(db, module), _snapshots(db, module)
        ),
    )


def read_modules(path: Path) -> dict[str, Committed]:
    """Return what serves, or would after a start, by module name.

    Args:
        path: The database file; without it nothing is known.

    Raises:
        JournalError: It is no sound journal.
    """
    return _read(path, storage.committed) if path.is_file() else {}


def check_journal(path: Path) -> tuple[str, ...]:
    """Return what is wrong with a journal's pages and indexes, one line each.

    Args:
        path: The database file.

    Raises:
        JournalError: It cannot be opened at all.
    """
    found = _read(path, lambda db: [str(row[0]) for row in db.execute("PRAGMA quick_check(5)")])
    return () if found == ["ok"] else tuple(found)


def _read(path: Path, read: Callable[[sqlite3.Connection], T]) -> T:
    try:
        connection = storage.open_for_reading(path, _BUSY_TIMEOUT_S)
        try:
            return read(connection)
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise storage.journal_error(path, error) from error
    except ValueError as error:
        raise JournalError(
            f"the journal {path} holds a record that cannot be read",
            found=str(error),
            do="name the old shape otherwise: a snapshot, or a file of frozen schemas",
        ) from error


def _snapshots(db: sqlite3.Connection, module: str) -> tuple[SnapshotRecord, ...]:
    return storage.latest_snapshots(db, module)


def _schemas(db: sqlite3.Connection, module: str) -> tuple[dict[str, Any], ...]:
    rows = db.execute(
        "SELECT schema FROM versions WHERE module = ? ORDER BY stored_at DESC", (module,)
    )
    return tuple(json.loads(row[0]) for row in rows)


__all__ = ["Recorded", "check_journal", "read_modules", "read_recorded"]
