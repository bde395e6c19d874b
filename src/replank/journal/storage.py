"""The SQL of the journal: one function for each thing it does, each on a given connection."""

from __future__ import annotations

import importlib.resources
import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from replank.errors import InternalError, JournalError
from replank.journal.records import Committed, Participant, SnapshotRecord, utc_now
from replank.report import ReloadReport

SCHEMA_VERSION: Final = 1
"""Raised, with an upgrade in `open_for_writing`, when schema.sql changes."""
APPLICATION_ID: Final = 0x52_50_4C_4B
"""ASCII "RPLK": tells our file from any other SQLite database."""


def open_for_writing(path: Path, busy_timeout_s: float) -> sqlite3.Connection:
    """Open or make the file; the connection belongs to the calling thread.

    Raises:
        JournalError: The file is corrupt, newer, or no journal.
    """
    connection = _connect(path, busy_timeout_s, read_only=False)
    try:
        _set_up(connection, path)
    except sqlite3.Error as error:
        connection.close()
        raise journal_error(path, error) from error
    except BaseException:
        connection.close()
        raise
    return connection


def _set_up(connection: sqlite3.Connection, path: Path) -> None:
    # A journal that is not on the disk when `commit` returns would break the first promise;
    # FULL syncs the WAL at every commit.
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    # Otherwise some commit record would also pay for folding the log, while calls wait for it.
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    if _is_new(connection, path):
        script = importlib.resources.files("replank.journal").joinpath("schema.sql").read_text()
        # One transaction: a crash in the middle leaves an empty file, not half a journal.
        connection.executescript(
            f"BEGIN;\n{script}\nPRAGMA application_id = {APPLICATION_ID};\n"
            f"PRAGMA user_version = {SCHEMA_VERSION};\nCOMMIT;"
        )
        return
    verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if verdict != "ok":
        raise journal_error(path, sqlite3.DatabaseError(verdict))


def open_for_reading(path: Path, busy_timeout_s: float) -> sqlite3.Connection:
    """Open an existing journal without the means to change it, for any thread.

    Raises:
        JournalError: There is no such file, or it is no journal of ours.
    """
    if not path.is_file():
        raise JournalError(f"there is no journal {path}", do="run a host first: replank run")
    connection = _connect(path, busy_timeout_s, read_only=True)
    try:
        _refuse_empty(connection, path)
    except sqlite3.Error as error:
        connection.close()
        raise journal_error(path, error) from error
    except BaseException:
        connection.close()
        raise
    return connection


def _refuse_empty(connection: sqlite3.Connection, path: Path) -> None:
    if _is_new(connection, path):
        raise JournalError(f"the journal {path} is empty", do="run a host first: replank run")


def _connect(path: Path, busy_timeout_s: float, *, read_only: bool) -> sqlite3.Connection:
    uri = path.resolve().as_uri() + ("?mode=ro" if read_only else "?mode=rwc")
    try:
        return sqlite3.connect(
            uri,
            uri=True,
            timeout=busy_timeout_s,
            isolation_level=None,  # we say BEGIN and COMMIT ourselves
            check_same_thread=False,  # each connection has one thread, or a lock
        )
    except sqlite3.Error as error:
        raise journal_error(path, error) from error


def _is_new(connection: sqlite3.Connection, path: Path) -> bool:
    """Tell an empty file from a journal of ours; refuse everything else."""
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if application == APPLICATION_ID:
        if version <= SCHEMA_VERSION:
            return False
        raise JournalError(
            f"the journal {path} was written by a newer Replank",
            found=f"journal version {version}",
            expected=f"version {SCHEMA_VERSION} or older",
            do="upgrade Replank, or use another --data-dir",
        )
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if application == 0 and version == 0 and tables == 0:
        return True
    raise JournalError(
        f"{path} is not a journal of Replank",
        found="another program's SQLite database",
        do="move it away, or use another --data-dir",
    )


