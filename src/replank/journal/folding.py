"""Fold the write-ahead log into the file now and then, while nothing waits for the disk.

Folding costs two flushes, and the log's file never shrinks: its size alone would have it folded
after every reload once it has grown. So what is in use of it is counted, by what it grew by last.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path


class LogFolding:
    """Counts what is in use of a log, and folds it when that is too much.

    Args:
        path: The database file.
    """

    def __init__(self, path: Path) -> None:
        self._log = path.with_name(path.name + "-wal")
        self._size = self._each = self._used = 0

    def after_reload(self, db: sqlite3.Connection, bytes_max: int) -> bool:
        """Count one reload's writes, and fold the log when it has grown; waits for nobody.

        Args:
            db: A connection that is in no transaction.
            bytes_max: Bytes that may be in use.

        Returns:
            Whether it was folded.
        """
        size = self._log.stat().st_size if self._log.exists() else 0
        if size > self._size:
            self._each = size - self._size
            self._size = size
        self._used += self._each
        if self._used <= bytes_max:
            return False
        db.execute("PRAGMA wal_checkpoint(PASSIVE)")
        self._used = 0
        return True


__all__ = ["LogFolding"]
