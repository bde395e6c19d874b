"""A module's state as a document: taken out, looked at, and put in again.

A document is JSON without classes, with the schema that it fits: whoever has it needs no code to
read it. What goes in is brought to the schema of the code that serves and built completely before
anything is replaced.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping
from itertools import islice
from typing import Any, Final, Protocol

import msgspec

from replank.definition import Definition
from replank.errors import SnapshotError, UsageError
from replank.hints import read_form
from replank.migration.engine import Migration, find_path, steps_of
from replank.plain import SCALAR_TYPES
from replank.shapes import Schema
from replank.state.format import Snapshot
from replank.state.holder import Holder
from replank.state.memo import Conflict, new_memo
from replank.state.names import Namespace
from replank.state.snapshot import count_records, restore, take, trees_of
from replank.state.wire import WireWriter, encode, shared_nodes
from replank.table import Table

_SAMPLE: Final = 200
_ITEMS_A_STEP: Final = 16
_CONTAINERS: Final = (dict, list, set, frozenset, tuple, Table)


class Code(Protocol):
    """What a state is fitted to: the code's definition and its own names."""

    @property
    def definition(self) -> Definition:
        """What was read from it."""

    @property
    def own(self) -> Namespace:
        """The names that are its own."""


class FieldState(msgspec.Struct, frozen=True, kw_only=True):
    """What one field holds."""

    name: str
    type: str
    items: int | None = None
    """Of a container."""
    bytes_estimate: int = 0
    """As a snapshot, by a sample of its items."""
    carried: bool = False
    """Handed over as it is: never in a snapshot or an export."""


class StateReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a module's state holds."""

    module: str
    label: str
    schema: int
    fingerprint: str
    records: int
    fields: tuple[FieldState, ...]
    taken_at: str = ""
    """When it was written, of a stopped host; "" for what lives."""


class ImportReport(msgspec.Struct, frozen=True, kw_only=True):
    """What an import did."""

    module: str
    schema_from: int
    schema_to: int
    records: int
    steps: tuple[str, ...] = ()
    pause_s: float = 0.0
    """How long calls could not enter, in seconds; 0 on a stopped host."""
    warnings: tuple[str, ...] = ()


# -- in


def fit(snapshot: Snapshot, code: Code) -> tuple[dict[str, Any], Migration]:
    """Bring a snapshot to the code that serves, and build all its values; nothing is replaced.

    Args:
        snapshot: The state to put in.
        code: That of the generation that shall hold it.

    Returns:
        Every field that is not carried with its new value, and the way it took.

    Raises:
        UsageError: The snapshot's schema is newer than the code's.
        SchemaError: No steps lead from its schema to the code's.
        MigrationError: A step failed, or a value does not fit its type.
    """
    way = way_to(snapshot, code)
    definition = code.definition
    tree = way.upgrade(snapshot.tree)
    built = restore(tree, definition.schema, hints=definition.hints, own=code.own)
    return completed(built, code), way


def way_to(snapshot: Snapshot, code: Code) -> Migration:
    """Find the way from a snapshot's schema to the code's.

    Args:
        snapshot: The state to put in; its tree is not needed.
        code: That of the generation that shall hold it.

    Raises:
        UsageError: The snapshot's schema is newer than the code's.
        SchemaError: No steps lead from its schema to the code's.
    """
    definition = code.definition
    schema = definition.schema
    if snapshot.schema.version > schema.version:
        raise UsageError(
            "the state is newer than the code",
            module=definition.name,
            found=f"schema {snapshot.schema.version}",
            expected=f"schema {schema.version} or older",
            serves=f"{definition.name} {definition.label} with the state as it was",
            do="reload the newer version first",
        )
    return find_path(snapshot.schema, schema, steps_of(definition), module=definition.name)


def completed(built: dict[str, Any], code: Code) -> dict[str, Any]:
    """Return built values with the defaults of the fields that the state did not have.

    Args:
        built: The values of the fields that it had.
        code: That of the generation that shall hold them.
    """
    definition = code.definition
    carried = set(definition.carried)
    fresh = {
        name: type(value)() if definition.shape == "file" and type(value) in _CONTAINERS else value
        for name, value in definition.fresh_defaults()
        if name not in carried
    }
    return fresh | built


# -- looking


def freeze_in_slices(holder: Holder) -> Generator[None, None, dict[str, Any]]:
    """Copy a live state piece by piece; each record is whole, but not all are of one moment.

    Args:
        holder: The generation that serves.

    Returns:
        The tree: for laws that hold for each record, and for sizes; never for a restore.

    Raises:
        MigrationError: A value cannot be taken apart.
    """
    definition = holder.definition
    trees = trees_of(definition.hints, holder.own)
    kept: list[Any] = []  # what is replaced meanwhile must live on: the memo knows it by its id
    memo = new_memo(kept)
    tree: dict[str, Any] = {}
    try:
        for name, value in _snapshotted(holder).items():
            hint = definition.hints.get(name, Any)
            kept.append(value)
            if _in_pieces(value, hint):
                walk = trees.freezer.walk(read_form(hint).args[1])
                tree[name] = yield from _pieces(value, walk, memo, kept)
            else:
                tree[name] = trees.freezer.walk(hint)(value, memo)
                yield
    except Conflict:
        # One list in two fields with different types of items: rare, and then all at once.
        return trees.freeze(_snapshotted(holder))
    return tree