def journal_error(path: Path, error: sqlite3.Error) -> JournalError:
    """Say what an error of SQLite means for the operator."""
    code = getattr(error, "sqlite_errorname", None) or ""
    if code.startswith("SQLITE_FULL"):
        do = "free space on that disk, then try again; what was committed is safe"
    elif code.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        do = "end the other program that holds the file, then try again"
    elif code.startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_PERM", "SQLITE_IOERR")):
        do = "check the folder's owner, mode and disk, then try again"
    else:
        do = "move the file away and start again: modules start from source and last snapshot"
    return JournalError(
        f"the journal {path} cannot be used",
        found=f"{error} ({code})" if code else str(error),
        expected="a sound SQLite file that this user may write",
        do=do,
    )


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Make everything in the block one durable change, or none."""
    try:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("COMMIT")
    except BaseException:
        # A full disk may have ended the transaction already; then there is nothing to undo.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def begin(
    db: sqlite3.Connection,
    tx_id: str,
    participants: tuple[Participant, ...],
    reason: str,
    started_at: str,
) -> None:
    """Insert a transaction as prepared, with who takes part."""
    names = json.dumps([participant.module for participant in participants])
    db.execute(
        "INSERT INTO transactions (id, modules, reason, state, started_at)"
        " VALUES (?, ?, ?, 'prepared', ?)",
        (tx_id, names, reason, started_at),
    )
    db.executemany(
        "INSERT INTO participants (tx, module, digest_from, digest_to, generation)"
        " VALUES (?, ?, ?, ?, ?)",
        [(tx_id, p.module, p.digest_from, p.digest_to, p.generation) for p in participants],
    )


def commit(
    db: sqlite3.Connection,
    tx_id: str,
    modules: tuple[Committed, ...],
    snapshots: tuple[SnapshotRecord, ...],
) -> None:
    """Turn a prepared transaction into what serves."""
    changed = db.execute(
        "UPDATE transactions SET state = 'committed' WHERE id = ? AND state = 'prepared'", (tx_id,)
    ).rowcount
    if changed != 1:
        raise InternalError(
            f"reload {tx_id} cannot commit",
            found=state(db, tx_id) or "no such transaction",
            expected="prepared",
        )
    for module in modules:
        _commit_module(db, tx_id, module)
    for snapshot in snapshots:
        record_snapshot(db, snapshot)


def _commit_module(db: sqlite3.Connection, tx_id: str, module: Committed) -> None:
    db.execute(
        "INSERT INTO versions"
        " (module, digest, label, source, schema_version, schema, stored_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (module, digest) DO UPDATE SET label = excluded.label,"
        " source = excluded.source, schema_version = excluded.schema_version,"
        " schema = excluded.schema",
        (
            module.module,
            module.digest,
            module.label,
            module.source,
            module.schema_version,
            json.dumps(module.schema_dict),
            utc_now(),
        ),
    )
    number = db.execute(
        "INSERT INTO commits (tx, module, digest, generation) VALUES (?, ?, ?, ?)",
        (tx_id, module.module, module.digest, module.generation),
    ).lastrowid
    db.execute(
        'INSERT INTO serving (module, "commit") VALUES (?, ?)'
        ' ON CONFLICT (module) DO UPDATE SET "commit" = excluded."commit"',
        (module.module, number),
    )


def finish(db: sqlite3.Connection, tx_id: str, report: ReloadReport) -> None:
    """Write the report and the end of a transaction."""
    found = state(db, tx_id)
    if found is None:
        # Rejected before anything irreversible: there was no intent to write.
        names = json.dumps([module.name for module in report.modules])
        db.execute(
            "INSERT INTO transactions (id, modules, reason, state, started_at)"
            " VALUES (?, ?, ?, 'prepared', ?)",
            (tx_id, names, report.reason, report.started_at or utc_now()),
        )
        insert_participants(db, tx_id, report)
    if report.committed != (found == "committed") or found in ("rolled_back", "rejected", "undone"):
        raise InternalError(
            f"the report of reload {tx_id} contradicts the journal",
            found=f"outcome {report.outcome}, journal {found or 'nothing'}",
        )
    db.execute(
        "UPDATE transactions SET state = ?, ended_at = COALESCE(ended_at, ?), report = ?"
        " WHERE id = ?",
        (str(report.outcome), utc_now(), report.to_json(), tx_id),
    )
    db.executemany(
        "INSERT OR REPLACE INTO phases (tx, position, phase, place, seconds, outcome, detail)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        [(tx_id, *row) for row in _phase_rows(report)],
    )


def insert_participants(db: sqlite3.Connection, tx_id: str, report: ReloadReport) -> None:
    """Note who took part, from the report."""
    db.executemany(
        "INSERT OR IGNORE INTO participants (tx, module, digest_from, digest_to, generation)"
        " VALUES (?, ?, ?, ?, ?)",
        [(tx_id, m.name, m.digest_from, m.digest_to, m.generation_to) for m in report.modules],
    )


def _phase_rows(report: ReloadReport) -> Iterator[tuple[int, str, str, float, str, str]]:
    for position, phase in enumerate(report.phases):
        outcome = str(phase.outcome)
        if phase.window_seconds:
            yield position, phase.name, "window", phase.window_seconds, outcome, phase.detail
        yield position, phase.name, "pause", phase.seconds, outcome, phase.detail


def state(db: sqlite3.Connection, tx_id: str) -> str | None:
    """Return a transaction's state, or None when it is unknown."""
    row = db.execute("SELECT state FROM transactions WHERE id = ?", (tx_id,)).fetchone()
    return None if row is None else str(row[0])


