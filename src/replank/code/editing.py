"""Write a step into a module's source: into its list of migrations, with the schema number raised.

Only what has to change is touched; comments and layout stay. Where the source is written in a way
that is not understood for certain (a list that is computed, a number that is no literal) nothing
is written, and the author is told what to paste.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from replank.code.source_names import (
    ROOT,
    assigned,
    bound_names,
    foreign_names,
    known_names,
    last_import,
    state_node,
)
from replank.errors import UsageError
from replank.syntax import parse_module

_LINE_ENDS = re.compile(r"\r\n|\r|\n")
_LINE_MAX = 88

StepText = Callable[[int, str], str]
"""Makes the step's source, for an indentation in columns and a prefix for Replank's functions."""


@dataclass(frozen=True, slots=True)
class _Edit:
    start: int
    end: int
    text: str


def insert_class_step(
    source: str, owner: str, step: StepText, functions: Sequence[str], number: int
) -> str:
    """Add a step to a module class and raise its schema number.

    Args:
        source: The file that defines the class.
        owner: The class's name.
        step: Makes the step's source.
        functions: The names of Replank that the step uses.
        number: The new schema number.

    Returns:
        The new source.

    Raises:
        UsageError: The source is written in a way that cannot be changed for certain.
    """
    text = _Text(source)
    node = next(n for n in text.tree.body if isinstance(n, ast.ClassDef) and n.name == owner)
    taken = bound_names(node.body) | foreign_names(text.tree.body)
    prefix, edits = _importing(text, functions, taken)
    edits.append(_class_number(text, node, number))
    found = assigned(node.body, "migrations")
    if found is not None:
        edits.append(_into_list(text, found, step, prefix))
    else:
        edits.append(_new_attribute(text, node, step, prefix))
    return text.changed(edits)


def insert_file_step(source: str, step: StepText, functions: Sequence[str], number: int) -> str:
    """Add a step to a plain file's `MIGRATIONS` and raise its `SCHEMA`.

    Args:
        source: The file.
        step: Makes the step's source.
        functions: The names of Replank that the step uses.
        number: The new schema number.

    Returns:
        The new source.

    Raises:
        UsageError: The source is written in a way that cannot be changed for certain.
    """
    text = _Text(source)
    prefix, edits = _importing(text, functions, foreign_names(text.tree.body))
    body = text.tree.body
    schema, found = assigned(body, "SCHEMA"), assigned(body, "MIGRATIONS")
    fresh = []
    if schema is None:
        fresh.append(f"SCHEMA = {number}")
    else:
        edits.append(_number(text, schema, number, "SCHEMA"))
    if found is None:
        fresh.append(f"MIGRATIONS = {_fresh_list(step, prefix, 0)}")
    else:
        edits.append(_into_list(text, found, step, prefix))
    if fresh:
        at = text.after(state_node(body))
        edits.append(_Edit(at, at, "".join(f"\n{line}" for line in fresh)))
    return text.changed(edits)


def insert_functions(source: str, functions: str, number: int) -> str:
    """Add `migrate_N_M` functions to the end of a plain file, and raise its `SCHEMA` if it has one.

    Args:
        source: The file.
        functions: Their source.
        number: The new schema number.

    Returns:
        The new source.

    Raises:
        UsageError: `SCHEMA` is no literal number.
    """
    text = _Text(source)
    schema = assigned(text.tree.body, "SCHEMA")
    edits = [] if schema is None else [_number(text, schema, number, "SCHEMA")]
    end = len(source.rstrip())
    if "copy" not in known_names(source):
        edits.append(_new_import(text, "import copy"))
    edits.append(_Edit(end, len(source), f"\n\n\n{functions.rstrip()}\n"))
    return text.changed(edits)


class _Text:
    """A source with its tree, where nodes are found by their offset."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.tree = parse_module(source)
        # Not splitlines: a form feed ends no line for the parser.
        self.starts = [0, *(match.end() for match in _LINE_ENDS.finditer(source))]
        found = _LINE_ENDS.search(source)
        self.newline = found[0] if found else "\n"

    def offset(self, line: int, column_bytes: int) -> int:
        start = self.starts[line - 1]
        end = self.starts[line] if line < len(self.starts) else len(self.source)
        encoded = self.source[start:end].encode()
        return start + len(encoded[:column_bytes].decode())

    def start(self, node: ast.expr | ast.stmt) -> int:
        return self.offset(node.lineno, node.col_offset)

    def end(self, node: ast.expr | ast.stmt) -> int:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self.offset(node.end_lineno, node.end_col_offset)

    def after(self, node: ast.stmt | None) -> int:
        """Return the end of a statement's last line, its comment included."""
        if node is None:
            return 0
        line = self.source[self.end(node) :]
        match = _LINE_ENDS.search(line)
        return self.end(node) + (match.start() if match else len(line))

    def changed(self, edits: Iterable[_Edit]) -> str:
        result = self.source
        for edit in sorted(edits, key=lambda one: one.start, reverse=True):
            text = _LINE_ENDS.sub(self.newline, edit.text)
            result = result[: edit.start] + text + result[edit.end :]
        parse_module(result)
        return result


