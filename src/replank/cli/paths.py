"""`replank migrations show`: the path between two schema numbers, step by step."""

from __future__ import annotations

from pathlib import Path

import msgspec

from replank.cli.known import Known, find_module
from replank.code.reading import ReadModule, reading, reading_version
from replank.code.store import VersionStore
from replank.errors import DefinitionError, SourceError, StorageError, UsageError
from replank.hints import read_form
from replank.migration.engine import find_path, steps_of
from replank.migration.graph import StepGraph
from replank.migration.steps import Step
from replank.state.record_migration import record_migration
from replank.state.tree import Trees


class ShownOperation(msgspec.Struct, frozen=True, kw_only=True):
    """One operation, both ways."""

    up: str
    down: str | None
    """None when there is no way back."""
    lossy: bool = False


class ShownStep(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a path."""

    start: int
    end: int
    operations: tuple[ShownOperation, ...]
    lossy: bool
    reversible: bool


class ShownPath(msgspec.Struct, frozen=True, kw_only=True):
    """The path between two schema numbers."""

    module: str
    start: int
    end: int
    steps: tuple[ShownStep, ...]
    automatic: tuple[str, ...] = ()
    """Changes that need no step; known only where the old shape is."""
    code: str = ""
    """The plain code that the path is compiled to."""


def show_path(
    module: str,
    source: Path | None,
    data_dir: Path | None,
    config: Path | None,
    *,
    start: int | None,
    end: int | None,
) -> ShownPath:
    """Return the path between two schema numbers.

    Args:
        module: Name or file.
        source: Source to read instead of the module's own.
        data_dir: As named on the command line.
        config: As named on the command line.
        start: Where it begins; by default at the schema known last, else at the lowest step.
        end: Where it ends; by default at the code's schema.

    Raises:
        UsageError: The numbers do not go up.
        SchemaError: There is no path, or two.
    """
    known = find_module(module, source, data_dir, config)
    with reading(known.source, known.name) as read:
        steps = steps_of(read.definition)
        code = read.definition.schema
        end = code.version if end is None else end
        if start is None:
            lowest = min((step.start for step in steps), default=end)
            base = known.base
            start = base.version if base is not None and base.version < end else lowest
        if start > end:
            raise UsageError(
                "a path is shown upwards",
                module=known.name,
                found=f"from {start} to {end}",
                do="exchange the numbers: every step is shown both ways",
            )
        path = () if start == end else StepGraph(steps, module=known.name).path(start, end)
        old = next((one for one in known.schemas() if one.version == start), None)
        automatic: tuple[str, ...] = ()
        if old is not None and end == code.version:
            way = find_path(old, code, steps, module=known.name)
            automatic = tuple(
                line.removeprefix("automatic: ")
                for line in way.steps
                if line.startswith("automatic")
            )
        return ShownPath(
            module=known.name,
            start=start,
            end=end,
            steps=tuple(_shown(step) for step in path),
            automatic=automatic,
            code=_compiled(known, read, start, end),
        )


def _shown(step: Step) -> ShownStep:
    operations = []
    for operation in step.operations:
        inverse = operation.inverse()
        operations.append(
            ShownOperation(
                up=operation.text,
                down=None if inverse is None else inverse.text,
                lossy=operation.lossy,
            )
        )
    return ShownStep(
        start=step.start,
        end=step.end,
        operations=tuple(operations),
        lossy=step.lossy,
        reversible=not step.one_way,
    )


def _compiled(known: Known, read: ReadModule, start: int, end: int) -> str:
    """Return the plain code that records of tables are migrated by.

    It is compiled for the classes of both versions, so the old one has to be in the store.
    """
    committed = known.recorded.committed
    definition = read.definition
    if committed is None or committed.schema_version != start or definition.schema.version != end:
        return ""
    store = VersionStore(known.data_dir / "versions")
    parts = []
    try:
        version = store.get(committed.digest, source=known.source)
        with reading_version(version, known.name) as old:
            way = find_path(
                old.definition.schema, definition.schema, steps_of(definition), module=known.name
            )
            trees = Trees(old.definition.hints, old.own)
            for name, hint in old.definition.hints.items():
                if way.identity or read_form(hint).kind != "table":
                    continue
                found = record_migration(way, name, trees, Trees(definition.hints, read.own))
                if found is not None:
                    parts.append(f"# each record of {name}\n\n{found.source.strip()}\n")
    except (StorageError, SourceError, DefinitionError):
        return ""  # the path is shown all the same
    return "\n\n".join(parts)


__all__ = ["ShownOperation", "ShownPath", "ShownStep", "show_path"]
