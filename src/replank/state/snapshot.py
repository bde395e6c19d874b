"""Take a class-free copy of a module's state, build a state from one, keep it on disk.

A file appears under its name only when all of it is on disk (`replank.state.format` says what is
in it).
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

from replank.errors import MigrationError, SnapshotError
from replank.plain import digest
from replank.shapes import Schema
from replank.state.format import Snapshot, SnapshotReader, frames
from replank.state.memo import Memo
from replank.state.names import Namespace
from replank.state.tree import Trees, freeze

_CACHE = "__replank_trees__"


def take(
    module: str,
    values: Mapping[str, Any],
    schema: Schema,
    *,
    hints: Mapping[str, Any] | None = None,
    label: str = "",
    digest: str = "",
    own: Namespace | None = None,
    messages: Iterable[Any] = (),
    inbox_position: int = 0,
    met: Memo | None = None,
) -> Snapshot:
    """Freeze a module's state.

    Args:
        module: The module's name.
        values: The state, field by field; what the schema does not describe is left out.
        schema: Its schema.
        hints: Resolved hint of each field; without them all is frozen by what it is.
        label: The author's version label.
        digest: Digest of the code version.
        own: The generation's names; by default inferred from the hints.
        messages: Queued messages; frozen too.
        inbox_position: Of the last message that the state has seen.
        met: Filled with the node of each object, by its id.

    Raises:
        MigrationError: A value cannot be taken apart.
    """
    trees = trees_of(hints or {}, own)
    named = {field.name for field in schema.fields}
    tree = trees.freeze({name: value for name, value in values.items() if name in named}, met)
    return Snapshot(
        module=module,
        label=label,
        digest=digest,
        schema=schema,
        tree=tree,
        records=count_records(tree),
        taken_at=dt.datetime.now(dt.UTC).isoformat(timespec="microseconds"),
        messages=tuple(freeze(message, own=trees.own) for message in messages),
        inbox_position=inbox_position,
    )


def restore(
    tree: Mapping[str, Any],
    schema: Schema,
    *,
    hints: Mapping[str, Any],
    own: Namespace | None = None,
    known: Memo | None = None,
) -> dict[str, Any]:
    """Build a generation's values from a tree of its own schema.

    Args:
        tree: The state; it is not touched.
        schema: The generation's schema.
        hints: Resolved hint of each field.
        own: The generation's names; by default inferred from the hints.
        known: Objects that exist already, by the ids of their nodes.

    Returns:
        The values of the fields that the tree has; the others keep their defaults.

    Raises:
        MigrationError: A value does not fit its type; a field is missing or unknown.
    """
    check_fields(tree, schema)
    return trees_of(hints, own).thaw(tree, known)


def check_fields(found: Iterable[str], schema: Schema) -> None:
    """Check that a state has the fields of a schema, but for those with a default.

    Args:
        found: The names of its fields.
        schema: The generation's schema.

    Raises:
        MigrationError: A field is missing or unknown.
    """
    tree = frozenset(found)
    named = {field.name: field for field in schema.fields}
    unknown = sorted(name for name in tree if name not in named)
    if unknown:
        raise MigrationError(
            f"the state has fields that the new version does not: {', '.join(unknown)}",
            found=", ".join(sorted(tree)),
            expected=", ".join(named) or "no state",
            do="remove or rename them in a step",
        )
    missing = sorted(name for name, field in named.items() if field.required and name not in tree)
    if missing:
        raise MigrationError(
            f"the state lacks fields that have no default: {', '.join(missing)}",
            found=", ".join(sorted(tree)) or "no state",
            expected=", ".join(named),
            do="add them in a step, or give them a default",
        )


def trees_of(hints: Mapping[str, Any], own: Namespace | None = None) -> Trees:
    """Return the compiled functions for a generation's state.

    They are kept in the generation's own module, so that they live exactly as long as it does.

    Args:
        hints: Resolved hint of each field; the same object finds the same functions.
        own: The generation's names; by default inferred from the hints.
    """
    own = own or Namespace.of_hints(hints.values())
    module = sys.modules.get(own.root or "")
    if module is None:
        return Trees(hints, own)
    kept: dict[int, Trees] = module.__dict__.setdefault(_CACHE, {})
    found = kept.get(id(hints))
    if found is None or found.hints is not hints:
        found = kept[id(hints)] = Trees(hints, own)
    return found


def count_records(tree: Mapping[str, Any]) -> int:
    """Count the items of a state's containers."""
    total = 0
    for node in tree.values():
        if isinstance(node, dict) and "pairs" in node and node.get("$type") == "$map":
            total += len(node["pairs"])
        elif isinstance(node, dict | list | set | frozenset):
            total += len(node)
    return total


