"""What an author writes to say how state gets from one schema number to another.

    migrations = [
        step(1, 2, rename("total", "total_cents"), add("accounts.*.tier", default="basic")),
        step(2, 3, upgrade, downgrade),
    ]

Paths are dotted from the module's state; `*` stands for every key or item. Each operation knows
its other direction. An operation is *lossy* when its other direction cannot rebuild what was
there from the new state alone; what it drops is then kept beside the state while that is possible.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from replank.errors import SchemaError
from replank.migration.conversions import Apply, Convert, Merge, Rekey, Split
from replank.migration.operations import (
    MISSING,
    Add,
    Operation,
    Remove,
    Rename,
)
from replank.migration.reshaping import Flatten, Move, Nest

_FUNCTION = re.compile(r"migrate_(\d+)_(\d+)")

Part = Operation | Iterable[Operation] | Callable[[dict[str, Any]], dict[str, Any]]


class Step(msgspec.Struct, frozen=True, eq=False):
    """One edge between two schema numbers, always written upwards."""

    start: int
    end: int
    operations: tuple[Operation, ...] = ()

    @property
    def name(self) -> str:
        """How it is called in messages."""
        return f"step {self.start} -> {self.end}"

    @property
    def lossy(self) -> bool:
        """Whether going up loses what going down cannot rebuild."""
        return any(operation.lossy for operation in self.operations)

    @property
    def one_way(self) -> tuple[str, ...]:
        """The operations that have no downgrade."""
        return tuple(op.text for op in self.operations if op.inverse() is None)

    def __repr__(self) -> str:
        inner = "; ".join(operation.text for operation in self.operations)
        return f"{self.name}: {inner or 'nothing to change'}"


def step(start: int, end: int, *parts: Part) -> Step:
    """Say how state gets from one schema number to a higher one.

    Args:
        start: The schema number of the old state.
        end: The schema number of the new one.
        parts: Operations, run in order; or one or two functions: `upgrade(old) -> new`, which
            gets the whole state as plain dicts and lists and returns a new one, and its
            downgrade.

    Returns:
        The step, for `migrations = [...]` of a class or `MIGRATIONS` of a plain file.

    Raises:
        SchemaError: The numbers do not go up, or the parts are neither operations nor functions.
    """
    _check_numbers(start, end)
    if parts and all(_is_function(part) for part in parts):
        if len(parts) > 2:  # noqa: PLR2004 - up and down
            raise SchemaError(
                f"step({start}, {end}, ...) takes one or two functions", found=f"{len(parts)}"
            )
        return Step(start, end, (Apply(*parts, *([None] * (2 - len(parts)))),))  # type: ignore[arg-type]
    operations: list[Operation] = []
    for part in parts:
        group = (part,) if isinstance(part, Operation) or _is_function(part) else part
        for one in group if isinstance(group, list | tuple) else (group,):
            if not isinstance(one, Operation):
                raise SchemaError(
                    f"step({start}, {end}, ...) takes operations, or functions alone",
                    found=repr(one),
                    expected="add, remove, rename, move, convert, split, merge, nest, flatten, "
                    "each, rekey; or upgrade and downgrade functions",
                )
            operations.append(one)
    return Step(start, end, tuple(operations))


def add(
    path: str,
    default: Any = MISSING,
    *,
    factory: Callable[[], Any] | None = None,
    compute: Callable[[dict[str, Any]], Any] | None = None,
) -> Operation:
    """Add a field. Down: it is removed.

    Args:
        path: Path of the new field.
        default: Its value in existing records, copied for each.
        factory: Makes the value, instead of a default.
        compute: Makes the value from the record (a dict of its fields), instead of a default.

    Raises:
        SchemaError: None or several of the three are given.
    """
    given = (default is not MISSING) + (factory is not None) + (compute is not None)
    if given != 1:
        raise SchemaError(
            f"add({path!r}) needs exactly one of default, factory and compute",
            found=f"{given} of them",
            do=f"say what existing records get: add({path!r}, default=...)",
        )
    return Add(path, default, factory, compute)


def remove(
    path: str,
    default: Any = MISSING,
    *,
    factory: Callable[[], Any] | None = None,
    compute: Callable[[dict[str, Any]], Any] | None = None,
) -> Operation:
    """Remove a field. Down: the old value while it is known, else the default given here.

    Args:
        path: Path of the field.
        default: Its value on the way down; without any of the three the step is lossy.
        factory: Makes that value, instead of a default.
        compute: Makes that value from the record, instead of a default.
    """
    return Remove(path, default, factory, compute)


def rename(path: str, name: str) -> Operation:
    """Give a field another name in the same record.

    Args:
        path: Path of the field.
        name: The new name, without dots.
    """
    return Rename(path, name)


def move(path: str, to: str) -> Operation:
    """Move a field to another record within the same item.

    Args:
        path: Path of the field.
        to: Its new path; every `*` of both must stand in the same place.
    """
    return Move(path, to)


def convert(
    path: str,
    up: Callable[[Any], Any],
    down: Callable[[Any], Any] | None = None,
    *,
    lossy: bool = False,
) -> Operation:
    """Replace every value at a path by what a function makes of it.

    A value that was not changed meanwhile goes back to exactly what it was.

    Args:
        path: Path of the values; may end in `*`.
        up: Makes the new value.
        down: Makes the old value; without it there is no way back.
        lossy: Whether `down(up(value))` may differ from `value`.
    """
    return Convert(path, up, down, lossy=lossy)


def split(
    path: str,
    into: Iterable[str],
    up: Callable[[Any], Iterable[Any]],
    down: Callable[..., Any] | None = None,
) -> Operation:
    """Make several fields of one.

    Args:
        path: Path of the field.
        into: Names of the new fields, in the same record.
        up: Makes one value for each new field.
        down: Makes the old value from them, given in that order.
    """
    return Split(path, tuple(into), up, down)


def merge(
    path: str,
    names: Iterable[str],
    into: str,
    up: Callable[..., Any],
    down: Callable[[Any], Iterable[Any]] | None = None,
) -> Operation:
    """Make one field of several.

    Args:
        path: Path of the record that holds them; "" is the state itself.
        names: The old fields.
        into: Name of the new field.
        up: Makes the new value from the old ones, given in that order.
        down: Makes one value for each old field.
    """
    return Merge(path, tuple(names), into, up, down)


def nest(path: str, names: Iterable[str], into: str) -> Operation:
    """Put fields of a record into a record of their own.

    Args:
        path: Path of the record; "" is the state itself.
        names: The fields.
        into: Name of the field that holds the inner record.
    """
    return Nest(path, tuple(names), into)


def flatten(path: str, names: Iterable[str]) -> Operation:
    """Lift the fields of an inner record into the one that holds it.

    Args:
        path: Path of the field that holds the inner record.
        names: All fields of the inner record.
    """
    return Flatten(path, tuple(names))


def each(path: str, *operations: Operation) -> tuple[Operation, ...]:
    """Run operations on every item of a container; their paths begin at the item.

    Args:
        path: Path of the container.
        operations: What to do with each item.
    """
    return tuple(operation.under(f"{path}.*") for operation in operations)


def rekey(
    path: str,
    up: Callable[..., Any],
    down: Callable[..., Any] | None = None,
    *,
    with_item: bool = False,
) -> Operation:
    """Give every item of a dict or Table another key.

    Args:
        path: Path of the dict.
        up: Makes the new key from the old one.
        down: Makes the old key from the new one.
        with_item: Whether both also get the item.
    """
    return Rekey(path, up, down, with_item=with_item)


def steps_from_functions(namespace: Mapping[str, Any]) -> tuple[Step, ...]:
    """Make steps of functions named `migrate_1_2(old) -> new`; `migrate_2_1` is its downgrade.

    Args:
        namespace: Names with their values: a module's or a class's.

    Returns:
        The steps, sorted.

    Raises:
        SchemaError: A downgrade has no upgrade, or a name ends in the same number twice.
    """
    found: dict[tuple[int, int], Callable[..., Any]] = {}
    for name, value in namespace.items():
        match = _FUNCTION.fullmatch(name)
        function = value.__func__ if isinstance(value, staticmethod) else value
        if match and callable(function):
            found[int(match[1]), int(match[2])] = function
    steps = []
    for (start, end), up in sorted(found.items()):
        if start < end:
            steps.append(step(start, end, up, *filter(None, [found.get((end, start))])))
        elif start == end or (end, start) not in found:
            raise SchemaError(
                f"migrate_{start}_{end} is the way down of a step that has no way up",
                expected=f"migrate_{end}_{start}(old) beside it",
                do=f"write migrate_{end}_{start}, or remove migrate_{start}_{end}",
            )
    return tuple(steps)


def _is_function(part: Any) -> bool:
    return callable(part) and not isinstance(part, Operation)


def _check_numbers(start: Any, end: Any) -> None:
    numbers = all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in (start, end))
    if not numbers or start >= end:
        raise SchemaError(
            "a step leads from a schema number to a higher one",
            found=f"step({start!r}, {end!r}, ...)",
            expected="two whole numbers, the first one smaller",
            do="write the way down as the operations' other direction or as a second function",
        )


__all__ = [
    "Step",
    "add",
    "convert",
    "each",
    "flatten",
    "merge",
    "move",
    "nest",
    "rekey",
    "remove",
    "rename",
    "split",
    "step",
    "steps_from_functions",
]