# -- the list of steps


def _into_list(text: _Text, value: ast.expr, step: StepText, prefix: str) -> _Edit:
    if not isinstance(value, ast.List | ast.Tuple):
        raise _by_hand("the migrations are no literal list", ast.unparse(value)[:80], value)
    base = len(text.source[text.starts[value.lineno - 1] : text.start(value)])
    line = text.source[text.starts[value.lineno - 1] :]
    base = min(base, len(line) - len(line.lstrip(" ")))
    inner = base + 4
    added = f"{step(inner, prefix)},"
    if not value.elts:
        opened = "[" if isinstance(value, ast.List) else "("
        closed = "]" if opened == "[" else ")"
        pad = "\n" + " " * inner
        return _Edit(
            text.start(value), text.end(value), f"{opened}{pad}{added}\n{' ' * base}{closed}"
        )
    last = value.elts[-1]
    if last.col_offset and last.lineno != value.lineno:
        inner = _indent_of(text, last)
        added = f"{step(inner, prefix)},"
    at, end = text.end(last), text.end(value)
    bare = isinstance(value, ast.Tuple) and text.start(value) == text.start(value.elts[0])
    if bare:
        raise _by_hand("the migrations are a tuple without brackets", "", value)
    between = text.source[at : end - 1]
    comma = "" if _has_comma(between) else ","
    rest = between.rstrip(" \t")
    if "\n" in between or "\r" in between:
        tail = rest.rstrip("\r\n \t")
        lines = f"{comma}{tail}\n{' ' * inner}{added}\n{' ' * base}"
        return _Edit(at, end - 1, lines)
    # One line becomes one line for each step.
    first = text.source[text.start(value.elts[0]) : at]
    opening = text.source[text.start(value)]
    whole = f"{opening}\n{' ' * inner}{first},\n{' ' * inner}{added}\n{' ' * base}"
    return _Edit(text.start(value), end - 1, whole)


def _fresh_list(step: StepText, prefix: str, base: int) -> str:
    inner = base + 4
    flat = f"[{step(base, prefix)}]"
    if "\n" not in flat and base + len("migrations = ") + len(flat) <= _LINE_MAX:
        return flat
    return f"[\n{' ' * inner}{step(inner, prefix)},\n{' ' * base}]"


def _has_comma(between: str) -> bool:
    """Tell whether a comma stands between the last item and the bracket, comments aside."""
    try:
        tokens = tokenize.generate_tokens(io.StringIO(f"({between.strip()}\n)").readline)
        return any(one.type == tokenize.OP and one.string == "," for one in tokens)
    except (tokenize.TokenError, IndentationError, SyntaxError):
        return "," in between


def _indent_of(text: _Text, node: ast.expr) -> int:
    line = text.source[text.starts[node.lineno - 1] :]
    return len(line) - len(line.lstrip(" "))


