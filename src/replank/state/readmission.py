"""Bring records from the quarantine to the schema of the code that serves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from replank.definition import Definition
from replank.errors import MigrationError, UsageError
from replank.hints import MAPPINGS, read_form
from replank.migration.engine import Migration, find_path, steps_of
from replank.plain import same
from replank.state.bad_policy import BadRecord
from replank.state.items import Interpreted, local_operations
from replank.state.memo import new_memo
from replank.state.names import Namespace
from replank.state.quarantine import Batch
from replank.state.snapshot import trees_of

Readmit = Callable[[BadRecord], tuple[str, Any, Any]]
"""Return the field, the key and the record as the code that serves has them."""


def readmitting(batch: Batch, definition: Definition, own: Namespace) -> Readmit:
    """Find the way of a batch's records to the code that serves.

    Args:
        batch: What is kept.
        definition: That of the generation that serves.
        own: Its names.

    Returns:
        A function for each record; it raises a MigrationError when the record fails still.

    Raises:
        SchemaError: No steps lead from the records' schema to the code's.
        UsageError: The records are newer than the code.
    """
    if batch.schema.version > definition.schema.version:
        raise UsageError(
            "the records are newer than the code",
            module=definition.name,
            found=f"records of schema {batch.schema.version}",
            expected=f"schema {definition.schema.version} or older",
            do="reload the newer version first",
        )
    migration = find_path(
        batch.schema, definition.schema, steps_of(definition), module=definition.name
    )
    trees = trees_of(definition.hints, own)

    def readmit(one: BadRecord) -> tuple[str, Any, Any]:
        operations, field = _way(migration, one, definition)
        hint = definition.hints[field]
        key_hint, item = read_form(hint).args
        way = Interpreted(operations, one.table, field, (trees, item), (trees, item))
        key = trees.thawer.walk(key_hint)(one.key, new_memo())
        node = way.up_node(one.value)
        record = way.thaw(node)
        if way.backward is not None and not same(way.down_node(node, one.value), one.value):
            raise MigrationError(
                "the record does not come back the same by going up and down",
                do="correct the step's two directions, or declare the conversion lossy=True",
            )
        return field, key, record

    return readmit


def _way(migration: Migration, one: BadRecord, definition: Definition) -> Any:
    found = local_operations(migration.forward, one.table)
    if found is None:
        raise MigrationError(
            f"a step makes {one.table} out of more than each of its records",
            expected="steps that take one record at a time",
            do="write the record with a call of the module, then discard this copy",
        )
    hint = definition.hints.get(found[1])
    if hint is None or read_form(hint).kind not in MAPPINGS:
        raise MigrationError(
            f"the code that serves has no {one.table} any more",
            found=", ".join(definition.state_names),
            do="discard the record",
        )
    return found


__all__ = ["Readmit", "readmitting"]
