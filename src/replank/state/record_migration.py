"""Migrations of single records, compiled: what a window runs on each item of a table.

`up(old) -> new` and `down(new, old or None) -> old` are written as plain straight-line functions,
all steps of the path fused; `check(old, new)` tells whether going down gives the old record back.
They do exactly what the tree engine does with a table of one item (a property test holds them
together), without making a tree on the way. Laws, for every record:

    GetPut  down(up(o), o) == o       nothing is lost by going up and coming back
    PutGet  up(down(n, o)) == n       what the new version wrote survives the way down
    Create  up(down(n, None)) == n    also for records that the old version never saw

PutGet and Create hold for what the old schema has room for; the rest is parked by the follower.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from replank.errors import MigrationError
from replank.hints import SETS, read_form, record_fields, record_flavour
from replank.migration.conversions import Convert
from replank.migration.engine import Migration
from replank.migration.operations import Operation, Rename
from replank.migration.reshaping import Move
from replank.state.items import ITEM, Interpreted, Named, interpreted
from replank.state.record_generic import Generic
from replank.state.record_source import Compiler
from replank.state.tree import Trees


@dataclass(frozen=True, slots=True)
class RecordMigration:
    """How one record of a table gets to the other schema and back.

    `down` and `check` are None when a step has no way down. `source` is the generated code.
    `isolated` tells whether a record cannot refer to another one: otherwise records must be
    migrated together, or what they share is doubled.
    """

    old_field: str
    new_field: str
    up: Callable[[Any], Any]
    down: Callable[[Any, Any], Any] | None
    check: Callable[[Any, Any], bool] | None
    source: str
    isolated: bool
    lossy: bool
    walker: Interpreted


def record_migration(
    migration: Migration, field: str, old: Trees, new: Trees
) -> RecordMigration | None:
    """Compile a migration for the records of one table.

    Args:
        migration: The way between the schemas.
        field: The table's name in the old schema.
        old: The old generation's types.
        new: The new generation's types.

    Returns:
        The compiled functions, or None when a step makes the table out of more than each of its
        records: then the whole state has to be migrated at once.
    """
    walker = interpreted(migration, field, old, new)
    if walker is None:
        return None
    operations, hints = walker.forward, [walker.old[1], walker.new[1]]
    if all(record_flavour(read_form(hint).cls) not in (None, "typeddict") for hint in hints):
        try:
            up, down, check, source = _compile(operations, walker, old, new, hints)
        except KeyError as missing:
            raise MigrationError(
                f"a step names {missing}, which the records of {field} do not have",
                expected="steps that fit the schemas",
            ) from None
    else:
        up, source = walker.up, "# interpreted: the items are no records"
        down = walker.down if walker.backward is not None else None
        check = walker.check if walker.backward is not None else None
    return RecordMigration(
        old_field=field,
        new_field=walker.fields[1],
        up=up,
        down=down,
        check=check,
        source=source,
        isolated=_isolated(hints[0], set()),
        lossy=any(operation.lossy for _, operation in operations),
        walker=walker,
    )


def _isolated(hint: Any, seen: set[Any]) -> bool:
    """Tell whether values of a hint hold nothing that another record could hold too."""
    form = read_form(hint)
    if form.kind in ("any", "object", "carry", "foreign"):
        return False
    if form.kind == "record":
        if form.cls in seen:
            return False
        return all(_isolated(field.hint, {*seen, form.cls}) for field in record_fields(form.cls))
    return form.kind in SETS or all(_isolated(arg, seen) for arg in form.args)


def _compile(
    operations: list[Named], walker: Interpreted, old: Trees, new: Trees, hints: list[Any]
) -> tuple[Any, Any, Any, str]:
    """Write and compile the three functions."""
    classes = [read_form(hint).cls for hint in hints]
    flat = [op if _is_flat(op) else Generic(op, walker.fields) for _, op in operations]
    inner = [op for op in flat if not (isinstance(op, Rename) and not op.segments)]
    compiler = Compiler((old, classes[0]), (new, classes[1]), inner)
    up, up_source = compiler.up(_explained(walker.up))
    if walker.backward is None:
        return up, None, None, up_source
    down, down_source = compiler.down(_explained(walker.down))
    check, check_source = compiler.check(walker.check)
    return up, down, check, f"{up_source}\n\n{down_source}\n\n{check_source}"


def _is_flat(operation: Operation) -> bool:
    """Tell whether an operation works on the record's own fields."""
    if not operation.segments:
        return True  # the table's own name
    if isinstance(operation, Convert):
        return len(operation.segments) == 3 and operation.segments[2] != ITEM  # noqa: PLR2004
    if isinstance(operation, Move):
        return False
    return len(operation.segments) == 2  # noqa: PLR2004 - the table and `*`


def _explained(interpreted: Callable[..., Any]) -> Callable[..., MigrationError]:
    """Return what turns any failure of compiled code into the tree engine's error."""

    def explain(error: Exception, *records: Any) -> MigrationError:
        try:
            interpreted(*records)
        except MigrationError as told:
            return told
        return MigrationError(
            f"a compiled step raised {type(error).__name__}: {error}",
            expected="a step that does the same each time it is called",
        )

    return explain


__all__ = ["RecordMigration", "record_migration"]
