"""The file format of snapshots.

A file is a magic line, a format number, and frames; each frame is its length, a checksum, and
MessagePack. The first frame is the header, the last one says how many there were, so a file that
ends early is told from one that is whole. Large dicts are written in frames of some hundred
items.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, NamedTuple

import msgspec

from replank.errors import SchemaError, SnapshotError
from replank.shapes import Schema
from replank.state.wire import WireReader, WireWriter, decode, encode, shared_nodes

MAGIC = b"replank-snapshot"
FORMAT = 1
CHUNK_ITEMS = 256
"""Items in one frame: whoever reads one while calls go on is done in less than a millisecond."""
_FRAME = struct.Struct(">I8s")
_VERSION = struct.Struct(">H")
_FRAME_BYTES_MAX = 1 << 31


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
    inbox_position: int = 0


def frames(snapshot: Snapshot) -> Iterator[bytes]:
    """Yield the parts of a snapshot's file, for a writer that works in slices.

    Raises:
        SnapshotError: The state holds something that cannot be on disk.
    """
    yield from framed(_wires(snapshot))


def framed(wires: Iterable[Any]) -> Iterator[bytes]:
    """Yield the parts of a file around the wire forms of what is in it."""
    yield MAGIC + _VERSION.pack(FORMAT)
    count = 0
    for wire in wires:
        count += 1
        yield _frame(wire)
    yield _frame(["close", count])


def header_of(snapshot: Snapshot) -> list[Any]:
    """Return the wire form of all but the state and the messages."""
    header = {
        "module": snapshot.module,
        "label": snapshot.label,
        "digest": snapshot.digest,
        "schema": snapshot.schema.to_dict(),
        "records": snapshot.records,
        "taken_at": snapshot.taken_at,
        "inbox_position": snapshot.inbox_position,
    }
    return ["header", header]


def _wires(snapshot: Snapshot) -> Iterator[Any]:
    yield header_of(snapshot)
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


class Part(NamedTuple):
    """A field of a state, or some more items of one."""

    name: str
    node: Any
    more: bool = False
    """Whether `node` holds items that belong to the field of that name, which came before."""


class SnapshotReader:
    """Reads one file from its beginning to its end: `head` first, then all `parts`.

    Args:
        file: The file, at its beginning.
        name: Its name, for errors.
    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.file = file
        self.name = name
        self.reader = WireReader()
        self.messages: list[Any] = []

    def snapshot(self) -> Snapshot:
        """Read and check everything.

        Raises:
            SnapshotError: The file is not what `frames` made.
        """
        head = self.head()
        tree: dict[str, Any] = {}
        for part in self.parts():
            if part.more:
                tree[part.name].update(part.node)
            else:
                tree[part.name] = part.node
        return msgspec.structs.replace(head, tree=tree, messages=tuple(self.messages))

    def head(self) -> Snapshot:
        """Read all but the state and the messages.

        Raises:
            SnapshotError: The file does not begin as `frames` begins one.
        """
        with self._understanding():
            self._check_format()
            kind, *rest = self._wire()
            if kind != "header":
                raise self._refuse("has no header", found=str(kind))
            header = rest[0]
            return Snapshot(
                module=header["module"],
                label=header["label"],
                digest=header["digest"],
                schema=Schema.from_dict(header["schema"]),
                tree={},
                records=header["records"],
                taken_at=header["taken_at"],
                inbox_position=header.get("inbox_position", 0),
            )

    def parts(self) -> Iterator[Part]:
        """Yield the state part by part; the messages are there when it has ended.

        Raises:
            SnapshotError: The file is not what `frames` made; what was yielded before is worth
                nothing.
        """
        fields: set[str] = set()
        count = 1
        while True:
            with self._understanding():
                kind, *rest = self._wire()
                if kind == "close":
                    break
                part = self._part(kind, rest)
                if part is not None and part.more and part.name not in fields:
                    raise KeyError(part.name)
            count += 1
            if part is not None:
                fields.add(part.name)
                yield part
        with self._understanding():
            if rest[0] != count or self.file.read(1):
                raise self._refuse("is corrupt: it has other frames than were written")

    @contextmanager
    def _understanding(self) -> Iterator[None]:
        try:
            yield
        except (IndexError, KeyError, TypeError, ValueError, SchemaError) as error:
            text = f"{type(error).__name__}: {error}"
            raise self._refuse("has frames that cannot be understood", found=text) from error

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

    def _part(self, kind: str, rest: list[Any]) -> Part | None:
        read = self.reader.read
        if kind == "field":
            name, wire = rest
            return Part(name, read(wire))
        if kind == "items":
            name, keys, wires = rest
            pairs = zip(keys, wires, strict=True)
            return Part(name, {read(key): read(wire) for key, wire in pairs}, more=True)
        if kind == "message":
            self.messages.append(read(rest[0]))
            return None
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
    "CHUNK_ITEMS",
    "FORMAT",
    "MAGIC",
    "Part",
    "Snapshot",
    "SnapshotReader",
    "framed",
    "frames",
    "header_of",
]
