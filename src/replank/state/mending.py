"""Fill the fields of a record that do not migrate with their defaults; all others are migrated.

The record is taken through the steps again. An operation that fails at a field of the record itself
is left out, and the field with it; what is then missing gets the default of its type.
"""

from __future__ import annotations

from typing import Any

from replank.errors import MigrationError
from replank.hints import read_form, record_fields, record_flavour
from replank.migration.operations import Operation, Rename, Run
from replank.plain import TYPE_KEY, copy_tree, same
from replank.state.items import ITEM, Interpreted, Named

_FIELD_DEPTH = 3
"""A field of the record itself lies at (table, item, name)."""


def mended(way: Interpreted, node: Any, *, down: bool = False) -> tuple[Any, tuple[str, ...]]:
    """Migrate a record that fails, with defaults where it does.

    Args:
        way: The way of the table's items.
        node: The record without its classes; it is not touched.
        down: Whether to go down instead of up.

    Returns:
        The node of the other schema, and the names of the fields that get their defaults there.

    Raises:
        MigrationError: What fails is no field of the record itself, or it has no default.
    """
    new, filled = _Mending(way, down=down).run(node)
    if not down and way.backward is not None:
        filled |= _not_coming_back(way, node, new)
    for name in filled:
        new.pop(name, None)
    while True:
        try:
            way.thaw(new, side=0 if down else 1)
        except MigrationError as error:
            missing = str(error.place[-1]) if error.place else ""
            if missing not in new:
                raise
            filled.add(missing)
            del new[missing]
        else:
            return new, tuple(sorted(filled))


class _Mending:
    """Run the operations, leaving out those that fail for this record."""

    def __init__(self, way: Interpreted, *, down: bool) -> None:
        operations = way.backward if down else way.forward
        assert operations is not None, "this migration has no way down"
        self.operations: list[Named] = operations
        self.fields = way.fields[::-1] if down else way.fields
        self.hint = (way.old if down else way.new)[1]
        self.left_out: dict[int, set[str]] = {}
        """By the number of an operation, the fields that go with it."""

    def run(self, node: Any) -> tuple[dict[Any, Any], set[str]]:
        while True:
            try:
                new = self._attempt(node)
                break
            except _Failed as failed:
                if failed.number in self.left_out and failed.name in self.left_out[failed.number]:
                    raise failed.error from None
                self.left_out.setdefault(failed.number, set()).add(failed.name)
        if not isinstance(new, dict) or record_flavour(read_form(self.hint).cls) is None:
            raise MigrationError(
                "only a field of a record can get its default",
                found=f"items of {self.fields[0]} that are no records",
                do='set on_bad_record = "quarantine", or mend the step',
            )
        if not self.left_out:
            return new, set()
        known = {field.name for field in record_fields(read_form(self.hint).cls)}
        for name in [name for name in new if name not in known and name != TYPE_KEY]:
            del new[name]
        return new, known - new.keys()

    def _attempt(self, node: Any) -> Any:
        tree: dict[str, Any] = {self.fields[0]: {ITEM: copy_tree(node)}}
        table = self.fields[0]
        for number, (step, operation) in enumerate(self.operations):
            if number in self.left_out:
                for name in self.left_out[number]:
                    tree[table][ITEM].pop(name, None)
                continue
            try:
                tree = operation.apply(tree, Run(step))
            except MigrationError as error:
                if len(error.place) != _FIELD_DEPTH:
                    raise
                raise _Failed(number, error.place[-1], error) from error
            if isinstance(operation, Rename) and not operation.segments:
                table = operation.to
        return tree[self.fields[1]][ITEM]


class _Failed(Exception):
    """An operation failed at a field of the record."""

    def __init__(self, number: int, name: str, error: MigrationError) -> None:
        super().__init__(name)
        self.number = number
        self.name = name
        self.error = error


def _not_coming_back(way: Interpreted, node: Any, new: dict[Any, Any]) -> set[str]:
    """Name the new fields that hold what going down does not make the old value of again."""
    try:
        back = way.down_node(new, node)
    except MigrationError:
        return set()
    if same(back, node) or not isinstance(back, dict):
        return set()
    wrong = {name for name in node if name not in back or not same(back[name], node[name])}
    for _, operation in way.forward:
        wrong = _followed(operation, wrong)
    return wrong & new.keys()


def _followed(operation: Operation, names: set[str]) -> set[str]:
    """Say what fields are called, or become parts of, after an operation on the record."""
    sources: set[str] = {getattr(operation, "name", None), *getattr(operation, "names", ())} & names
    into: Any = getattr(operation, "to", None) or getattr(operation, "into", ())
    if not sources or not operation.segments:
        return names
    return (names - sources) | ({into} if isinstance(into, str) else set(into) or sources)


__all__ = ["mended"]
