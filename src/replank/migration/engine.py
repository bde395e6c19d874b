"""Find how a state gets from one schema to another, and take it there.

The rules, in order:
- the same number and fingerprint: nothing to do;
- the same number, only safe differences: automatic;
- the same number, an unsafe difference: refused, with the step to paste;
- a higher number: the best path of steps, then what is left must be safe;
- a lower number: the same path backwards; a step without a way down refuses.

What a direction loses is parked and given back in the other one (`operations`): that is the
residue. `upgrade` and `downgrade` never touch the tree they get.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from replank.difference import Change, Difference, difference
from replank.errors import MigrationError, SchemaError
from replank.migration.conversions import Apply, Convert
from replank.migration.generate import step_text
from replank.migration.graph import StepGraph
from replank.migration.operations import Automatic, Operation, Parked, Run, Seen
from replank.migration.outline import outline
from replank.migration.steps import Step, steps_from_functions
from replank.plain import copy_tree
from replank.shapes import Schema


class HasMigrations(Protocol):
    """What the engine needs of a module's definition."""

    @property
    def migrations(self) -> tuple[Any, ...]:
        """The declared steps."""

    @property
    def functions(self) -> dict[str, Any]:
        """`migrate_1_2` and the like, by name."""


@dataclass(slots=True)
class Residue:
    """What the last run lost, by operation: given to the run of the other direction."""

    parked: list[Parked] = field(default_factory=list)

    @property
    def empty(self) -> bool:
        """Whether nothing was lost."""
        return not any(self.parked)

    def turned(self) -> Residue:
        """Return it for the migration of the other direction, found on its own."""
        return Residue(self.parked[::-1])


