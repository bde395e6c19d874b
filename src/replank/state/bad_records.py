"""Find every record that a migration cannot take over; a reload stops at the first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from replank.errors import MigrationError
from replank.migration import paths
from replank.migration.engine import Migration
from replank.plain import show
from replank.report import BadRecord
from replank.state.holder import Holder
from replank.state.record_migration import record_migration
from replank.state.routes import checked
from replank.state.tree import Trees
from replank.state.watching import quiet

SHOWN_MAX: Final = 20
"""Bad records that are described; the others are counted."""


def find_bad(
    module: str, old: Holder, new: Holder, migration: Migration
) -> tuple[int, tuple[BadRecord, ...]]:
    """Migrate the items of every dict and table one by one, and keep nothing of what is made.

    Args:
        module: The module's name.
        old: The generation that serves.
        new: The candidate.
        migration: The way between their schemas.

    Returns:
        How many could not be migrated, and the first of them.
    """
    found = 0
    shown: list[BadRecord] = []
    for bad in _bad(module, old, new, migration):
        found += 1
        if len(shown) < SHOWN_MAX:
            shown.append(bad)
    return found, tuple(shown)


def _bad(module: str, old: Holder, new: Holder, migration: Migration) -> Iterator[BadRecord]:
    old_trees = Trees(old.definition.hints, old.own)
    new_trees = Trees(new.definition.hints, new.own)
    for name, items in old.values().items():
        if not isinstance(items, dict):
            continue
        try:
            compiled = record_migration(migration, name, old_trees, new_trees)
        except MigrationError:
            continue  # a step that fits no record at all: the error of the rehearsal says so
        if compiled is None:
            continue
        upgrade = checked(compiled)
        with quiet():
            for key, record in items.items():
                try:
                    upgrade(record)
                except Exception as error:
                    yield _described(module, name, key, record, error)


def _described(module: str, name: str, key: Any, record: Any, error: Exception) -> BadRecord:
    place: tuple[Any, ...] = (name, key)
    step, old, new, message = "", "", "", f"{type(error).__name__}: {error}"
    if isinstance(error, MigrationError):
        step, old, new, message = error.step, error.old, error.new, error.what
        if error.place[1:2] == ("*",):
            place += error.place[2:]
        elif error.place and str(error.place[0]).startswith(f"{name}[*]"):
            place = (*place, *str(error.place[0]).removeprefix(f"{name}[*]").strip(".").split("."))
    return BadRecord(
        module=module,
        key=show(key),
        field=paths.shown(tuple(part for part in place if part != "")),
        message=message.replace("['*']", f"[{show(key)}]").replace("[*]", f"[{show(key)}]"),
        step=step,
        old=old or show(record),
        new=new,
    )


__all__ = ["SHOWN_MAX", "find_bad"]
