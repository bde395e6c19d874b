"""The port on SQLite: one file, one writer thread, and one transaction for all who wait.

A commit costs one flush of the disk (0.2 to 10 ms where it was measured, often 4), whatever is in
it. So what is asked for while one transaction is being written goes together into the next one:
each publisher waits for at most two flushes, and many get many times the throughput of one.

Everything but the SQL runs on the event loop's thread; there are no locks. Reads have a connection
and a thread of their own: in WAL mode they do not wait for a write.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple, Self, TypeVar

from replank.errors import JournalError, UsageError
from replank.journal.port import Entry, Moved, Value
from replank.journal.storage import transaction
from replank.journal.watchers import Watchers
from replank.threads import in_pool

T = TypeVar("T")
Moves = dict[str, int]

INBOX_FILE: Final = "inbox.sqlite"
APPLICATION_ID: Final = 0x52_50_4C_49
"""ASCII "RPLI": tells our file from any other SQLite database."""
SCHEMA_VERSION: Final = 1

_SCHEMA: Final = f"""
BEGIN;
CREATE TABLE streams (
    id    INTEGER PRIMARY KEY,
    name  TEXT NOT NULL UNIQUE,
    last  INTEGER NOT NULL              -- position; stays when the entries are forgotten
);
CREATE TABLE entries (
    stream    INTEGER NOT NULL REFERENCES streams (id),
    position  INTEGER NOT NULL,
    payload   BLOB NOT NULL,
    PRIMARY KEY (stream, position)
) WITHOUT ROWID;                        -- a page of a stream lies together
CREATE TABLE keys (
    key      TEXT PRIMARY KEY,
    version  INTEGER NOT NULL,
    data     BLOB NOT NULL
) WITHOUT ROWID;
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
COMMIT;
"""

_BATCH_BYTES_MAX: Final = 8 * 1024 * 1024
"""One transaction takes no more than this, if more than one wait: the others wait less."""
_TRUNCATE_SLICE: Final = 2_000
"""Entries forgotten in one transaction: those who publish meanwhile wait for one slice only."""
_OVERHEAD_BYTES: Final = 64


class _Write(NamedTuple):
    work: Callable[[sqlite3.Connection, Moves], Any]
    done: asyncio.Future[Any]
    size: int


class EmbeddedPort:
    """Streams and keys in one SQLite file, for one process.

    Args:
        path: The file; its folder must exist.
        busy_timeout_s: Seconds to wait for another program that reads or backs up the file.
        waiting_max: Publishers and setters that may wait for the disk; more wait to wait.
        payload_bytes_max: Bytes of one payload or value.
    """

    def __init__(
        self,
        path: Path,
        *,
        busy_timeout_s: float = 5.0,
        waiting_max: int = 4_096,
        payload_bytes_max: int = 1024 * 1024,
    ) -> None:
        self.path = path
        self.payload_bytes_max = payload_bytes_max
        self.transactions = 0
        """How many have been committed: the fewer for the same load, the better."""
        self._busy_timeout_s = busy_timeout_s
        self._places = asyncio.Semaphore(waiting_max)
        self._waiting: deque[_Write] = deque()
        self._flushing: asyncio.Task[None] | None = None
        self._writer: ThreadPoolExecutor | None = None
        self._reader: ThreadPoolExecutor | None = None
        self._write_db: sqlite3.Connection | None = None
        self._read_db: sqlite3.Connection | None = None
        self._closed = False
        self._watchers = Watchers()

    # -- open and close -----------------------------------------------------------------------

    def open(self) -> Self:
        """Open the file, or make it; blocks, for a time that does not grow with the file.

        Raises:
            JournalError: It is corrupt, newer than this program, or another program's.
        """
        assert self._writer is None, "a port is opened once"
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="replank-inbox-write")
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="replank-inbox-read")
        try:
            self._write_db = self._writer.submit(self._connect).result()
            self._read_db = self._reader.submit(self._connect).result()
        except BaseException:
            self._close_files()
            raise
        return self

    async def close(self) -> None:
        """Write what waits, end the watches, and close; closing twice does no harm."""
        self._closed = True
        while self._flushing is not None:
            await asyncio.wait((self._flushing,))
        self._watchers.close()
        await asyncio.get_running_loop().run_in_executor(None, self._close_files)

    def _connect(self) -> sqlite3.Connection:
        with _our_errors(self.path):
            db = sqlite3.connect(
                self.path,
                timeout=self._busy_timeout_s,
                isolation_level=None,  # we say BEGIN and COMMIT ourselves
            )
        try:
            with _our_errors(self.path):
                db.execute("PRAGMA journal_mode = WAL")
                db.execute("PRAGMA synchronous = FULL")  # accepted means on the disk
                if _is_new(db, self.path):
                    db.executescript(_SCHEMA)
        except BaseException:
            db.close()
            raise
        return db

    def _close_files(self) -> None:
        read_db, self._read_db = self._read_db, None
        write_db, self._write_db = self._write_db, None
        # The writer last, so that the last connection folds the WAL into the one file.
        for executor, db in ((self._reader, read_db), (self._writer, write_db)):
            if executor is not None:
                if db is not None:
                    executor.submit(db.close).result()
                executor.shutdown()
        self._reader = self._writer = None

    # -- the five verbs, and truncate -----------------------------------------------------------

    async def publish(self, stream: str, payloads: Sequence[bytes]) -> range:
        """Append payloads; see `Port.publish`."""
        payloads = tuple(payloads)
        size = sum(map(self._size, payloads))
        if not payloads:
            return range(0)

        def work(db: sqlite3.Connection, moves: Moves) -> range:
            stream_id, last = _stream(db, stream)
            positions = range(last + 1, last + 1 + len(payloads))
            db.executemany(
                "INSERT INTO entries (stream, position, payload) VALUES (?, ?, ?)",
                [(stream_id, at, data) for at, data in zip(positions, payloads, strict=True)],
            )
            _move(db, stream, stream_id, positions[-1], moves)
            return positions

        return await self._write(work, size)

    async def read(self, stream: str, after: int, limit: int) -> tuple[Entry, ...]:
        """Return the next entries; see `Port.read`."""

        def work(db: sqlite3.Connection) -> tuple[Entry, ...]:
            rows = db.execute(
                "SELECT position, payload FROM entries"
                " WHERE stream = (SELECT id FROM streams WHERE name = ?) AND position > ?"
                " ORDER BY position LIMIT ?",
                (stream, after, limit),
            )
            return tuple(Entry(*row) for row in rows)

        return await self._read(work)

    async def get(self, key: str) -> Value | None:
        """Return what a key holds; see `Port.get`."""

        def work(db: sqlite3.Connection) -> Value | None:
            row = db.execute("SELECT version, data FROM keys WHERE key = ?", (key,)).fetchone()
            return None if row is None else Value(*row)

        return await self._read(work)

    async def compare_and_set(self, key: str, expected_version: int, data: bytes) -> int | None:
        """Change a key; see `Port.compare_and_set`."""
        size = self._size(data)

        def work(db: sqlite3.Connection, moves: Moves) -> int | None:
            row = db.execute("SELECT version FROM keys WHERE key = ?", (key,)).fetchone()
            if (row[0] if row else 0) != expected_version:
                return None
            db.execute(
                "INSERT INTO keys (key, version, data) VALUES (?, ?, ?) ON CONFLICT (key)"
                " DO UPDATE SET version = excluded.version, data = excluded.data",
                (key, expected_version + 1, data),
            )
            moves[key] = expected_version + 1
            return expected_version + 1

        return await self._write(work, size)

    def watch(self, name: str) -> AsyncIterator[Moved]:
        """Follow streams and keys; see `Port.watch`. Only this process's writes are noticed."""
        return self._watchers.follow(name, self._present)

    async def truncate(self, stream: str, upto: int) -> None:
        """Forget entries, in slices; see `TrimmablePort.truncate`."""
        while await self._write(lambda db, moves: _forget(db, stream, upto, moves), 0):
            pass

    # -- the two paths to the file ------------------------------------------------------------

    async def _write(self, work: Callable[[sqlite3.Connection, Moves], T], size: int) -> T:
        async with self._places:
            if self._closed or self._writer is None:
                raise self._not_open()
            done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
            self._waiting.append(_Write(work, done, size))
            if self._flushing is None:
                self._flushing = asyncio.create_task(self._flush(), name="inbox writer")
            return await done

    async def _flush(self) -> None:
        """Write transaction after transaction until nobody waits."""
        try:
            while self._waiting:
                batch = self._next_batch()
                if not batch:
                    continue
                work = [write.work for write in batch]
                try:
                    answers, moves = await in_pool(self._writer, partial(self._commit, work))
                except BaseException as error:
                    _fail(batch, error)
                    if not isinstance(error, Exception):
                        raise
                    continue
                self.transactions += 1
                for write, answer in zip(batch, answers, strict=True):
                    if not write.done.done():
                        write.done.set_result(answer)
                self._watchers.tell(moves)
        finally:
            self._flushing = None

    def _next_batch(self) -> list[_Write]:
        """Take who waits, in order; those who gave up meanwhile are not written."""
        batch: list[_Write] = []
        size = 0
        while self._waiting and (not batch or size + self._waiting[0].size <= _BATCH_BYTES_MAX):
            write = self._waiting.popleft()
            if not write.done.done():
                batch.append(write)
                size += write.size
        return batch

    def _commit(
        self, work: Iterable[Callable[[sqlite3.Connection, Moves], Any]]
    ) -> tuple[list[Any], Moves]:
        """Do all the work in one transaction; on the writer thread."""
        assert self._write_db is not None, "closed while something waited"
        moves: Moves = {}
        with _our_errors(self.path), transaction(self._write_db):
            answers = [one(self._write_db, moves) for one in work]
        return answers, moves

    async def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        if self._closed or self._reader is None:
            raise self._not_open()
        return await in_pool(self._reader, partial(self._read_here, work))

    def _read_here(self, work: Callable[[sqlite3.Connection], T]) -> T:
        if self._read_db is None:
            raise self._not_open()
        with _our_errors(self.path):
            return work(self._read_db)

    async def _present(self) -> Mapping[str, int]:
        return await self._read(
            lambda db: dict(
                db.execute("SELECT key, version FROM keys UNION ALL SELECT name, last FROM streams")
            )
        )

    def _size(self, payload: bytes) -> int:
        if len(payload) > self.payload_bytes_max:
            raise UsageError(
                "this is too large to be kept durably",
                found=f"{len(payload)} bytes",
                expected=f"at most {self.payload_bytes_max}",
                do="keep it elsewhere and send where it is",
            )
        return len(payload) + _OVERHEAD_BYTES

    def _not_open(self) -> JournalError:
        return JournalError(f"{self.path.name} is not open", do="start the host again")


