"""Compile the way of one table's records to two plain functions, without any tree in between.

The steps of a path are fused: each new field becomes one expression over the old record, each old
field one over the new. The way down follows the law of lenses: what the new version has not
changed gives back exactly the old value; only what it changed is converted. So cents that went to
euros and came back unchanged are the same cents, and a removed field has its old value.

Available when every operation on the table changes fields of its records one by one; others need
the tree engine, and so the eager mode.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from replank.errors import MigrationError
from replank.migration.conversions import Apply, Convert, Merge, Rekey, Split
from replank.migration.operations import MISSING, Add, Automatic, Operation, Remove, Rename
from replank.plain import show

Record = Any
Pass = Callable[[Any], Any]

_ATOMS = (type(None), bool, int, float, str, bytes)


@dataclass(frozen=True, slots=True)
class RecordMigration:
    """The way of one table's records.

    Attributes:
        upgrade: New record from an old one, which it does not touch.
        downgrade: Old record from a new one and the old one kept, or None; None when a step is
            one-way.
        source: The generated code, for people.
    """

    upgrade: Callable[[Record], Record]
    downgrade: Callable[[Record, Record | None], Record] | None
    source: str


@dataclass(slots=True)
class _Expression:
    """How a field is made, and of which fields."""

    code: str
    parts: frozenset[str]
    made: bool = False
    """Whether an author's function made it: then it is checked against its type."""


def table_operations(
    forward: Iterable[tuple[str, Operation]], table: str
) -> tuple[str, tuple[tuple[str, Operation], ...]] | None:
    """Pick the operations on one table's records.

    Args:
        forward: All operations of a path, each with its step's name.
        table: The table's field in the old schema.

    Returns:
        The field's name in the new schema and the operations, or None when one of them does more
        than change fields of single records.
    """
    name = table
    picked: list[tuple[str, Operation]] = []
    for step, operation in forward:
        if isinstance(operation, Apply):
            return None
        segments = operation.segments
        if segments[:1] == (name,):
            if not _is_local(operation):
                return None
            picked.append((step, operation))
        elif not segments:
            if isinstance(operation, Rename) and operation.name == name:
                name = operation.to
            elif name in _touched(operation):
                return None
        elif name in _touched(operation) or not isinstance(operation, _KNOWN):
            return None
    return name, tuple(picked)


_KNOWN = (Add, Remove, Automatic, Rename, Convert, Split, Merge, Rekey)


def _touched(operation: Operation) -> set[str]:
    names = {getattr(operation, "name", None), getattr(operation, "to", None)}
    names |= set(getattr(operation, "into", ()) or ()) | set(getattr(operation, "names", ()) or ())
    into = getattr(operation, "into", None)
    return {one for one in (*names, into) if isinstance(one, str)}


def _is_local(operation: Operation) -> bool:
    """Whether an operation changes one field of each record, one level deep."""
    if isinstance(operation, Convert):
        return len(operation.segments) == 3 and operation.segments[1] == "*"  # noqa: PLR2004
    single = isinstance(operation, Add | Remove | Automatic | Rename | Split | Merge)
    computed = isinstance(operation, Add | Remove) and operation.compute is not None
    return single and not computed and operation.segments[1:] == ("*",)


