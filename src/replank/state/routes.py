"""The way of each table's records from the old generation's classes to the candidate's."""

from __future__ import annotations

import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from replank.hints import record_fields, record_flavour
from replank.migration.engine import Migration
from replank.migration.records import RecordCompiler, table_operations
from replank.state.holder import Holder
from replank.state.names import Namespace
from replank.state.tree import Trees
from replank.table import Table

_BUILT_AS_CLASS = ("struct", "dataclass")


@dataclass(frozen=True, slots=True)
class TableRoute:
    """The way of one table's records.

    Attributes:
        old_field: Its field in the old version.
        new_field: Its field in the candidate.
        upgrade: New record from an old one.
        downgrade: Old record from a new one and the old one kept; None when a step is one-way.
        source: The generated code.
    """

    old_field: str
    new_field: str
    old_type: Any
    new_type: Any
    upgrade: Callable[[Any], Any]
    downgrade: Callable[[Any, Any], Any] | None
    source: str


def table_routes(old: Holder, new: Holder, migration: Migration) -> tuple[TableRoute, ...]:
    """Find the tables whose records can be taken over one by one.

    Args:
        old: The generation that serves.
        new: The candidate.
        migration: The way between their schemas.

    Returns:
        A route for each such table; none at all when a step does more than change single records
        of any table, for then the tables must be seen together.
    """
    routes = []
    for name, value in old.values().items():
        if type(value) is not Table:
            continue
        picked = table_operations(migration.forward, name)
        if picked is None:
            return ()
        new_name, operations = picked
        types = _value_type(old, name), _value_type(new, new_name)
        if None in types or any(record_flavour(one) not in _BUILT_AS_CLASS for one in types):
            continue
        compiled = _compiler(old.own, new.own, *types).compile(operations)
        routes.append(
            TableRoute(
                name, new_name, *types, compiled.upgrade, compiled.downgrade, compiled.source
            )
        )
    return tuple(routes)


def _value_type(holder: Holder, name: str) -> Any:
    hint = holder.definition.hints.get(name)
    if typing.get_origin(hint) is not Table:
        return None
    value = typing.get_args(hint)[1]
    return value if isinstance(value, type) else None


def _compiler(old_own: Namespace, new_own: Namespace, old: Any, new: Any) -> RecordCompiler:
    old_hints = {one.name: one.hint for one in record_fields(old)}
    new_hints = {one.name: one.hint for one in record_fields(new)}
    up, down = Trees(new_hints, new_own), Trees(old_hints, old_own)
    return RecordCompiler(
        old_fields=tuple(old_hints),
        new_fields=tuple(new_hints),
        old=old,
        new=new,
        rebuild=_rebuilders(down, up, old_hints, new_hints),
        rebuild_down=_rebuilders(up, down, new_hints, old_hints),
        check={name: _checker(up, hint) for name, hint in new_hints.items()},
    )


def _rebuilders(
    source: Trees, target: Trees, source_hints: Mapping[str, Any], target_hints: Mapping[str, Any]
) -> dict[str, Callable[[Any], Any]]:
    """Return what rebuilds the values that cannot be handed over as they are."""
    return {
        name: _rebuilder(source, target, source_hints.get(name, typing.Any), hint)
        for name, hint in target_hints.items()
        if source.freezer.exact_types(hint) is None
    }


def _rebuilder(
    source: Trees, target: Trees, source_hint: Any, target_hint: Any
) -> Callable[[Any], Any]:
    freeze, thaw = source.freezer.walk(source_hint), target.thawer.walk(target_hint)

    def rebuild(value: Any) -> Any:
        return thaw(freeze(value, {0: []}), {0: []})

    return rebuild


def _checker(trees: Trees, hint: Any) -> Callable[[Any], Any]:
    freeze, thaw = trees.freezer.walk(typing.Any), trees.thawer.walk(hint)
    exact = trees.freezer.exact_types(hint)

    def check(value: Any) -> Any:
        if exact is not None and type(value) in exact:
            return value
        return thaw(freeze(value, {0: []}), {0: []})

    return check