def _fail(batch: list[_Write], error: BaseException) -> None:
    for write in batch:
        if write.done.done():
            continue
        if isinstance(error, Exception):
            write.done.set_exception(error)
        else:
            write.done.cancel()  # the loop is ending


def _stream(db: sqlite3.Connection, name: str) -> tuple[int, int]:
    """Return a stream's id and last position; makes it when it does not exist."""
    row = db.execute("SELECT id, last FROM streams WHERE name = ?", (name,)).fetchone()
    if row is None:
        made = db.execute("INSERT INTO streams (name, last) VALUES (?, 0)", (name,)).lastrowid
        assert made is not None
        return made, 0
    return int(row[0]), int(row[1])


def _move(db: sqlite3.Connection, name: str, stream_id: int, last: int, moves: Moves) -> None:
    db.execute("UPDATE streams SET last = ? WHERE id = ?", (last, stream_id))
    moves[name] = last


def _forget(db: sqlite3.Connection, name: str, upto: int, moves: Moves) -> bool:
    """Forget one slice of a stream; returns whether there is more to forget."""
    stream_id, last = _stream(db, name)
    if upto > last:
        _move(db, name, stream_id, upto, moves)
    first = db.execute(
        "SELECT min(position) FROM entries WHERE stream = ?", (stream_id,)
    ).fetchone()[0]
    if first is None or first > upto:
        return False
    end = min(upto, first + _TRUNCATE_SLICE - 1)
    db.execute("DELETE FROM entries WHERE stream = ? AND position <= ?", (stream_id, end))
    return bool(end < min(upto, last))