@dataclass(slots=True)
class RecordCompiler:
    """Compile the operations of one table.

    Args:
        old_fields: Names of the old record's fields, in order.
        new_fields: Names of the new record's fields, in order.
        old: Makes an old record from keyword arguments.
        new: Makes a new record from keyword arguments.
        rebuild: By new field, what brings an unchanged value to the new generation's classes;
            missing for values that are handed over as they are.
        rebuild_down: The same by old field, for the way down.
        check: By new field, checks a made value against its type and returns it.
    """

    old_fields: tuple[str, ...]
    new_fields: tuple[str, ...]
    old: Callable[..., Record]
    new: Callable[..., Record]
    rebuild: Mapping[str, Pass]
    rebuild_down: Mapping[str, Pass]
    check: Mapping[str, Pass]
    _names: dict[str, Any] = field(default_factory=dict)

    def compile(self, operations: Iterable[tuple[str, Operation]]) -> RecordMigration:
        """Generate the two functions.

        Raises:
            MigrationError: The operations do not lead to the new record's fields.
        """
        operations = tuple(operations)
        self._names = {"Old": self.old, "New": self.new, "MISSING": MISSING}
        up = self._up(operations)
        down = self._down(operations, up[1])
        source = "\n\n".join(part for part in (up[0], down) if part)
        space = dict(self._names)
        exec(compile(source, "<migration of a table's records>", "exec"), space)  # noqa: S102
        return RecordMigration(space["upgrade"], space.get("downgrade"), source)

    def _up(
        self, operations: tuple[tuple[str, Operation], ...]
    ) -> tuple[str, dict[str, _Expression]]:
        lines: list[str] = []
        made = {n: _Expression(f"o.{n}", frozenset({n})) for n in self.old_fields}
        for number, (step, operation) in enumerate(operations):
            self._apply(operation, made, lines, f"{number}", step)
        unknown = sorted(made.keys() - set(self.new_fields))
        if unknown:
            raise MigrationError(
                f"records have fields that the new type does not: {', '.join(unknown)}",
                expected=", ".join(self.new_fields),
                do="remove or rename them in a step",
            )
        given = ", ".join(
            f"{n}={self._finished(n, made[n], self.rebuild, 'r')}"
            for n in self.new_fields
            if n in made
        )
        return "\n".join(["def upgrade(o):", *lines, f"    return New({given})"]), made

    def _finished(
        self, name: str, expression: _Expression, rebuild: Mapping[str, Pass], prefix: str
    ) -> str:
        if expression.made and name in self.check and prefix == "r":
            self._names[f"c_{name}"] = self.check[name]
            return f"c_{name}({expression.code})"
        if not expression.made and name in rebuild:
            self._names[f"{prefix}_{name}"] = rebuild[name]
            return f"{prefix}_{name}({expression.code})"
        return expression.code

    def _apply(
        self,
        operation: Operation,
        made: dict[str, _Expression],
        lines: list[str],
        tag: str,
        step: str,
    ) -> None:
        """Note in `made` what one operation does to the fields."""
        if isinstance(operation, Rename):
            made[operation.to] = made.pop(operation.name)
        elif isinstance(operation, Add):
            if not operation.forgot:
                made[operation.name] = _Expression(self._default(operation, tag), frozenset(), True)
        elif isinstance(operation, Remove):
            made.pop(operation.name)
        elif isinstance(operation, Automatic):
            if operation.drop:
                made.pop(operation.name, None)
        elif isinstance(operation, Convert):
            name = operation.segments[-1]
            before = made[name]
            function = self._function(operation.up, tag, step, name)
            made[name] = _Expression(f"{function}({before.code})", before.parts, True)
        elif isinstance(operation, Split):
            before = made.pop(operation.name)
            function = self._function(operation.up, tag, step, operation.name)
            lines.append(f"    s{tag} = {function}({before.code})")
            self._check_split(operation, tag, step, lines)
            for index, name in enumerate(operation.into):
                made[name] = _Expression(f"s{tag}[{index}]", before.parts, True)
        elif isinstance(operation, Merge):
            parts = [made.pop(name) for name in operation.names]
            function = self._function(operation.up, tag, step, operation.into)
            code = f"{function}({', '.join(part.code for part in parts)})"
            used = frozenset().union(*(part.parts for part in parts))
            made[operation.into] = _Expression(code, used, True)

    def _check_split(self, operation: Split, tag: str, step: str, lines: list[str]) -> None:
        count = len(operation.into)
        error = _wrong_split(step, operation)
        self._names[f"w{tag}"] = error
        lines.append(f"    if len(s{tag}) != {count}: raise w{tag}(s{tag})")

    def _function(self, function: Callable[..., Any], tag: str, step: str, name: str) -> str:
        """Name an author's function in the generated code; what it raises says where."""
        self._names[f"f{tag}"] = _telling(function, step, name)
        return f"f{tag}"

    def _default(self, operation: Add, tag: str) -> str:
        if operation.factory is not None:
            self._names[f"d{tag}"] = operation.factory
            return f"d{tag}()"
        self._names[f"d{tag}"] = operation.default
        if isinstance(operation.default, _ATOMS):
            return f"d{tag}"
        self._names["copied"] = copy.deepcopy
        return f"copied(d{tag})"

    def _down(
        self, operations: tuple[tuple[str, Operation], ...], up: Mapping[str, _Expression]
    ) -> str:
        """Generate the way down; "" when there is none."""
        inverses = [(step, one.inverse()) for step, one in reversed(operations)]
        if any(one is None for _, one in inverses):
            return ""
        lines: list[str] = []
        back = {n: _Expression(f"n.{n}", frozenset({n})) for n in self.new_fields}
        for number, (step, inverse) in enumerate(inverses):
            assert inverse is not None
            self._apply(inverse, back, lines, f"b{number}", step)
        # A field of the new type that no operation explains was filled in with its default.
        fresh = [n for n in self.old_fields if n in back]
        lost = [n for n in self.old_fields if n not in back]
        shown = {n: self._finished(n, back[n], self.rebuild_down, "k") for n in fresh}
        made = ", ".join(f"{n}={shown[n]}" for n in fresh)
        kept = ", ".join(
            [f"{n}={self._kept(n, shown[n], up)}" for n in fresh] + [f"{n}=o.{n}" for n in lost]
        )
        body = ["def downgrade(n, o=None):", *lines, "    if o is None:"]
        body += [f"        return Old({made})", "    m = upgrade(o)", f"    return Old({kept})"]
        return "\n".join(body)

    def _kept(self, name: str, down: str, up: Mapping[str, _Expression]) -> str:
        """Take the old value while everything that was made of it is unchanged."""
        images = [new for new, expression in up.items() if name in expression.parts]
        direct = [new for new in images if not up[new].made]
        if direct and len(images) == 1:
            return down
        same = " and ".join(f"m.{image} == n.{image}" for image in sorted(images)) or "True"
        return f"(o.{name} if {same} else {down})"


def _telling(function: Callable[..., Any], step: str, name: str) -> Callable[..., Any]:
    """Wrap an author's function: what it raises says step, field and old value."""

    def call(*values: Any) -> Any:
        try:
            return function(*values)
        except Exception as error:
            raise MigrationError(
                f"{step} failed at {name}: {type(error).__name__}: {error}",
                found=f"old value {', '.join(show(value) for value in values)}",
                expected=f"{getattr(function, '__qualname__', 'the function')} to return the new",
                do="mend the step for values like this one",
            ) from error

    return call


def _wrong_split(step: str, operation: Split) -> Callable[[Any], MigrationError]:
    def error(parts: Any) -> MigrationError:
        return MigrationError(
            f"{step} failed at {operation.name}: not one value for each new field",
            found=f"new value {show(parts)}",
            expected=f"({', '.join(operation.into)})",
            do="mend the function of the split",
        )

    return error
