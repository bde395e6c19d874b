"""A frozen, versioned, class-free copy of a module's state, in memory and on disk.

A file is a magic line, a format number, and frames; each frame is its length, a checksum, and
MessagePack. The first frame is the header, the last one says how many there were, so a file that
ends early is told from one that is whole. Large dicts are written in frames of some thousand
items. A file appears under its name only when all of it is on disk.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import os
import struct
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

import msgspec

from replank.errors import MigrationError, SchemaError, SnapshotError
from replank.plain import digest
from replank.shapes import Schema
from replank.state.names import Namespace
from replank.state.tree import Trees, freeze
from replank.state.wire import WireReader, WireWriter, decode, encode, shared_nodes

MAGIC = b"replank-snapshot"
FORMAT = 1
CHUNK_ITEMS = 4096
_FRAME = struct.Struct(">I8s")
_VERSION = struct.Struct(">H")
_FRAME_BYTES_MAX = 1 << 31
_CACHE = "__replank_trees__"


class Snapshot(msgspec.Struct, frozen=True):
    """One module's state at one moment.

    `digest` is that of the code version; `records` counts the items of its containers;
    `taken_at` is UTC in ISO format; `messages` are queued messages as plain values.
    """

    module: str
    label: str
    digest: str
    schema: Schema
    tree: dict[str, Any]
    records: int
    taken_at: str
    messages: tuple[Any, ...] = ()


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

    Raises:
        MigrationError: A value cannot be taken apart.
    """
    trees = trees_of(hints or {}, own)
    named = {field.name for field in schema.fields}
    tree = trees.freeze({name: value for name, value in values.items() if name in named})
    return Snapshot(
        module=module,
        label=label,
        digest=digest,
        schema=schema,
        tree=tree,
        records=count_records(tree),
        taken_at=dt.datetime.now(dt.UTC).isoformat(timespec="microseconds"),
        messages=tuple(freeze(message, own=trees.own) for message in messages),
    )


def restore(
    tree: Mapping[str, Any],
    schema: Schema,
    *,
    hints: Mapping[str, Any],
    own: Namespace | None = None,
) -> dict[str, Any]:
    """Build a generation's values from a tree of its own schema.

    Args:
        tree: The state; it is not touched.
        schema: The generation's schema.
        hints: Resolved hint of each field.
        own: The generation's names; by default inferred from the hints.

    Returns:
        The values of the fields that the tree has; the others keep their defaults.

    Raises:
        MigrationError: A value does not fit its type; a field is missing or unknown.
    """
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
    return trees_of(hints, own).thaw(tree)


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
    temporary = path.with_name(f".{path.name}.{uuid4().hex[:8]}.tmp")
    try:
        with temporary.open("xb") as file:
            for frame in frames(snapshot):
                file.write(frame)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise SnapshotError(
            f"the snapshot {path.name} cannot be written",
            module=snapshot.module,
            found=f"{type(error).__name__}: {error}",
            expected="a folder with room that this process may write to",
            do="make room or mend the permissions; the last snapshot is untouched",
        ) from error
    except SnapshotError as error:
        error.module = error.module or snapshot.module
        raise
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def frames(snapshot: Snapshot) -> Iterator[bytes]:
    """Yield the parts of a snapshot's file, for a writer that works in slices.

    Raises:
        SnapshotError: The state holds something that cannot be on disk.
    """
    yield MAGIC + _VERSION.pack(FORMAT)
    count = 0
    for wire in _wires(snapshot):
        count += 1
        yield _frame(wire)
    yield _frame(["close", count])


def _wires(snapshot: Snapshot) -> Iterator[Any]:
    header = {
        "module": snapshot.module,
        "label": snapshot.label,
        "digest": snapshot.digest,
        "schema": snapshot.schema.to_dict(),
        "records": snapshot.records,
        "taken_at": snapshot.taken_at,
    }
    yield ["header", header]
    shared = shared_nodes([*snapshot.tree.values(), *snapshot.messages])
    writer = WireWriter(shared)
    for name, node in snapshot.tree.items():
        large = node.__class__ is dict and len(node) > CHUNK_ITEMS and id(node) not in shared
        if not large:
            yield ["field", name, writer.write(node, name)]
            continue
        yield ["field", name, {}]
        items = list(node.items())
        for first in range(0, len(items), CHUNK_ITEMS):
            part = items[first : first + CHUNK_ITEMS]
            keys = [writer.write(key, f"a key of {name}") for key, _ in part]
            yield ["items", name, keys, [writer.write(v, f"{name}[{k!r}]") for k, v in part]]
    for n, message in enumerate(snapshot.messages):
        yield ["message", writer.write(message, f"message {n}")]


