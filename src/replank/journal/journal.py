"""What was decided, on the disk before it is done: SQLite in WAL mode, one writer thread.

Two rules carry the promise that a crash loses nothing and half-does nothing:

- A transaction is written as `prepared` before anything irreversible, and `commit` makes it
  `committed` and changes what serves in *one* SQLite transaction, on the disk when it returns.
- `recover` marks what is still `prepared` as undone. So after a crash at any instruction what
  serves is exactly what the last commit record says.

Writes queue for the one writer thread, in order, off the event loop, and those that wait together
share one flush of the disk; only the commit record, written while calls wait, has a short cut.
Reads use a connection of their own: in WAL mode they never wait for a write, and may run anywhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final, Self, TypeVar

import msgspec

from replank.errors import InternalError, JournalError
from replank.journal import recovery, storage
from replank.journal.folding import LogFolding
from replank.journal.grouped import GroupedWrites
from replank.journal.records import Committed, Participant, SnapshotRecord, utc_now
from replank.report import ReloadReport
from replank.threads import in_pool

T = TypeVar("T")

JOURNAL_FILE: Final = "journal.sqlite"
_LOG_BYTES_MAX: Final = 1024 * 1024
"""Bytes of write-ahead log after which a finished reload has it folded into the file."""


class Journal:
    """Remember versions, reloads, snapshots and what serves.

    Args:
        path: The database file; its folder must exist.
        busy_timeout_s: Seconds to wait for another process that reads or backs up the file.
        reloads_kept: Reloads that stay in the history; `recover` removes older ones.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        busy_timeout_s: float = 5.0,
        reloads_kept: int = 10_000,
    ) -> None:
        self.path = Path(path)
        self._busy_timeout_s = busy_timeout_s
        self._reloads_kept = reloads_kept
        self._writer: ThreadPoolExecutor | None = None
        self._grouped = GroupedWrites(self._in_transaction)
        self._write: sqlite3.Connection | None = None
        self._pause: sqlite3.Connection | None = None
        self._read: sqlite3.Connection | None = None
        self._read_lock = threading.Lock()
        self._folding = LogFolding(self.path)
        self._last_epoch = 0
        self._last_generation: dict[str, int] = {}

    def open(self) -> Self:
        """Open the file, or make it, and check that it is a sound journal; blocks.

        Raises:
            JournalError: It is corrupt, newer than this program, or no journal.
        """
        assert self._writer is None, "a journal is opened once"
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="replank-journal")
        try:
            self._write = self._wait(
                lambda: storage.open_for_writing(self.path, self._busy_timeout_s)
            )
            self._pause = storage.open_for_writing(self.path, self._busy_timeout_s)
            self._read = storage.open_for_reading(self.path, self._busy_timeout_s)
            self._last_epoch, self._last_generation = self._query(storage.highest_numbers)
        except BaseException:
            self._close_connections()
            raise
        return self

    async def close(self) -> None:
        """Finish what is queued and close; closing twice does no harm."""
        await asyncio.get_running_loop().run_in_executor(None, self.close_blocking)

    def close_blocking(self) -> None:
        """Do what `close` does where no event loop runs."""
        self._close_connections()

    # -- what a reload writes -----------------------------------------------------------------

    async def begin(
        self,
        tx_id: str,
        modules: Iterable[Participant],
        reason: str,
        started_at: str | None = None,
    ) -> None:
        """Write the intent, before anything irreversible; durable on return.

        Args:
            tx_id: From `next_id`.
            modules: Who takes part.
            reason: Who or what asked for the reload.
            started_at: ISO 8601, UTC; now when None.

        Raises:
            JournalError: It could not be written; nothing may be done then.
        """
        participants = tuple(modules)
        started = started_at or utc_now()
        await self._submit(lambda db: storage.begin(db, tx_id, participants, reason, started))

    async def commit(
        self,
        tx_id: str,
        modules: Iterable[Committed],
        snapshots: Iterable[SnapshotRecord] = (),
    ) -> None:
        """Write THE commit record: the point of no return, durable on return.

        When this raises or is cancelled, ask `state` before anything else: the record may be on
        the disk all the same.

        Args:
            tx_id: A transaction that was begun.
            modules: What serves from now on.
            snapshots: State that belongs to it, made known by the same record.

        Raises:
            JournalError: It could not be written.
            InternalError: The transaction was not begun, or has ended.
        """
        committed = tuple(modules)
        taken = tuple(snapshots)
        assert committed, "a commit record names what serves"
        await self._submit(lambda db: storage.commit(db, tx_id, committed, taken))

    def commit_now(
        self,
        tx_id: str,
        modules: Iterable[Committed],
        snapshots: Iterable[SnapshotRecord] = (),
    ) -> None:
        """Do what `commit` does on the calling thread, on a connection of its own; blocks.

        While calls wait, handing the record to the writer thread costs more than writing it: each
        of its statements would have to win the interpreter back from a busy event loop.

        Args:
            tx_id: A transaction that was begun.
            modules: What serves from now on.
            snapshots: State that belongs to it, made known by the same record.

        Raises:
            JournalError: It could not be written; ask `state`, as after `commit`.
            InternalError: The transaction was not begun, or has ended.
        """
        committed = tuple(modules)
        taken = tuple(snapshots)
        assert committed, "a commit record names what serves"
        if self._pause is None:
            raise JournalError("the journal is closed", do="start the host again")
        with _our_errors(self.path), self._grouped.held(), storage.transaction(self._pause):
            storage.commit(self._pause, tx_id, committed, taken)

    async def finish(self, tx_id: str, report: ReloadReport) -> None:
        """Write how a reload ended; also for one that was rejected before it was begun.

        Args:
            tx_id: Its id.
            report: Its report.

        Raises:
            JournalError: It could not be written.
            InternalError: The report contradicts the commit record.
        """
        await self._submit(lambda db: storage.finish(db, tx_id, report))
        if self._writer is not None:  # nothing waits for the disk now: the gates are open
            self._writer.submit(self._fold_log)

    async def state(self, tx_id: str) -> str | None:
        """Return the state of a transaction, after every write that was queued before.

        Args:
            tx_id: Its id.

        Returns:
            "prepared", "committed", "rolled_back", "rejected", "undone", or None when unknown.
        """
        return await self._submit(lambda db: storage.state(db, tx_id))

    async def record_snapshot(self, snapshot: SnapshotRecord) -> None:
        """Make a durable snapshot known.

        Args:
            snapshot: What was taken; its file is on the disk already.

        Raises:
            JournalError: It could not be written.
        """
        await self._submit(lambda db: storage.record_snapshot(db, snapshot))

    async def forget_snapshot(self, path: str) -> None:
        """Forget a snapshot, before its file is removed.

        Args:
            path: As it was recorded.
        """
        await self._submit(lambda db: storage.forget_snapshot(db, path))

    # -- what a start and an operator read ----------------------------------------------------

    def committed(self) -> dict[str, Committed]:
        """Return what serves, by module: what a start loads, whatever lies on the disk."""
        return self._query(storage.committed)

    def previous(self, module: str) -> Committed | None:
        """Return the version that was committed before the present one, if any.

        Commits of the very same source are passed over: going back to them would change nothing.

        Args:
            module: Its name.
        """
        return self._query(lambda db: storage.previous(db, module))

    def recover(self) -> list[str]:
        """Undo what a crash cut off; blocks; for the start of a host, before it loads code.

        Returns:
            One line for the operator for each reload concerned.

        Raises:
            JournalError: It could not be written.
        """
        lines = self._wait(lambda: self._in_transaction(recovery.undo_unfinished))
        kept = self._reloads_kept
        self._wait(lambda: self._in_transaction(lambda db: recovery.prune(db, kept)))
        return lines

    def latest_snapshots(self, module: str) -> tuple[SnapshotRecord, ...]:
        """Return the known snapshots of a module, newest first.

        Args:
            module: Its name.
        """
        return self._query(lambda db: storage.latest_snapshots(db, module))

    def all_snapshots(self) -> tuple[SnapshotRecord, ...]:
        """Return the known snapshots of all modules."""
        return self._query(storage.all_snapshots)

    def history(self, limit: int = 20, module: str | None = None) -> tuple[ReloadReport, ...]:
        """Return the reports of the last reloads, newest first.

        Args:
            limit: How many at most.
            module: Only reloads in which this module took part.
        """
        return self._query(lambda db: storage.history(db, limit, module))

    def next_id(self) -> str:
        """Return a new reload's id, never used before, in this process or an earlier one."""
        self._last_epoch += 1
        return f"r{self._last_epoch}"

    def next_generation(self, module: str) -> int:
        """Return the number of a module's next generation, never used by a reload before.

        Args:
            module: Its name.
        """
        number = self._last_generation.get(module, 0) + 1
        self._last_generation[module] = number
        return number

    # -- the two paths to the file ------------------------------------------------------------

    def _in_transaction(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` on the writer thread, all or none."""
        if self._write is None:
            raise JournalError("the journal is closed", do="start the host again")
        with _our_errors(self.path), storage.transaction(self._write):
            return work(self._write)

    def _fold_log(self) -> None:
        # It is only tidying: what cannot be folded now is folded after the next reload.
        with contextlib.suppress(sqlite3.Error, OSError):
            if self._write is not None:
                self._folding.after_reload(self._write, _LOG_BYTES_MAX)

    async def _submit(self, work: Callable[[sqlite3.Connection], T]) -> T:
        if self._writer is None:
            raise JournalError("the journal is closed", do="start the host again")
        write = self._grouped.add(work)
        try:
            answer: T = await in_pool(self._writer, partial(self._grouped.settle, write))
        except asyncio.CancelledError:
            write.dropped = True
            raise
        return answer

    def _wait(self, work: Callable[[], T]) -> T:
        if self._writer is None:
            raise JournalError("the journal is closed", do="start the host again")
        with _our_errors(self.path):
            return self._writer.submit(work).result()

    def _query(self, work: Callable[[sqlite3.Connection], T]) -> T:
        with self._read_lock, _our_errors(self.path):
            if self._read is None:
                raise JournalError("the journal is closed", do="start the host again")
            return work(self._read)

    def _close_connections(self) -> None:
        writer, self._writer = self._writer, None
        if writer is None:
            return
        with self._read_lock:
            read, self._read = self._read, None
            if read is not None:
                read.close()
        pause, self._pause = self._pause, None
        if pause is not None:
            pause.close()
        # After the reader, so that the last connection folds the WAL into the one file.
        writer.submit(self._close_write).result()
        writer.shutdown()

    def _close_write(self) -> None:
        write, self._write = self._write, None
        if write is not None:
            write.close()


def read_history(
    path: str | os.PathLike[str], limit: int = 20, module: str | None = None
) -> tuple[ReloadReport, ...]:
    """Read the last reloads from a journal that need not be open, newest first.

    Args:
        path: The database file.
        limit: How many at most.
        module: Only reloads in which this module took part.

    Raises:
        JournalError: There is no such file, or it is no sound journal.
    """
    with _our_errors(Path(path)):
        connection = storage.open_for_reading(Path(path), 1.0)
        try:
            return storage.history(connection, limit, module)
        finally:
            connection.close()


@contextlib.contextmanager
def _our_errors(path: Path) -> Iterator[None]:
    """Turn what SQLite and the disk raise into what an operator can act on."""
    try:
        yield
    except sqlite3.IntegrityError as error:
        raise InternalError(
            "the journal refused a record that contradicts itself",
            found=str(error),
            do="please report this with the message",
        ) from error
    except sqlite3.Error as error:
        raise storage.journal_error(path, error) from error
    except msgspec.MsgspecError as error:
        raise JournalError(
            f"the journal {path} holds a record that cannot be read",
            found=str(error),
            do="move the file away; the source files are not touched",
        ) from error


__all__ = [
    "JOURNAL_FILE",
    "Committed",
    "Journal",
    "Participant",
    "SnapshotRecord",
    "read_history",
    "utc_now",
]
