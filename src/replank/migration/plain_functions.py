"""A drafted step as `migrate_1_2(old)` and `migrate_2_1(new)`: for plain files written that way."""

from __future__ import annotations

import ast
from collections.abc import Sequence

from replank.hints import MAPPINGS, SEQUENCES
from replank.migration.conversions import Convert
from replank.migration.drafting import Draft, Line
from replank.migration.operations import Add, Remove, Rename
from replank.migration.outline import outline
from replank.migration.steps import Step
from replank.shapes import Field, Schema, Shape
from replank.syntax import parse_expression


def functions_text(draft: Draft, schema: Schema) -> str | None:
    """Return the functions of a step, or None where an operation is better left to `step`.

    Args:
        draft: A draft without questions.
        schema: The state's shape before the step.
    """
    up: list[str] = []
    down: list[list[str]] = []
    reversible = True
    for line in draft.lines:
        loops = _loops(schema, line)
        if loops is None:
            return None
        up += _written(loops, _up(line))
        back = _down(line)
        reversible = reversible and back is not None
        down.append(_written(loops, back or []))
        after = outline(schema, Step(draft.start, draft.end, (line.operation,)))
        if after is None:
            return None
        schema = after
    parts = [_function(draft.start, draft.end, "old", "new", up)]
    if reversible:
        lines = [text for one in reversed(down) for text in one]
        parts.append(_function(draft.end, draft.start, "new", "old", lines))
    return "\n\n\n".join(parts) + "\n"


def _function(start: int, end: int, given: str, made: str, lines: Sequence[str]) -> str:
    body = [f"{made} = copy.deepcopy({given})", *(line.replace("@", made) for line in lines)]
    inner = "\n".join(f"    {line}" for line in [*body, f"return {made}"])
    return f"def migrate_{start}_{end}({given}):\n{inner}"


def _loops(schema: Schema, line: Line) -> list[str] | None:
    """Return what leads to the records that are changed: a `for` for each `*`, and keys."""
    operation = line.operation
    if not isinstance(operation, Add | Remove | Rename | Convert):
        return None
    way = operation.segments[:-1] if isinstance(operation, Convert) else operation.segments
    if isinstance(operation, Convert) and operation.segments[-1] == "*":
        return None
    fields: tuple[Field, ...] = schema.fields
    shape: Shape | None = None
    parts: list[str] = []
    for segment in way:
        if segment == "*" and shape is not None:
            mapping = shape.kind in MAPPINGS
            if not mapping and shape.kind not in SEQUENCES - {"tuple"}:
                return None
            parts.append(".values()" if mapping else "")
            shape = shape.items[-1]
        else:
            found = next((field for field in fields if field.name == segment), None)
            if found is None or (shape is not None and shape.kind != "record"):
                return None
            parts.append(f"[{_quote(segment)}]")
            shape = found.shape
        record = schema.records.get(shape.name) if shape.kind == "record" else None
        fields = record.fields if record else ()
    if shape is not None and shape.kind != "record":
        return None
    return parts


def _written(loops: list[str], lines: list[str]) -> list[str]:
    """Write lines about a record `#` inside the loops that lead to it; `@` is the state."""
    if not lines:
        return []
    here, depth, result = "@", 0, []
    for index, part in enumerate(loops):
        if part.startswith("["):
            here += part
            if index + 1 < len(loops) and not loops[index + 1].startswith("["):
                name = f"item{depth or ''}"
                result.append(f"{'    ' * depth}for {name} in {here}{loops[index + 1]}:")
                here, depth = name, depth + 1
        elif index and not loops[index - 1].startswith("["):
            name = f"item{depth or ''}"
            result.append(f"{'    ' * depth}for {name} in {here}{part}:")
            here, depth = name, depth + 1
    return result + [f"{'    ' * depth}{line.replace('#', here)}" for line in lines]


def _up(line: Line) -> list[str]:
    operation, given = line.operation, _arguments(line)
    if isinstance(operation, Rename):
        return [f"#[{_quote(operation.to)}] = #.pop({_quote(operation.name)})"]
    if isinstance(operation, Remove):
        return [f"#.pop({_quote(operation.name)})"]
    if isinstance(operation, Add):
        return [f"#[{_quote(operation.name)}] = {given['default']}"]
    name = _quote(operation.segments[-1])
    return [f"#[{name}] = {_called(given['up'])}(#[{name}])"]


def _down(line: Line) -> list[str] | None:
    operation, given = line.operation, _arguments(line)
    if isinstance(operation, Rename):
        return [f"#[{_quote(operation.name)}] = #.pop({_quote(operation.to)})"]
    if isinstance(operation, Remove):
        value = given.get("default")
        return [] if value is None else [f"#[{_quote(operation.name)}] = {value}"]
    if isinstance(operation, Add):
        return [f"#.pop({_quote(operation.name)})"]
    if "down" not in given:
        return None
    name = _quote(operation.segments[-1])
    return [f"#[{name}] = {_called(given['down'])}(#[{name}])"]


def _arguments(line: Line) -> dict[str, str]:
    """Return the source of each argument by name."""
    source = f"f({line.arguments})"
    call = parse_expression(source)
    assert isinstance(call, ast.Call), "a line is a call"
    names = ("path", "up", "down") if line.function == "convert" else ("path", "name")
    parts = dict(zip(names, call.args, strict=False))
    parts |= {one.arg: one.value for one in call.keywords if one.arg}
    return {name: ast.get_source_segment(source, node) or "" for name, node in parts.items()}


def _called(function: str) -> str:
    return function if function.replace(".", "").isidentifier() else f"({function})"


def _quote(name: str) -> str:
    return f'"{name}"'


__all__ = ["functions_text"]
