"""What is typed after `--default field=` and `--convert field=`, as Python source."""

from __future__ import annotations

import ast
import builtins
import json
from typing import Any

from replank.errors import UsageError
from replank.hints import MAPPINGS, SETS
from replank.shapes import Shape
from replank.syntax import parse_expression

_WORDS = {"true": "True", "false": "False", "null": "None"}
_EMPTY = {"list": "[]", "set": "set()", "dict": "{}", "table": "{}", "tuple": "()"}
_NOTHING = object()
_SCALARS: dict[str, type] = {"bool": bool, "int": int, "str": str, "bytes": bytes}


def quoted(text: str) -> str:
    """Return a text as a Python literal in double quotes."""
    return json.dumps(text, ensure_ascii=False) if text.isprintable() else repr(text)


def literal(value: Any) -> str:
    """Return a plain value as a Python literal."""
    return quoted(value) if isinstance(value, str) else repr(value)


def default_source(path: str, text: str, shape: Shape, known: frozenset[str]) -> str:
    """Return the source of a default, checked against the field's type where it is a literal.

    Args:
        path: The field, for errors.
        text: What was typed: a literal, a word where the type takes text, the name of an enum's
            member, or an expression over names that the module knows.
        shape: The field's type.
        known: Names that the module's source defines or imports.

    Raises:
        UsageError: It is no value of that type, or names what the module does not know.
    """
    kinds = _members(shape)
    for kind in kinds:
        if kind.kind == "enum" and text in kind.members:
            return quoted(text)  # a member is its name in a tree
    value = _literal_value(_WORDS.get(text, text))
    if value is not _NOTHING and fits(value, shape):
        whole = isinstance(value, int) and not isinstance(value, bool)
        if whole and not any(kind.kind in ("int", "any") for kind in kinds):
            return repr(float(value))
        return literal(value)
    if any(kind.kind == "str" for kind in kinds) and not text.startswith(("'", '"')):
        return quoted(text)
    if value is _NOTHING and is_expression(text, known):
        return text
    unknown = ", ".join(sorted(_names(text) - known)) if value is _NOTHING else ""
    raise UsageError(
        f"{text} is no default of {path}",
        found=f"unknown: {unknown}" if unknown else text,
        expected=f"a value of type {shape}",
        do="import what it needs in the module's source" if unknown else "give another value",
    )


def function_source(path: str, text: str, known: frozenset[str]) -> str:
    """Return the source of a converter.

    Args:
        path: The field, for errors.
        text: What was typed: a name or a lambda.
        known: Names that the module's source defines or imports.

    Raises:
        UsageError: It is no expression, or names what the module does not know.
    """
    if is_expression(text, known):
        return text
    raise UsageError(
        f"{text} is no converter of {path}",
        found=", ".join(sorted(_names(text) - known)) or text,
        expected="a function's name that the module knows, or a lambda",
        do="define or import it in the module's source first",
    )


def empty_source(shape: Shape) -> str | None:
    """Return the source of an empty container of a shape, None for anything else."""
    return _EMPTY.get(shape.kind)


def is_expression(text: str, known: frozenset[str]) -> bool:
    """Tell whether a text is an expression over builtins and known names."""
    try:
        parse_expression(text)
    except (SyntaxError, ValueError):
        return False
    return _names(text) <= known


def fits(value: Any, shape: Shape) -> bool:  # noqa: C901, PLR0911 - one line a kind
    """Tell whether a plain value fits a shape.

    Args:
        value: What a literal evaluates to.
        shape: The type.
    """
    kind = shape.kind
    if kind in ("any", "unknown"):
        return True
    if kind == "union":
        return any(fits(value, item) for item in shape.items)
    if kind == "literal":
        return any(value == one and type(value) is type(one) for one in shape.values)
    if kind == "none":
        return value is None
    if kind == "float":
        return type(value) in (int, float)
    if kind in _SCALARS:
        return type(value) is _SCALARS[kind]
    if kind in MAPPINGS:
        keys, items = shape.items
        return isinstance(value, dict) and all(
            fits(k, keys) and fits(v, items) for k, v in value.items()
        )
    if kind in ("list", "deque") or (kind == "tuple" and shape.variable):
        wanted = tuple if kind == "tuple" else list
        return isinstance(value, wanted) and all(fits(v, shape.items[0]) for v in value)
    if kind == "tuple":
        same = isinstance(value, tuple) and len(value) == len(shape.items)
        return same and all(fits(v, s) for v, s in zip(value, shape.items, strict=True))
    if kind in SETS:
        return isinstance(value, set | frozenset) and all(fits(v, shape.items[0]) for v in value)
    return kind == "record" and isinstance(value, dict)


def _members(shape: Shape) -> tuple[Shape, ...]:
    return shape.items if shape.kind == "union" else (shape,)


def _literal_value(text: str) -> Any:
    if text == "set()":
        return set()
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        return _NOTHING


def _names(text: str) -> frozenset[str]:
    """Return the names that an expression needs from outside."""
    try:
        tree = parse_expression(text)
    except (SyntaxError, ValueError):
        return frozenset()
    loaded = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
    bound = {n.arg for n in ast.walk(tree) if isinstance(n, ast.arg)}
    bound |= {
        n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
    }
    return frozenset(loaded - bound - set(vars(builtins)))


__all__ = [
    "default_source",
    "empty_source",
    "fits",
    "function_source",
    "is_expression",
    "literal",
    "quoted",
]
