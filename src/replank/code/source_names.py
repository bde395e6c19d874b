"""What a source names: what it defines and imports, and where."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterable, Sequence

from replank.syntax import parse_module

ROOT = "replank"
"""The package whose functions steps are made of."""


def known_names(source: str) -> frozenset[str]:
    """Return the names that a module's source defines or imports at its top level."""
    return bound_names(parse_module(source).body) | frozenset(vars(builtins))


def defines_class(source: str, name: str) -> bool:
    """Tell whether a source defines a class of that name at its top level."""
    return any(isinstance(n, ast.ClassDef) and n.name == name for n in parse_module(source).body)


def assigned(body: Sequence[ast.stmt], name: str) -> ast.expr | None:
    """Return the value that a name is given in a body, None when it is given none."""
    found: ast.expr | None = None
    for node in body:
        if (
            isinstance(node, ast.Assign)
            and any(isinstance(target, ast.Name) and target.id == name for target in node.targets)
        ) or (
            isinstance(node, ast.AnnAssign)
            and isinstance(node.target, ast.Name)
            and node.target.id == name
        ):
            found = node.value
    return found


def state_node(body: Sequence[ast.stmt]) -> ast.stmt | None:
    """Return after which statement the numbers of a plain file belong: STATE, else imports."""
    for node in body:
        if isinstance(node, ast.Assign) and any(
            isinstance(target, ast.Name) and target.id in ("STATE", "SCHEMA", "VERSION")
            for target in node.targets
        ):
            return node
    return last_import(body)


def bound_names(body: Iterable[ast.stmt]) -> frozenset[str]:
    """Return the names that statements define or import."""
    names: set[str] = set()
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {(one.asname or one.name).partition(".")[0] for one in node.names}
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {n.id for one in targets for n in ast.walk(one) if isinstance(n, ast.Name)}
        elif isinstance(node, ast.If | ast.Try | ast.With):
            names |= bound_names(node.body) | bound_names(getattr(node, "orelse", ()))
    return frozenset(names)


def foreign_names(body: Sequence[ast.stmt]) -> frozenset[str]:
    """Return the top-level names that are not imported from Replank."""
    ours = [n for n in body if isinstance(n, ast.ImportFrom) and n.module == ROOT]
    own = {one.name for node in ours for one in node.names if one.asname is None}
    return bound_names([node for node in body if node not in ours]) - own


def last_import(body: Sequence[ast.stmt]) -> ast.stmt | None:
    """Return the last of the imports that begin the file, else its docstring, else None."""
    found: ast.stmt | None = None
    for index, node in enumerate(body):
        document = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if isinstance(node, ast.Import | ast.ImportFrom) or (index == 0 and document):
            found = node
        elif found is not None and not isinstance(node, ast.If | ast.Try):
            break
    return found


__all__ = [
    "ROOT",
    "assigned",
    "bound_names",
    "defines_class",
    "foreign_names",
    "known_names",
    "last_import",
    "state_node",
]
