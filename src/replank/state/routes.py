"""The way of each table's records from the old generation's classes to the candidate's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from replank.errors import MigrationError
from replank.hints import read_form
from replank.migration.engine import Migration
from replank.plain import show
from replank.state.holder import Holder
from replank.state.items import Interpreted
from replank.state.record_migration import RecordMigration, record_migration
from replank.state.tree import Trees
from replank.table import Table


@dataclass(frozen=True, slots=True)
class TableRoute:
    """The way of one table's records.

    Attributes:
        old_field: Its field in the old version.
        new_field: Its field in the candidate.
        old_type: Annotated type of the old records.
        new_type: The same of the new ones.
        upgrade: New record from an old one, its way back checked.
        downgrade: Old record from a new one and the old one kept; None when a step is one-way.
        way: The same, one record at a time, for saying what went wrong.
    """

    old_field: str
    new_field: str
    old_type: Any
    new_type: Any
    upgrade: Callable[[Any], Any]
    downgrade: Callable[[Any, Any], Any] | None
    way: Interpreted


def table_routes(old: Holder, new: Holder, migration: Migration) -> tuple[TableRoute, ...]:
    """Find the tables whose records can be taken over one by one.

    Args:
        old: The generation that serves.
        new: The candidate.
        migration: The way between their schemas.

    Returns:
        A route for each such table. None at all when a step makes a table out of more than each of
        its records, or when records may refer to one another: then all must be seen together.

    Raises:
        MigrationError: A step names a field that the records do not have.
    """
    old_trees = Trees(old.definition.hints, old.own)
    new_trees = Trees(new.definition.hints, new.own)
    routes = []
    for name, value in old.values().items():
        if type(value) is not Table:
            continue
        compiled = record_migration(migration, name, old_trees, new_trees)
        if compiled is None or not compiled.isolated:
            return ()
        routes.append(
            TableRoute(
                compiled.old_field,
                compiled.new_field,
                _record_type(old, compiled.old_field),
                _record_type(new, compiled.new_field),
                checked(compiled),
                compiled.down,
                compiled.walker,
            )
        )
    return tuple(routes)


def _record_type(holder: Holder, name: str) -> Any:
    form = read_form(holder.definition.hints[name])
    return form.args[1]


def checked(compiled: RecordMigration) -> Callable[[Any], Any]:
    """Return the way up that refuses a record whose way back does not give it again.

    Args:
        compiled: The record's ways.
    """
    up, check, down = compiled.up, compiled.check, compiled.down
    if check is None or down is None:
        return up

    def upgrade(old: Any) -> Any:
        new = up(old)
        if not check(old, new):
            back = f"{show(down(new, None))} from {show(new)}"
            raise MigrationError(
                f"a record of {compiled.old_field} does not come back the same by going up and "
                "down",
                found=back,
                expected=show(old),
                do="correct the step's two directions, or declare the conversion lossy=True",
            ).at("", (compiled.old_field, "*"), old=show(old), new=back)
        return new

    return upgrade