_COMMITTED: Final = (
    "SELECT c.module, c.digest, v.label, c.generation, v.schema_version, v.schema, v.source, c.tx"
    " FROM commits c JOIN versions v ON v.module = c.module AND v.digest = c.digest"
)


def _committed_of(row: tuple[Any, ...]) -> Committed:
    module, digest, label, generation, schema_version, schema, source, tx = row
    return Committed(
        module, digest, label, generation, schema_version, json.loads(schema), source, tx
    )


_SERVING: Final = _COMMITTED + ' JOIN serving s ON s."commit" = c.number ORDER BY c.module'
_PREVIOUS: Final = (
    _COMMITTED  # noqa: S608 - built from constants only
    + " WHERE c.module = ? AND c.digest != (SELECT n.digest FROM serving s"
    ' JOIN commits n ON n.number = s."commit" WHERE s.module = c.module)'
    " ORDER BY c.number DESC LIMIT 1"
)


def committed(db: sqlite3.Connection) -> dict[str, Committed]:
    """Return what serves, by module."""
    return {row[0]: _committed_of(row) for row in db.execute(_SERVING)}


def previous(db: sqlite3.Connection, module: str) -> Committed | None:
    """Return the last commit of another source than the one that serves."""
    row = db.execute(_PREVIOUS, (module,)).fetchone()
    return None if row is None else _committed_of(row)


def record_snapshot(db: sqlite3.Connection, snapshot: SnapshotRecord) -> None:
    """Insert a snapshot; one under the same path is replaced and becomes the newest."""
    db.execute(
        "INSERT OR REPLACE INTO snapshots (module, path, digest, schema_version, taken_at, kind)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (
            snapshot.module,
            snapshot.path,
            snapshot.digest,
            snapshot.schema_version,
            snapshot.taken_at,
            snapshot.kind,
        ),
    )


def forget_snapshot(db: sqlite3.Connection, path: str) -> None:
    """Delete a snapshot's row."""
    db.execute("DELETE FROM snapshots WHERE path = ?", (path,))


def latest_snapshots(db: sqlite3.Connection, module: str) -> tuple[SnapshotRecord, ...]:
    """Return a module's snapshots, newest first."""
    rows = db.execute(
        "SELECT module, path, digest, schema_version, taken_at, kind FROM snapshots"
        " WHERE module = ? ORDER BY number DESC",
        (module,),
    )
    return tuple(SnapshotRecord(*row) for row in rows)


def all_snapshots(db: sqlite3.Connection) -> tuple[SnapshotRecord, ...]:
    """Return the snapshots of all modules, newest first."""
    rows = db.execute(
        "SELECT module, path, digest, schema_version, taken_at, kind FROM snapshots"
        " ORDER BY number DESC"
    )
    return tuple(SnapshotRecord(*row) for row in rows)


def history(db: sqlite3.Connection, limit: int, module: str | None) -> tuple[ReloadReport, ...]:
    """Return the last reports, newest first."""
    rows = db.execute(
        "SELECT report FROM transactions WHERE report IS NOT NULL AND (:module IS NULL"
        " OR id IN (SELECT tx FROM participants WHERE module = :module))"
        " ORDER BY epoch DESC LIMIT :limit",
        {"module": module, "limit": limit},
    )
    return tuple(ReloadReport.from_json(row[0]) for row in rows)


def highest_numbers(db: sqlite3.Connection) -> tuple[int, dict[str, int]]:
    """Return the highest reload number, and the highest generation of each module."""
    # AUTOINCREMENT remembers the highest epoch even when its row was pruned; ids may run ahead
    # of it, because a reload that never reached the journal used one up.
    row = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'transactions'").fetchone()
    ids = db.execute(
        "SELECT max(CAST(substr(id, 2) AS INTEGER)) FROM transactions WHERE id GLOB 'r[0-9]*'"
    ).fetchone()
    generations = db.execute(
        "SELECT module, max(generation) FROM (SELECT module, generation FROM participants"
        " UNION ALL SELECT module, generation FROM commits) GROUP BY module"
    )
    return max(row[0] if row else 0, ids[0] or 0), dict(generations.fetchall())
