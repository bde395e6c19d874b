"""`replank state`: of a running host over its control socket, of a stopped one on its disk."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
from pathlib import Path
from typing import Any

import msgspec

from replank.code.reading import reading_version
from replank.code.store import VersionStore
from replank.control.client import Client
from replank.control.locate import HostNotFound, find_data_dir
from replank.errors import SnapshotError, StorageError, UsageError, did_you_mean
from replank.journal.journal import JOURNAL_FILE, Journal
from replank.journal.lock import DataDirLock
from replank.journal.reading import read_modules, read_recorded
from replank.journal.records import Committed
from replank.state.document import read_document, write_document
from replank.state.exchange import (
    ImportReport,
    StateReport,
    describe_snapshot,
    fit,
)
from replank.state.format import Snapshot
from replank.state.keeper import StateKeeper
from replank.state.quarantine import FOLDER, Quarantine, Quarantined, listed
from replank.state.snapshot import read, take

SNAPSHOT_FOLDER = "snapshots"


def describe_anywhere(module: str, data_dir: Path | None, config: Path | None) -> StateReport:
    """Say what a module's state holds.

    Args:
        module: Its name.
        data_dir: As named on the command line.
        config: As named on the command line.

    Raises:
        UsageError: Neither a host nor its disk knows the module's state.
    """
    folder = find_data_dir(data_dir, config)
    try:
        with Client.find(folder) as client:
            return client.describe_state(module)
    except HostNotFound:
        return describe_snapshot(last_snapshot(folder, module))


def quarantined_anywhere(
    module: str, data_dir: Path | None, config: Path | None
) -> tuple[Quarantined, ...]:
    """Return the records of a module that did not migrate and are kept.

    Args:
        module: Its name.
        data_dir: As named on the command line.
        config: As named on the command line.

    Raises:
        SnapshotError: They cannot be read.
    """
    folder = find_data_dir(data_dir, config)
    try:
        with Client.find(folder) as client:
            return client.quarantined(module)
    except HostNotFound:
        return listed(Quarantine(folder / FOLDER).batches(module))


def export_anywhere(
    module: str, data_dir: Path | None, config: Path | None
) -> tuple[bytes, dict[str, Any]]:
    """Return a module's state as a JSON document, and what is in it.

    Args:
        module: Its name.
        data_dir: As named on the command line.
        config: As named on the command line.

    Raises:
        UsageError: Neither a host nor its disk knows the module's state.
    """
    folder = find_data_dir(data_dir, config)
    try:
        with Client.find(folder) as client:
            text = client.export_state(module)
    except HostNotFound:
        text = write_document(last_snapshot(folder, module))
    found = read_document(text, module)
    facts = {
        "module": module,
        "schema": found.schema.version,
        "fingerprint": found.schema.fingerprint,
        "records": found.records,
        "taken_at": found.taken_at,
        "bytes": len(text),
    }
    return text, facts


def import_anywhere(
    module: str, file: Path, data_dir: Path | None, config: Path | None
) -> ImportReport:
    """Replace a module's state by an export.

    Args:
        module: Its name.
        file: The export.
        data_dir: As named on the command line.
        config: As named on the command line.

    Raises:
        UsageError: The file is no export of this module, or nothing has been committed here.
        DataDirBusy: A host holds the data directory and does not answer.
    """
    if not file.is_file():
        raise UsageError(f"there is no file {file}", module=module, do="check the path")
    folder = find_data_dir(data_dir, config)
    try:
        with Client.find(folder) as client:
            return client.import_state(module, file)
    except HostNotFound:
        return _import_stopped(folder, module, file)


def last_snapshot(folder: Path, module: str) -> Snapshot:
    """Return a stopped module's last sound snapshot.

    Args:
        folder: The data directory.
        module: The module's name.

    Raises:
        UsageError: There is none.
    """
    recorded = read_recorded(folder / JOURNAL_FILE, module)
    refused = []
    for record in recorded.snapshots:
        try:
            return read(folder / SNAPSHOT_FOLDER / record.path, module=module)
        except SnapshotError as error:
            refused.append(error.what)
    none = f"no host runs on {folder}, and no snapshot of {module} is in it"
    raise UsageError(
        f"no state of {module} is known",
        found="; ".join(refused) or none,
        expected="a running host, or a snapshot that a stop has left",
        do=did_you_mean(module, set(read_modules(folder / JOURNAL_FILE)) - {module})
        or "name the data directory with --data-dir or --config",
    )


def _import_stopped(folder: Path, module: str, file: Path) -> ImportReport:
    """Write the state that the next start begins with; the queued messages stay."""
    if not (folder / JOURNAL_FILE).is_file():
        raise UsageError(f"no host has run on {folder}", module=module, do="run one first")
    lock = DataDirLock(folder)
    lock.acquire()
    try:
        committed = read_recorded(folder / JOURNAL_FILE, module).committed
        if committed is None:
            raise UsageError(
                "the module has never served here",
                module=module,
                found=f"no committed version in {folder}",
                do="run the host once, so that the code that the state fits is known",
            )
        given = read_document(file.read_bytes(), module)
        return asyncio.run(_write(folder, committed, given))
    finally:
        lock.release()


async def _write(folder: Path, committed: Committed, given: Snapshot) -> ImportReport:
    store = VersionStore(folder / "versions")
    version = store.get(committed.digest, source=Path(committed.source))
    with reading_version(version, committed.module) as code:
        definition = code.definition
        values, way = fit(given, code)
        taken = take(
            committed.module,
            values,
            definition.schema,
            label=definition.label,
            digest=committed.digest,
            hints=definition.hints,
            own=code.own,
        )
    journal = Journal(folder / JOURNAL_FILE)
    journal.open()
    try:
        try:
            before = last_snapshot(folder, committed.module)
        except UsageError:
            before = taken
        kept = msgspec.structs.replace(
            taken,
            messages=before.messages,
            inbox_position=before.inbox_position,
            taken_at=dt.datetime.now(dt.UTC).isoformat(timespec="microseconds"),
        )
        await StateKeeper(folder / SNAPSHOT_FOLDER, journal).write(kept, "import")
    finally:
        await journal.close()
    return ImportReport(
        module=committed.module,
        schema_from=given.schema.version,
        schema_to=kept.schema.version,
        records=kept.records,
        steps=way.steps,
    )


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that it is there whole or not at all, readable by its owner only.

    Args:
        path: Where.
        data: What.

    Raises:
        StorageError: The disk refuses.
    """
    fresh = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise StorageError(
            f"{path} cannot be written",
            found=error.strerror or str(error),
            do="make room, or write elsewhere",
        ) from error


__all__ = [
    "SNAPSHOT_FOLDER",
    "describe_anywhere",
    "export_anywhere",
    "import_anywhere",
    "last_snapshot",
    "write_whole",
]