def _frame(wire: Any) -> bytes:
    body = encode(wire)
    return _FRAME.pack(len(body), _checksum(body)) + body


def _checksum(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=8).digest()


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
    try:
        with path.open("rb") as file:
            snapshot = _Reading(file, path.name).snapshot()
    except OSError as error:
        raise SnapshotError(
            f"the snapshot {path.name} cannot be opened",
            module=module,
            found=f"{type(error).__name__}: {error}",
            do="use the snapshot before it",
        ) from error
    if module is not None and snapshot.module != module:
        raise SnapshotError(
            f"the snapshot {path.name} is another module's",
            module=module,
            found=f"state of {snapshot.module}",
            expected=f"state of {module}",
        )
    return snapshot


class _Reading:
    """Reads one file from its beginning to its end."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.file = file
        self.name = name
        self.reader = WireReader()
        self.tree: dict[str, Any] = {}
        self.messages: list[Any] = []

    def snapshot(self) -> Snapshot:
        self._check_format()
        kind, *rest = self._wire()
        if kind != "header":
            raise self._refuse("has no header", found=str(kind))
        header = rest[0]
        count = 1
        while True:
            kind, *rest = self._wire()
            if kind == "close":
                break
            self._take(kind, rest)
            count += 1
        if rest[0] != count or self.file.read(1):
            raise self._refuse("is corrupt: it has other frames than were written")
        try:
            schema = Schema.from_dict(header["schema"])
            return Snapshot(
                module=header["module"],
                label=header["label"],
                digest=header["digest"],
                schema=schema,
                tree=self.tree,
                records=header["records"],
                taken_at=header["taken_at"],
                messages=tuple(self.messages),
            )
        except (KeyError, TypeError, SchemaError) as error:
            raise self._refuse("has a header that cannot be read", found=str(error)) from error

    def _check_format(self) -> None:
        head = self.file.read(len(MAGIC) + _VERSION.size)
        if not head:
            raise self._refuse("is empty: it was truncated")
        if not MAGIC.startswith(head[: len(MAGIC)]):
            raise self._refuse(
                "is no snapshot of Replank", found=repr(head[:16]), expected=repr(MAGIC)
            )
        if len(head) < len(MAGIC) + _VERSION.size:
            raise self._refuse("is truncated in its first bytes")
        (version,) = _VERSION.unpack(head[len(MAGIC) :])
        if version > FORMAT:
            raise self._refuse(
                "was written by a newer Replank",
                found=f"format {version}",
                expected=f"format {FORMAT} or older",
                do="start the newer Replank again",
            )
        if version == 0:
            raise self._refuse("is torn: its format number was never written")

    def _wire(self) -> list[Any]:
        head = self.file.read(_FRAME.size)
        if len(head) < _FRAME.size:
            raise self._refuse("is truncated: it ends before its last frame")
        length, checksum = _FRAME.unpack(head)
        if length == 0 and checksum == bytes(8):
            raise self._refuse("is torn: a part of it was never written")
        if length > _FRAME_BYTES_MAX:
            raise self._refuse("is corrupt: a frame has an impossible length", found=f"{length}")
        body = self.file.read(length)
        if len(body) < length:
            raise self._refuse("is truncated: it ends inside a frame")
        if _checksum(body) != checksum:
            raise self._refuse("is corrupt: a checksum does not match")
        try:
            wire = decode(body)
        except msgspec.DecodeError as error:
            raise self._refuse("is corrupt: a frame cannot be decoded", found=str(error)) from error
        if not isinstance(wire, list) or not wire:
            raise self._refuse("is corrupt: a frame is not what was written")
        return wire

    def _take(self, kind: str, rest: list[Any]) -> None:
        if kind == "field":
            name, wire = rest
            self.tree[name] = self.reader.read(wire)
        elif kind == "items":
            name, keys, wires = rest
            node = self.tree[name]
            for key, wire in zip(keys, wires, strict=True):
                node[self.reader.read(key)] = self.reader.read(wire)
        elif kind == "message":
            self.messages.append(self.reader.read(rest[0]))
        else:
            raise self._refuse("has a frame of an unknown kind", found=str(kind))

    def _refuse(
        self, what: str, *, found: str | None = None, expected: str | None = None, do: str = ""
    ) -> SnapshotError:
        return SnapshotError(
            f"the snapshot {self.name} {what}",
            found=found,
            expected=expected,
            do=do or "use the snapshot before it",
        )


__all__ = [
    "FORMAT",
    "Snapshot",
    "count_records",
    "digest",
    "frames",
    "read",
    "restore",
    "take",
    "trees_of",
    "write",
]