@dataclass(frozen=True, slots=True)
class Migration:
    """The way of one module's state from one schema to another.

    `steps` are lines of text for people. `forward` holds each operation with the name of its
    step, in the order in which they run.
    """

    module: str | None
    old: Schema
    new: Schema
    steps: tuple[str, ...]
    forward: tuple[tuple[str, Operation], ...]
    lossy: bool = False

    @property
    def identity(self) -> bool:
        """Whether trees stay as they are."""
        return not self.forward

    @property
    def reversible(self) -> bool:
        """Whether there is a way back."""
        return not self.one_way

    @property
    def one_way(self) -> tuple[str, ...]:
        """The operations that have no way back."""
        return tuple(
            f"{name}: {operation.text}"
            for name, operation in self.forward
            if operation.inverse() is None
        )

    def upgrade(
        self,
        tree: dict[str, Any],
        residue: Residue | None = None,
        *,
        check_untouched: bool = False,
    ) -> dict[str, Any]:
        """Take a tree of the old schema to the new one.

        Args:
            tree: The old state; it is not touched.
            residue: What an earlier downgrade lost; it is put back where its place still exists.
            check_untouched: In a rehearsal: make sure that functions leave the old state alone.

        Raises:
            MigrationError: A step failed; it names step, key, field and value.
        """
        return self.upgrade_and_park(tree, residue, check_untouched=check_untouched)[0]

    def upgrade_and_park(
        self,
        tree: dict[str, Any],
        residue: Residue | None = None,
        *,
        check_untouched: bool = False,
    ) -> tuple[dict[str, Any], Residue]:
        """Do as `upgrade`, and return what was lost for a later downgrade."""
        return self._run(list(self.forward), tree, residue, check_untouched=check_untouched)

    def downgrade(
        self, tree: dict[str, Any], old_tree: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Take a tree of the new schema back to the old one.

        Args:
            tree: The new state; it is not touched.
            old_tree: The old state as it was at the swap: what the way up dropped comes from it.

        Raises:
            MigrationError: A step failed or has no way down.
        """
        residue = None if old_tree is None else self.upgrade_and_park(old_tree)[1]
        return self.downgrade_and_park(tree, residue)[0]

    def downgrade_and_park(
        self, tree: dict[str, Any], residue: Residue | None = None
    ) -> tuple[dict[str, Any], Residue]:
        """Take a tree back and return what only the new schema knows, for a later upgrade.

        Args:
            tree: The new state; it is not touched.
            residue: What the way up lost.

        Raises:
            MigrationError: A step failed or has no way down.
        """
        backward: list[tuple[str, Operation]] = []
        for name, operation in reversed(self.forward):
            inverse = operation.inverse()
            if inverse is None:
                raise MigrationError(
                    f"{name} has no way down: {operation.text}",
                    module=self.module,
                    expected="an operation with a downgrade",
                    do="give the operation its `down` function",
                )
            backward.append((name, inverse))
        reverse = None if residue is None else residue.turned()
        new, lost = self._run(backward, tree, reverse)
        return new, lost.turned()

    def _run(
        self,
        operations: Sequence[tuple[str, Operation]],
        tree: dict[str, Any],
        residue: Residue | None,
        *,
        check_untouched: bool = False,
    ) -> tuple[dict[str, Any], Residue]:
        if not operations:
            return tree, Residue()
        tree = copy_tree(tree)
        found = residue.parked if residue is not None and residue.parked else [{}] * len(operations)
        assert len(found) == len(operations), "a residue of another migration"
        lost: list[Parked] = []
        seen: Seen = {}
        current = ""
        for (name, operation), before in zip(operations, found, strict=True):
            if name != current:
                current, seen = name, {}
            run = Run(name, {at: list(values) for at, values in before.items()}, seen)
            try:
                if check_untouched and isinstance(operation, Apply):
                    tree = operation.apply_checked(tree, run)
                else:
                    tree = operation.apply(tree, run)
            except MigrationError as error:
                raise self._told(error, name, operation) from error.__cause__
            lost.append(run.parked)
        return tree, Residue(lost)

    def _told(self, error: MigrationError, name: str, operation: Operation) -> MigrationError:
        error.module = error.module or self.module
        if not error.what.startswith(name):
            error.what = f"{name} ({operation.text}): {error.what}"
        return error


def steps_of(definition: HasMigrations) -> tuple[Step, ...]:
    """Return all steps of a module: those declared and those made of `migrate_1_2` functions.

    Args:
        definition: The module's definition.

    Raises:
        SchemaError: Something in the list is no step, or a way down has no way up.
    """
    return (*definition.migrations, *steps_from_functions(definition.functions))


def find_path(
    old: Schema,
    new: Schema,
    steps: Iterable[Step],
    *,
    module: str | None = None,
    reverse: Iterable[Step] = (),
    going_back: bool = False,
) -> Migration:
    """Find the migration between two schemas.

    Args:
        old: The schema of the state as it is.
        new: The schema of the code that shall take it.
        steps: The steps of that code.
        module: Whose state it is, for errors.
        reverse: The steps of the code that serves: a lower number is reached by their way down,
            which the older code cannot know.
        going_back: Whether `new` is the schema of an earlier version: then what was added
            automatically on the way up is dropped automatically.

    Raises:
        SchemaError: There is no way, two, or one that leaves unsafe differences.
    """
    finder = _Finder(old, new, module)
    if old.version == new.version:
        return finder.same_number(going_back=going_back)
    if old.version < new.version:
        return finder.up(StepGraph(steps, module=module))
    known = {(s.start, s.end): s for s in (*steps, *reverse) if isinstance(s, Step)}
    return finder.down(StepGraph(known.values(), module=module))


class _Finder:
    def __init__(self, old: Schema, new: Schema, module: str | None) -> None:
        self.old = old
        self.new = new
        self.module = module

    def same_number(self, *, going_back: bool) -> Migration:
        if self.old.fingerprint == self.new.fingerprint:
            return self.migration((), ())
        found = difference(self.old, self.new)
        if all(one.safe for one in found):
            return self.migration((), found)
        back = difference(self.new, self.old)
        if going_back and all(one.safe for one in back):
            return self.backward((), back)
        raise self.refused(found, self.old.version + 1)

    def up(self, graph: StepGraph) -> Migration:
        start, end = self.old.version, self.new.version
        found = difference(self.old, self.new)
        if not graph.between(start, end):
            if all(one.safe for one in found):
                return self.migration((), found)
            raise self.refused(found, end)
        path = graph.path(start, end)
        left = self.left_after(path, self.old, self.new)
        if not all(one.safe for one in left):
            raise self.refused(left, end, path)
        return self.migration(path, left)

    def down(self, graph: StepGraph) -> Migration:
        low, high = self.new.version, self.old.version
        if not graph.between(low, high):
            back = difference(self.new, self.old)
            if all(one.safe for one in back):
                return self.backward((), back)
            raise self.no_way_down(back)
        path = graph.path(low, high)
        for step in path:
            if step.one_way:
                raise SchemaError(
                    f"{step.name} has no way down: {', '.join(step.one_way)}",
                    module=self.module,
                    found=f"state of schema {high}",
                    expected=f"a way down to schema {low}",
                    do="give each operation its `down` function in the version that serves",
                )
        back = self.left_after(path, self.new, self.old)
        if not all(one.safe for one in back):
            raise self.no_way_down(back)
        return self.backward(path, back)

    def left_after(
        self, path: tuple[Step, ...], start: Schema, end: Schema
    ) -> tuple[Difference, ...]:
        """Return what the steps of a path do not explain."""
        schema: Schema | None = start
        for step in path:
            try:
                schema = None if schema is None else outline(schema, step)
            except SchemaError as error:
                error.module = self.module
                raise
        return () if schema is None else difference(schema, end)

    def migration(self, path: tuple[Step, ...], left: Iterable[Difference]) -> Migration:
        told = [repr(step) for step in path]
        forward = [(step.name, operation) for step in path for operation in step.operations]
        for found in left:
            if found.kind is not Change.DEFAULT_CHANGED:
                told.append(f"automatic: {found.text}")
            forward += [("automatic", operation) for operation in _automatic(found)]
        lossy = any(operation.lossy for _, operation in forward)
        return Migration(self.module, self.old, self.new, tuple(told), tuple(forward), lossy)

    def backward(self, path: tuple[Step, ...], left: Iterable[Difference]) -> Migration:
        """Turn the way from `new` up to `old` round."""
        way = _Finder(self.new, self.old, self.module).migration(path, left)
        turned = [(name, operation.inverse()) for name, operation in reversed(way.forward)]
        forward = tuple((name, operation) for name, operation in turned if operation is not None)
        assert len(forward) == len(way.forward), "a one-way step was let through"
        told = tuple(f"down: {line}" for line in reversed(way.steps))
        return Migration(self.module, self.old, self.new, told, forward, way.lossy)

    def refused(
        self, found: tuple[Difference, ...], end: int, path: tuple[Step, ...] = ()
    ) -> SchemaError:
        unsafe = [one for one in found if not one.safe]
        text = step_text(self.old.version, end, found)
        silent = self.old.version == self.new.version
        if silent:
            what = f"the state's shape changed, but its schema number is still {self.old.version}"
            do = f"set schema={end} and add to migrations:\n{text}"
        elif path:
            what = f"the steps from schema {self.old.version} to {end} leave differences"
            do = f"add the missing operations to {path[-1].name}:\n{text}"
        else:
            what = f"no step leads from schema {self.old.version} to {end}"
            do = f"add to migrations:\n{text}"
        return SchemaError(
            what,
            module=self.module,
            found="; ".join(one.text for one in unsafe),
            expected="a step for each change that is not safe",
            do=do,
        )

    def no_way_down(self, back: Iterable[Difference]) -> SchemaError:
        unsafe = [one for one in back if not one.safe]
        text = step_text(self.new.version, self.old.version, unsafe)
        return SchemaError(
            f"no step leads from schema {self.old.version} down to {self.new.version}",
            module=self.module,
            found="; ".join(one.text for one in unsafe),
            expected="a step between the two numbers, with a way down",
            do=f"add to the migrations of the version that serves:\n{text}",
        )


def _automatic(found: Difference) -> list[Operation]:
    """Return the operations that a safe difference needs, mostly none: building values suffices."""
    if found.kind is Change.ADDED:
        return [Automatic(found.path)]
    keys = ": keys " in found.text  # an int is a float's key already: 1 == 1.0
    if found.kind is Change.WIDENED and found.old and found.new and not keys:
        if (found.old.kind, found.new.kind) == ("int", "float"):
            return [Convert(found.path, float, _whole, lossy=False)]
        if (found.old.kind, found.new.kind) == ("bool", "int"):
            return [Convert(found.path, int, bool, lossy=False)]
    return []


def _whole(value: float) -> int:
    if value != int(value):
        raise ValueError(f"{value} is no whole number")
    return int(value)


__all__ = ["Migration", "Residue", "find_path", "steps_of"]
