"""One item of a table or dict at a time through the tree engine.

The compiled functions of `record_migration` do the same faster. This is for what is not compiled,
for saying what went wrong, and for copies without classes, whose records exist no more.
"""

from __future__ import annotations

import re
from typing import Any

from replank.errors import MigrationError
from replank.hints import MAPPINGS, read_form
from replank.migration.conversions import Apply, Rekey
from replank.migration.engine import Migration
from replank.migration.operations import Operation, Parked, Rename, Run, Seen
from replank.migration.reshaping import Move
from replank.plain import copy_tree, same
from replank.state.building import Mismatch
from replank.state.memo import new_memo
from replank.state.tree import Trees, mismatch_error

ITEM = "*"

Named = tuple[str, Operation]


_FIELD = re.compile(r"\.(\w+)")


def interpreted(migration: Migration, field: str, old: Trees, new: Trees) -> Interpreted | None:
    """Find the way of the items of one table or dict.

    Args:
        migration: The way between the schemas.
        field: Its name in the old schema.
        old: The old generation's types.
        new: The new generation's types.

    Returns:
        None when a step makes it out of more than each of its items, or it is neither.
    """
    local = local_operations(migration.forward, field)
    if local is None:
        return None
    operations, new_field = local
    if field not in old.hints or new_field not in new.hints:
        return None
    hints = item_hint(old.hints[field]), item_hint(new.hints[new_field])
    if None in hints:
        return None
    return Interpreted(operations, field, new_field, (old, hints[0]), (new, hints[1]))


def all_interpreted(migration: Migration, old: Trees, new: Trees) -> dict[str, Interpreted]:
    """Find the way of the items of every table and dict that can be taken one by one.

    Args:
        migration: The way between the schemas.
        old: The old generation's types.
        new: The new generation's types.
    """
    ways = {field: interpreted(migration, field, old, new) for field in old.hints}
    return {field: way for field, way in ways.items() if way is not None}


def item_hint(hint: Any) -> Any:
    """Return the type of a mapping's items, or None."""
    form = read_form(hint)
    return form.args[1] if form.kind in MAPPINGS else None


def local_operations(forward: tuple[Named, ...], field: str) -> tuple[list[Named], str] | None:
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
        if operation.segments[:1] != (field,) or operation.segments[1:2] != (ITEM,):
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


class Interpreted:
    """The tree engine on a table of one item.

    Args:
        operations: Those on the table's items, each with the name of its step.
        old_field: The table's name in the old schema.
        new_field: The same in the new one.
        old: The old generation's types, and the annotated type of an item.
        new: The same of the new one.
    """

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

    # Live items.

    def up(self, record: Any) -> Any:
        """Return the new item."""
        return self.thaw(self.up_node(self.freeze(record)))

    def down(self, record: Any, before: Any = None) -> Any:
        """Return the old item; what the way up lost comes from the one before."""
        kept = None if before is None else self.freeze(before)
        return self.thaw(self.down_node(self.freeze(record, side=1), kept), side=0)

    def check(self, before: Any, record: Any) -> bool:
        """Tell whether going down gives the old item again."""
        node = self.freeze(before)
        try:
            return same(self.down_node(self.freeze(record, side=1), node), node)
        except MigrationError:
            return False

    # Items without classes. `side` is 0 for the old schema and 1 for the new one.

    def up_node(self, node: Any) -> Any:
        """Return the new node; the old one is not touched."""
        return self._run(self.forward, copy_tree(node), 0, None)[0]

    def down_node(self, node: Any, before: Any) -> Any:
        """Return the old node; neither of the two is touched."""
        assert self.backward is not None, "this migration has no way down"
        parked = None
        if before is not None:
            parked = self._run(self.forward, copy_tree(before), 0, None)[1][::-1]
        return self._run(self.backward, copy_tree(node), 1, parked)[0]

    def freeze(self, record: Any, side: int = 0) -> Any:
        """Return an item without its classes."""
        trees, hint = (self.old, self.new)[side]
        return trees.freezer.walk(hint)(record, new_memo())

    def freeze_key(self, key: Any, side: int = 0) -> Any:
        """Return a key without its classes."""
        trees, _ = (self.old, self.new)[side]
        hint = read_form(trees.hints[self.fields[side]]).args[0]
        return trees.freezer.walk(hint)(key, new_memo())

    def thaw(self, node: Any, side: int = 1) -> Any:
        """Build an item.

        Raises:
            MigrationError: The node does not fit its type; `place` names the field of a record.
        """
        trees, hint = (self.old, self.new)[side]
        try:
            return trees.thawer.walk(hint)(node, new_memo())
        except Mismatch as error:
            name = _FIELD.match(error.path if error.path.startswith("[") else f".{error.path}")
            error.at(f"{self.fields[side]}[*]")
            told = mismatch_error(error)
            told.place = (self.fields[side], ITEM, name[1]) if name else ()
            raise told from None

    def _run(
        self, operations: list[Named], node: Any, side: int, parked: list[Parked] | None
    ) -> tuple[Any, list[Parked]]:
        tree: dict[str, Any] = {self.fields[side]: {ITEM: node}}
        lost: list[Parked] = []
        seen: Seen = {}
        current = ""
        for n, (name, operation) in enumerate(operations):
            if name != current:
                current, seen = name, {}
            run = Run(name, parked[n] if parked else None, seen)
            try:
                tree = operation.apply(tree, run)
            except MigrationError as error:
                error.step = error.step or name
                raise
            lost.append(run.parked)
        return tree[self.fields[1 - side]][ITEM], lost
