"""A module's state as a JSON document without classes, with the schema that it fits.

Whoever has a document needs no code to read it; what JSON has no word for is an object with the
key `$`, as in the files of snapshots.
"""

from __future__ import annotations

import base64
import math
from typing import Any, Final

import msgspec

from replank.errors import SchemaError, SnapshotError, UsageError
from replank.shapes import Schema, make_schema
from replank.state.format import Snapshot
from replank.state.snapshot import count_records
from replank.state.wire import TAG, WireReader, WireWriter, shared_nodes

KIND: Final = "replank state"
FORMAT: Final = 1


class Document(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An exported state."""

    kind: str
    format: int
    module: str
    label: str
    digest: str
    """Of the code version whose state it is."""
    taken_at: str
    records: int
    fingerprint: str
    schema: dict[str, Any]
    state: dict[str, Any]


def write_document(snapshot: Snapshot) -> bytes:
    """Return a snapshot as JSON.

    Args:
        snapshot: What to write; queued messages are no state and stay behind.

    Raises:
        SnapshotError: The state holds something that exists in one process only.
    """
    writer = WireWriter(shared_nodes(list(snapshot.tree.values())))
    document = Document(
        kind=KIND,
        format=FORMAT,
        module=snapshot.module,
        label=snapshot.label,
        digest=snapshot.digest,
        taken_at=snapshot.taken_at,
        records=snapshot.records,
        fingerprint=snapshot.schema.fingerprint,
        schema=_to_json(snapshot.schema.to_dict()),
        state={name: _to_json(writer.write(node, name)) for name, node in snapshot.tree.items()},
    )
    return msgspec.json.encode(document)


def read_document(text: bytes, module: str) -> Snapshot:
    """Return the snapshot that a document holds.

    Args:
        text: The JSON.
        module: Whose state it has to be.

    Raises:
        UsageError: It is no export, another module's, or one of a newer Replank.
    """
    try:
        document = msgspec.json.decode(text, type=Document)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _refused("this is no exported state", module, str(error)) from error
    if document.kind != KIND or document.format > FORMAT:
        raise _refused(
            "this export was written by a newer Replank" if document.kind == KIND
            else "this is no exported state",
            module, f"{document.kind}, format {document.format}", f"{KIND}, format {FORMAT}",
        )  # fmt: skip
    if document.module != module:
        raise _refused("this is the state of another module", module, document.module, module)
    try:
        found = Schema.from_dict(_from_json(document.schema))
        schema = make_schema(found.version, found.fields, found.records)
        reader = WireReader()
        tree = {name: reader.read(_from_json(wire)) for name, wire in document.state.items()}
    except (SchemaError, SnapshotError, TypeError, ValueError, KeyError) as error:
        raise _refused("this export cannot be understood", module, str(error)) from error
    if schema.fingerprint != document.fingerprint:
        raise _refused(
            "the schema of this export is not the one it was written with",
            module,
            schema.fingerprint,
            document.fingerprint,
        )
    return Snapshot(
        module=module,
        label=document.label,
        digest=document.digest,
        schema=schema,
        tree=tree,
        records=count_records(tree),
        taken_at=document.taken_at,
    )


def _refused(
    what: str, module: str, found: str, expected: str = "what `replank state export` wrote"
) -> UsageError:
    return UsageError(
        what,
        module=module,
        found=found,
        expected=expected,
        serves="the state as it was",
        do="name an export of this module",
    )


# -- JSON has neither bytes nor all floats


def _to_json(wire: Any) -> Any:
    cls = wire.__class__
    if cls is dict:
        return {key: _to_json(value) for key, value in wire.items()}
    if cls is list or cls is tuple:
        return [_to_json(value) for value in wire]
    if cls is bytes:
        return {TAG: "bytes", "v": base64.b64encode(wire).decode()}
    if cls is float and not math.isfinite(wire):
        return {TAG: "float", "v": repr(wire)}
    return wire


def _from_json(wire: Any) -> Any:
    if isinstance(wire, list):
        return [_from_json(value) for value in wire]
    if not isinstance(wire, dict):
        return wire
    if wire.get(TAG) == "bytes":
        return base64.b64decode(wire["v"])
    if wire.get(TAG) == "float":
        return float(wire["v"])
    return {key: _from_json(value) for key, value in wire.items()}


__all__ = ["Document", "read_document", "write_document"]
