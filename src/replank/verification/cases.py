"""The states on which the laws of migrations are checked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import msgspec

from replank.definition import Definition
from replank.errors import MigrationError, SchemaError
from replank.migration.engine import Migration, steps_of
from replank.migration.graph import StepGraph
from replank.shapes import Schema, make_schema
from replank.state.names import Namespace
from replank.verification.states import CannotGenerate, StateGenerator


class Target(Protocol):
    """The code whose migrations are checked."""

    @property
    def definition(self) -> Definition:
        """What was read from it."""

    @property
    def own(self) -> Namespace:
        """Its own names."""


class Case(msgspec.Struct, frozen=True):
    """One state to check."""

    schema: Schema
    """Its shape; only the number counts when `shape_known` is False."""
    tree: dict[str, Any]
    name: str
    """What to call it: "generated 3 of schema 1 (seed 0)"."""
    shape_known: bool = True


def generated_cases(
    target: Target, schemas: Iterable[Schema], count: int, seed: int, notes: list[str]
) -> Iterator[Case]:
    """Yield made-up states of every older schema.

    Args:
        target: The code.
        schemas: The shapes that the state is known to have had; without one of them states are
            made of the code's own shape and taken down by the steps.
        count: How many states of each.
        seed: The same seed gives the same states.
        notes: Told what cannot be made up.
    """
    code = target.definition.schema
    older = [one for one in schemas if one.version <= code.version and one != code]
    for schema in older:
        generator = StateGenerator(schema, seed)
        try:
            for number, tree in enumerate(generator.states(count), 1):
                yield Case(
                    schema, tree, f"generated {number} of schema {schema.version}, seed {seed}"
                )
        except CannotGenerate as error:
            notes.append(f"no state of schema {schema.version} can be made up: it has {error}")
        notes.extend(
            f"schema {schema.version}: {name} keeps its default in generated states"
            for name in sorted(generator.left_out)
        )
    numbers = {schema.version for schema in older}
    for start in sorted({step.start for step in steps_of(target.definition)} - numbers):
        yield from _taken_down(target, start, count, seed, notes)


def _taken_down(
    target: Target, start: int, count: int, seed: int, notes: list[str]
) -> Iterator[Case]:
    """Make states of a schema whose shape nobody remembers: from the code's, by the way down."""
    code = target.definition.schema
    way = numbered_way(target, start)
    if way is None or not way.reversible:
        notes.append(f"no state of schema {start} can be made up: its shape is not known")
        return
    refused = 0
    try:
        for number, tree in enumerate(StateGenerator(code, seed).states(count), 1):
            try:
                old = way.downgrade(tree)
            except MigrationError:
                refused += 1  # a value that no old state leads to
                continue
            yield Case(way.old, old, f"generated {number} of schema {start}, seed {seed}", False)
    except CannotGenerate as error:
        notes.append(f"no state of schema {start} can be made up: the code's has {error}")
    if refused:
        notes.append(f"schema {start}: {refused} of {count} made-up states had no way down")


def numbered_way(target: Target, start: int) -> Migration | None:
    """Return the way from a schema of which only the number is known: the steps alone.

    Args:
        target: The code.
        start: The number.

    Returns:
        The way, or None when no steps lead from there.
    """
    definition = target.definition
    graph = StepGraph(steps_of(definition), module=definition.name)
    try:
        path = graph.path(start, definition.schema.version)
    except SchemaError:
        return None
    forward = tuple((step.name, operation) for step in path for operation in step.operations)
    old = make_schema(start, (), {})
    told = tuple(repr(step) for step in path)
    return Migration(definition.name, old, definition.schema, told, forward)


__all__ = ["Case", "Target", "generated_cases", "numbered_way"]