def _in_pieces(value: Any, hint: Any) -> bool:
    form = read_form(hint)
    if form.kind not in ("dict", "table") or not isinstance(value, dict | Table):
        return False
    return len(value) > _ITEMS_A_STEP and type(next(iter(value))) in SCALAR_TYPES


def _pieces(
    value: Any, walk: Callable[[Any, Any], Any], memo: Any, kept: list[Any]
) -> Generator[None, None, dict[Any, Any]]:
    node: dict[Any, Any] = {}
    for number, key in enumerate(list(value)):
        if number % _ITEMS_A_STEP == 0:
            yield
        if type(key) in SCALAR_TYPES and key in value:
            item = value[key]
            kept.append(item)
            node[key] = walk(item, memo)
    return node


def describe_state(holder: Holder) -> StateReport:
    """Say what a live state holds; looks at a few items of each field.

    Args:
        holder: The generation that serves.
    """
    definition = holder.definition
    trees = trees_of(definition.hints, holder.own)
    carried = set(definition.carried)
    fields = []
    for name, value in holder.values().items():
        if name in carried:
            fields.append(FieldState(name=name, type="carried", carried=True))
            continue
        part, count = _sampled(value)
        node = trees.freeze({name: part})[name]
        fields.append(_field_state(name, definition.schema, node, count))
    return StateReport(
        module=definition.name,
        label=definition.label,
        schema=definition.schema.version,
        fingerprint=definition.schema.fingerprint,
        records=sum(one.items or 0 for one in fields),
        fields=tuple(fields),
    )


def describe_snapshot(snapshot: Snapshot) -> StateReport:
    """Say what a snapshot holds.

    Args:
        snapshot: From the disk.
    """
    return StateReport(
        module=snapshot.module,
        label=snapshot.label,
        schema=snapshot.schema.version,
        fingerprint=snapshot.schema.fingerprint,
        records=snapshot.records,
        fields=tuple(
            _field_state(name, snapshot.schema, *_sampled(node))
            for name, node in snapshot.tree.items()
        ),
        taken_at=snapshot.taken_at,
    )


def _snapshotted(holder: Holder) -> dict[str, Any]:
    named = {field.name for field in holder.definition.schema.fields}
    return {name: value for name, value in holder.values().items() if name in named}


def _sampled(value: Any) -> tuple[Any, int | None]:
    """Return the first items of a container, and how many it has."""
    if isinstance(value, Table):
        # A table again: a value of another class than its type says takes more room.
        return Table(dict(islice(value.items(), _SAMPLE))), len(value)
    if not isinstance(value, dict | list | set | frozenset):
        return value, None
    if len(value) <= _SAMPLE or type(value) not in (dict, list, set, frozenset):
        return value, len(value)
    if isinstance(value, dict):
        return dict(islice(value.items(), _SAMPLE)), len(value)
    return type(value)(islice(value, _SAMPLE)), len(value)


def _field_state(name: str, schema: Schema, node: Any, count: int | None) -> FieldState:
    try:
        size = len(encode(WireWriter(shared_nodes([node])).write(node, name)))
    except SnapshotError:
        size = 0  # what cannot be on disk has no size there
    if count is not None and count > _SAMPLE and isinstance(node, dict | list | set | frozenset):
        size = math.ceil(size * count / max(1, len(node)))
    field = schema.field(name)
    shape = "?" if field is None else str(field.shape)
    return FieldState(name=name, type=shape, items=count, bytes_estimate=size)


def snapshot_of(holder: Holder, digest: str, tree: Mapping[str, Any] | None = None) -> Snapshot:
    """Return a live state as a snapshot.

    Args:
        holder: The generation that serves.
        digest: Digest of its version.
        tree: The state when it has been copied already; else it is copied here, at once.

    Raises:
        MigrationError: A value cannot be taken apart.
    """
    definition = holder.definition
    values = {} if tree is not None else _snapshotted(holder)
    taken = take(
        definition.name,
        values,
        definition.schema,
        label=definition.label,
        digest=digest,
        hints=definition.hints,
        own=holder.own,
    )
    if tree is None:
        return taken
    copied = dict(tree)
    return msgspec.structs.replace(taken, tree=copied, records=count_records(copied))


__all__ = [
    "FieldState",
    "ImportReport",
    "StateReport",
    "completed",
    "describe_snapshot",
    "describe_state",
    "fit",
    "freeze_in_slices",
    "snapshot_of",
    "way_to",
]
