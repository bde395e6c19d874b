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
from replank.hints import MAPPINGS, SETS, read_form, record_fields, record_flavour
from replank.migration.conversions import Apply, Convert, Rekey
from replank.migration.engine import Migration
from replank.migration.operations import Operation, Parked, Rename, Run
from replank.migration.reshaping import Move
from replank.state.building import Mismatch
from replank.state.memo import new_memo
from replank.state.record_generic import Generic
from replank.state.record_source import Compiler
from replank.state.tree import Trees, mismatch_error

_ITEM = "*"

Named = tuple[str, Operation]


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
    local = _local(migration.forward, field)
    if local is None:
        return None
    operations, new_field = local
    if field not in old.hints or new_field not in new.hints:
        return None
    hints = [_item_hint(old.hints[field]), _item_hint(new.hints[new_field])]
    if None in hints:
        return None
    walker = _Interpreted(operations, field, new_field, (old, hints[0]), (new, hints[1]))
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
        new_field=new_field,
        up=up,
        down=down,
        check=check,
        source=source,
        isolated=_isolated(hints[0], set()),
        lossy=any(operation.lossy for _, operation in operations),
    )


def _item_hint(hint: Any) -> Any:
    form = read_form(hint)
    return form.args[1] if form.kind in MAPPINGS else None


def _local(forward: tuple[Named, ...], field: str) -> tuple[list[Named], str] | None:
    """Return the operations on the table's items, and the table's new name."""
    chosen: list[Named] = []
    for name, operation in forward:
        touched = _touched(operation)
        if touched is None:
            return None
        if field not in touched:
            continue
        if isinstance(operation, Rename) and not operation.segments:
            if operation.name == field:
                chosen.append((name, operation))
                field = operation.to
            continue
        if isinstance(operation, Rekey) and len(operation.segments) == 1:
            return None
        if operation.segments[:1] != (field,) or operation.segments[1:2] != (_ITEM,):
            return None
        chosen.append((name, operation))
    return chosen, field


def _touched(operation: Operation) -> set[str] | None:
    """Return the state fields that an operation reads or writes; None for all of them."""
    if isinstance(operation, Apply):
        return None
    if operation.segments:
        return {operation.segments[0]}
    if getattr(operation, "compute", None) is not None:
        return None  # the function gets the whole state
    if isinstance(operation, Move):
        return {(*operation.source, operation.name)[0], (*operation.target, operation.to)[0]}
    named = {getattr(operation, word, None) for word in ("name", "to")}
    listed = (*getattr(operation, "names", ()), *_listed(operation))
    return {name for name in (*named, *listed) if name is not None}


def _listed(operation: Operation) -> tuple[str, ...]:
    into: str | tuple[str, ...] = getattr(operation, "into", ())
    return (into,) if isinstance(into, str) else into


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


class _Interpreted:
    """The tree engine on a table of one item: for items that are no records, and for errors."""

    def __init__(
        self,
        operations: list[Named],
        old_field: str,
        new_field: str,
        old: tuple[Trees, Any],
        new: tuple[Trees, Any],
    ) -> None:
        self.forward = operations
        inverse = [(name, operation.inverse()) for name, operation in operations[::-1]]
        self.backward: list[Named] | None = [(n, op) for n, op in inverse if op is not None]
        if len(self.backward) < len(inverse):
            self.backward = None
        self.fields = (old_field, new_field)
        self.old, self.new = old, new

    def up(self, record: Any) -> Any:
        node, _ = self._run(self.forward, self._freeze(self.old, record), 0, None)
        return self._thaw(self.new, node, 1)

    def down(self, record: Any, before: Any = None) -> Any:
        return self._thaw(self.old, self._down_node(record, before), 0)

    def check(self, before: Any, record: Any) -> bool:
        try:
            return bool(self._down_node(record, before) == self._freeze(self.old, before))
        except MigrationError:
            return False

    def _down_node(self, record: Any, before: Any) -> Any:
        assert self.backward is not None, "this migration has no way down"
        parked = None
        if before is not None:
            parked = self._run(self.forward, self._freeze(self.old, before), 0, None)[1][::-1]
        return self._run(self.backward, self._freeze(self.new, record), 1, parked)[0]

    def _run(
        self, operations: list[Named], node: Any, side: int, parked: list[Parked] | None
    ) -> tuple[Any, list[Parked]]:
        tree: dict[str, Any] = {self.fields[side]: {_ITEM: node}}
        lost: list[Parked] = []
        seen: dict[tuple[int, str], tuple[Any, Operation]] = {}
        current = ""
        for n, (name, operation) in enumerate(operations):
            if name != current:
                current, seen = name, {}
            run = Run(name, parked[n] if parked else None, seen)
            tree = operation.apply(tree, run)
            lost.append(run.parked)
        return tree[self.fields[1 - side]][_ITEM], lost

    def _freeze(self, side: tuple[Trees, Any], record: Any) -> Any:
        trees, hint = side
        return trees.freezer.walk(hint)(record, new_memo())

    def _thaw(self, side: tuple[Trees, Any], node: Any, which: int) -> Any:
        trees, hint = side
        try:
            return trees.thawer.walk(hint)(node, new_memo())
        except Mismatch as error:
            error.at(f"{self.fields[which]}[*]")
            raise mismatch_error(error) from None


def _compile(
    operations: list[Named], walker: _Interpreted, old: Trees, new: Trees, hints: list[Any]
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
        return len(operation.segments) == 3 and operation.segments[2] != _ITEM  # noqa: PLR2004
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
