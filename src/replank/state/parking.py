"""What a return to an older version had no room for: found, kept on the disk, given back.

Every way back parks: a rollback in probation, one after it, and a reload to a lower schema. What is
parked belongs to the schema that was left and comes back when a version of that schema returns.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from replank.errors import SnapshotError
from replank.migration.engine import Migration
from replank.migration.engine import Residue as SmallResidue
from replank.migration.paths import item_at, item_parts
from replank.plain import SCALAR_TYPES
from replank.shapes import Schema
from replank.state.layers import STEP, Steps
from replank.state.residue import Cell, Residue
from replank.state.routes import TableRoute
from replank.state.snapshot import Snapshot, read, write

FOLDER = "parked"


@dataclass(frozen=True, slots=True)
class Parked:
    """What one return had no room for.

    Attributes:
        small: By operation of the way up, of the state that was taken down as a whole.
        tables: Of each table, by its field in the schema that was left.
        path: The operations of the way up to which `small` belongs.
    """

    small: SmallResidue
    tables: Mapping[str, Residue] = field(default_factory=dict)
    path: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return not self.small.empty or any(map(len, self.tables.values()))

    def small_for(self, migration: Migration) -> SmallResidue | None:
        """Return what belongs to a way up, or None when the steps have changed since."""
        return self.small if self.path == path_of(migration) else None


def path_of(migration: Migration) -> tuple[str, ...]:
    """Name the operations of a way."""
    return tuple(operation.text for _, operation in migration.forward)


def path_back_of(migration: Migration) -> tuple[str, ...]:
    """Name the operations of the other direction, as that direction names them itself."""
    inverses = [operation.inverse() for _, operation in reversed(migration.forward)]
    return tuple(operation.text for operation in inverses if operation is not None)


def park_steps(route: TableRoute, tree: Mapping[Any, Any], residue: Residue) -> Steps:
    """Find what does not come back by going down and up again, in small steps.

    Args:
        route: The way down of a table's records.
        tree: The table as it was left, without classes: nobody changes it any more.
        residue: Where to park.
    """
    if route.downgrade is None:
        return
    for number, (key, node) in enumerate(tree.items(), 1):
        left = route.way.thaw(node, side=0)
        residue.park(key, left, route.downgrade(route.upgrade(left), None))
        if not number % STEP:
            yield


class ParkedStore:
    """What is parked, on the disk: one file for each module; every method blocks.

    Args:
        folder: Where the files lie; made when the first one is written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, module: str, schema: Schema, parked: Mapping[str, Parked]) -> None:
        """Replace what is kept for a module; durable on return.

        Args:
            module: Its name.
            schema: That of the code that serves, for whoever looks at the file.
            parked: By the fingerprint of the schema that was left.

        Raises:
            SnapshotError: The disk refuses, or a value exists in this process only.
        """
        path = self._folder / module
        if not any(parked.values()):
            path.unlink(missing_ok=True)
            return
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        snapshot = Snapshot(
            module=module,
            label="",
            digest="",
            schema=schema,
            tree={},
            records=sum(len(table) for one in parked.values() for table in one.tables.values()),
            taken_at=dt.datetime.now(dt.UTC).isoformat(timespec="microseconds"),
            messages=tuple(_plain(fingerprint, one) for fingerprint, one in parked.items()),
        )
        write(snapshot, path)

    def read(self, module: str) -> dict[str, Parked]:
        """Return what is kept for a module.

        Raises:
            SnapshotError: The file is torn or corrupt.
        """
        path = self._folder / module
        if not path.exists():
            return {}
        snapshot = read(path, module=module)
        try:
            return dict(map(_parked, snapshot.messages))
        except (TypeError, KeyError, ValueError) as error:
            raise SnapshotError(
                f"the parked data in {path} cannot be read",
                module=module,
                found=f"{type(error).__name__}: {error}",
                do="move the file away: what was parked does not come back then",
            ) from None


def _plain(fingerprint: str, one: Parked) -> dict[str, Any]:
    return {
        "fingerprint": fingerprint,
        "path": list(one.path),
        "small": [
            [[_location(at), values] for at, values in parked.items()]
            for parked in one.small.parked
        ],
        "tables": {name: _table(residue) for name, residue in one.tables.items()},
    }


def _location(at: Iterable[Any]) -> list[Any]:
    return [["item", *parts] if (parts := item_parts(key)) else ["key", key] for key in at]


def _table(residue: Residue) -> dict[str, Any]:
    """Return a table's parked data; what has a key that is no plain value stays in memory only."""
    return {
        "fields": [
            [key, {name: [cell.given, cell.parked] for name, cell in cells.items()}]
            for key, cells in residue.fields.items()
            if type(key) in SCALAR_TYPES
        ],
        "records": [
            [key, name, plain]
            for key, (name, plain) in residue.records.items()
            if type(key) in SCALAR_TYPES
        ],
    }


def _parked(plain: Any) -> tuple[str, Parked]:
    small = [
        {
            tuple(item_at(*parts) if kind == "item" else parts[0] for kind, *parts in at): values
            for at, values in parked
        }
        for parked in plain["small"]
    ]
    tables = {}
    for name, kept in plain["tables"].items():
        residue = tables[name] = Residue()
        for key, cells in kept["fields"]:
            residue.fields[key] = {field: Cell(*cell) for field, cell in cells.items()}
        for key, kind, values in kept["records"]:
            residue.records[key] = (kind, values)
    return plain["fingerprint"], Parked(SmallResidue(small), tables, tuple(plain["path"]))


__all__ = ["FOLDER", "Parked", "ParkedStore", "park_steps", "path_back_of", "path_of"]