def _is_new(db: sqlite3.Connection, path: Path) -> bool:
    """Tell an empty file from one of ours; refuse everything else."""
    application = db.execute("PRAGMA application_id").fetchone()[0]
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if application == APPLICATION_ID:
        if version <= SCHEMA_VERSION:
            return False
        raise JournalError(
            f"{path} was written by a newer Replank",
            found=f"inbox version {version}",
            expected=f"version {SCHEMA_VERSION} or older",
            do="upgrade Replank, or use another --data-dir",
        )
    tables = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if (application, version, tables) == (0, 0, 0):
        return True
    raise JournalError(
        f"{path} is not an inbox of Replank",
        found="another program's SQLite database",
        do="move it away, or use another --data-dir",
    )


@contextmanager
def _our_errors(path: Path) -> Iterator[None]:
    """Turn what SQLite and the disk raise into what an operator can act on."""
    try:
        yield
    except sqlite3.Error as error:
        raise _port_error(path, error) from error


def _port_error(path: Path, error: sqlite3.Error) -> JournalError:
    code = getattr(error, "sqlite_errorname", None) or ""
    if code.startswith("SQLITE_FULL"):
        do = "free space on that disk, then try again; what was accepted is safe"
    elif code.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        do = "end the other program that holds the file, then try again"
    elif code.startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_PERM", "SQLITE_IOERR")):
        do = "check the folder's owner, mode and disk, then try again"
    else:
        do = "restore the file from a backup, or move it away: messages not yet handled are in it"
    return JournalError(
        f"{path} cannot be used",
        found=f"{error} ({code})" if code else str(error),
        expected="a sound SQLite file that this user may write",
        do=do,
    )


__all__ = ["INBOX_FILE", "EmbeddedPort"]