def _new_attribute(text: _Text, node: ast.ClassDef, step: StepText, prefix: str) -> _Edit:
    if node.body[0].lineno == node.lineno:
        raise _by_hand(f"class {node.name} is written on one line", "", node)
    place: ast.stmt | None = None
    for statement in node.body:
        document = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
        if not document and not isinstance(statement, ast.Assign | ast.AnnAssign):
            break
        place = statement
    base = node.body[0].col_offset
    pad = " " * base
    attribute = f"migrations = {_fresh_list(step, prefix, base)}"
    if place is not None:
        at = text.after(place)
        return _Edit(at, at, f"\n\n{pad}{attribute}")
    first = node.body[0]
    line = min([first.lineno, *(d.lineno for d in getattr(first, "decorator_list", ()))])
    at = text.starts[line - 1]
    return _Edit(at, at, f"{pad}{attribute}\n\n")


# -- the schema number


def _class_number(text: _Text, node: ast.ClassDef, number: int) -> _Edit:
    for keyword in node.keywords:
        if keyword.arg == "schema":
            return _number(text, keyword.value, number, f"schema of class {node.name}")
    ends = [text.end(base) for base in node.bases]
    ends += [text.end(keyword.value) for keyword in node.keywords]
    at = max(ends)
    return _Edit(at, at, f", schema={number}")


def _number(text: _Text, value: ast.expr, number: int, what: str) -> _Edit:
    if not isinstance(value, ast.Constant) or not isinstance(value.value, int):
        raise _by_hand(f"the {what} is no plain number", ast.unparse(value)[:80], value)
    return _Edit(text.start(value), text.end(value), str(number))


# -- imports


def _importing(
    text: _Text, functions: Sequence[str], taken: frozenset[str]
) -> tuple[str, list[_Edit]]:
    """Return the prefix of Replank's functions, and what has to be imported for them."""
    froms = [
        node
        for node in text.tree.body
        if isinstance(node, ast.ImportFrom) and node.module == ROOT and node.level == 0
    ]
    whole = any(
        isinstance(node, ast.Import)
        and any(one.name == ROOT and one.asname is None for one in node.names)
        for node in text.tree.body
    )
    if taken & set(functions) or (whole and not froms):
        # A call or field of that name would hide the function.
        if whole:
            return f"{ROOT}.", []
        return f"{ROOT}.", [_new_import(text, f"import {ROOT}")]
    imported = {one.name for node in froms for one in node.names if one.asname is None}
    missing = sorted(set(functions) - imported)
    if not missing:
        return "", []
    if froms and "#" not in ast_source(text, froms[-1]):
        node = froms[-1]
        names = [f"{n.name} as {n.asname}" if n.asname else n.name for n in node.names]
        return "", [_Edit(text.start(node), text.end(node), _import_text([*names, *missing]))]
    return "", [_new_import(text, _import_text(missing))]


def _new_import(text: _Text, line: str) -> _Edit:
    last = last_import(text.tree.body)
    at = text.after(last)
    if last is None:
        return _Edit(at, at, f"{line}\n\n")
    return _Edit(at, at, f"\n\n{line}" if isinstance(last, ast.Expr) else f"\n{line}")


def ast_source(text: _Text, node: ast.stmt) -> str:
    """Return a statement's own source."""
    return text.source[text.start(node) : text.end(node)]


def _import_text(names: Iterable[str]) -> str:
    ordered = sorted(set(names), key=_import_order)
    flat = f"from {ROOT} import {', '.join(ordered)}"
    if len(flat) <= _LINE_MAX:
        return flat
    inner = "".join(f"    {name},\n" for name in ordered)
    return f"from {ROOT} import (\n{inner})"


def _import_order(name: str) -> tuple[int, str]:
    kind = 0 if name.isupper() else 1 if name[:1].isupper() else 2
    return kind, name


def _by_hand(what: str, found: str, node: ast.expr | ast.stmt) -> UsageError:
    return UsageError(
        f"nothing was written: {what}",
        found=found or f"line {node.lineno}",
        expected="a literal that can be changed for certain",
        do="paste the step by hand",
    )


__all__ = [
    "StepText",
    "insert_class_step",
    "insert_file_step",
    "insert_functions",
]