# -- on disk


def write(snapshot: Snapshot, path: str | Path) -> None:
    """Write a snapshot; on return it is durable under its name, or nothing changed.

    Args:
        snapshot: What to write.
        path: Where; an existing file is replaced at once.

    Raises:
        SnapshotError: The state holds something that cannot be on disk, or the disk refuses.
    """
    path = Path(path)
    temporary = temporary_of(path)
    try:
        with disk_errors(path.name, snapshot.module):
            write_frames(frames(snapshot), temporary)
            publish(temporary, path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def temporary_of(path: Path) -> Path:
    """Return a name beside a file under which it can be written; `StateKeeper.sweep` knows it."""
    return path.with_name(f".{path.name}.{uuid4().hex[:8]}.tmp")


def write_frames(parts: Iterable[bytes], temporary: Path) -> None:
    """Write the parts of a file, durable on return, under a name that nobody reads yet.

    Args:
        parts: Of the file.
        temporary: From `temporary_of`; it must not exist.
    """
    with temporary.open("xb") as file:
        for part in parts:
            file.write(part)
        file.flush()
        os.fsync(file.fileno())


def publish(temporary: Path, path: Path) -> None:
    """Give a file that is all on the disk its name, durable on return.

    Args:
        temporary: What was written.
        path: Its name; an existing file is replaced at once.
    """
    temporary.replace(path)
    _sync_folder(path.parent)


@contextlib.contextmanager
def disk_errors(name: str, module: str) -> Iterator[None]:
    """Say what the disk refuses in our words, and whose state it was.

    Args:
        name: Of the file that is written.
        module: Whose state it is.

    Raises:
        SnapshotError: The disk refused, or the state cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise SnapshotError(
            f"the snapshot {name} cannot be written",
            module=module,
            found=f"{type(error).__name__}: {error}",
            expected="a folder with room that this process may write to",
            do="make room or mend the permissions; the last snapshot is untouched",
        ) from error
    except SnapshotError as error:
        error.module = error.module or module
        raise


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read(path: str | Path, *, module: str | None = None) -> Snapshot:
    """Read a snapshot that `write` wrote.

    Args:
        path: The file.
        module: Refuse the snapshot of another module.

    Raises:
        SnapshotError: There is none; it is foreign, of a newer format, truncated, torn or
            corrupt, or another module's.
    """
    path = Path(path)
    with opened(path, module) as reader:
        snapshot = reader.snapshot()
    if module is not None and snapshot.module != module:
        raise SnapshotError(
            f"the snapshot {path.name} is another module's",
            module=module,
            found=f"state of {snapshot.module}",
            expected=f"state of {module}",
        )
    return snapshot


@contextlib.contextmanager
def opened(path: Path, module: str | None = None) -> Iterator[SnapshotReader]:
    """Lend a reader of a file.

    Args:
        path: The file.
        module: Whose state it is, for errors.

    Raises:
        SnapshotError: There is none, or the disk refuses.
    """
    try:
        with path.open("rb") as file:
            yield SnapshotReader(file, path.name)
    except OSError as error:
        raise SnapshotError(
            f"the snapshot {path.name} cannot be opened",
            module=module,
            found=f"{type(error).__name__}: {error}",
            do="use the snapshot before it",
        ) from error


__all__ = [
    "Snapshot",
    "check_fields",
    "count_records",
    "digest",
    "disk_errors",
    "frames",
    "opened",
    "publish",
    "read",
    "restore",
    "take",
    "temporary_of",
    "trees_of",
    "write",
    "write_frames",
]
