"""Which calls of another module a module uses, found in its source.

What cannot be told, because a handle is passed on or a call is named by a variable, counts as a use
of everything: a reload is rather refused than a caller broken.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator

from replank.syntax import parse_module

_DETOURS = frozenset({"send", "blocking"})


def interface_calls(interface: type) -> frozenset[str]:
    """Return the calls that a typed interface names, its bases' included.

    Args:
        interface: The `Ledger` of `Uses[Ledger]`, usually a Protocol.
    """
    return frozenset(
        name
        for base in interface.__mro__[:-1]
        for name, value in vars(base).items()
        if not name.startswith("_") and callable(value)
    )


def calls_used(sources: Iterable[str], field: str) -> frozenset[str] | None:
    """Return the calls that a module makes through the handle in one of its fields.

    Args:
        sources: The text of each of the module's files.
        field: Name of the field, or of the variable in a plain file.

    Returns:
        The calls' names, or None when it cannot be told.
    """
    names: set[str] = set()
    for text in sources:
        try:
            found = _Scan(parse_module(text), field).calls()
        except (SyntaxError, ValueError, RecursionError):
            return None  # it runs, so it is Python; then it is not for us to read
        if found is None:
            return None
        names |= found
    return frozenset(names)


class _Scan:
    """One file, in which a handle goes by the name of its field and by aliases."""

    def __init__(self, tree: ast.Module, field: str) -> None:
        self.field = field
        self.aliases = {field}
        self.nodes = list(ast.walk(tree))
        self.parents = {child: node for node in self.nodes for child in ast.iter_child_nodes(node)}

    def calls(self) -> set[str] | None:
        while True:
            known = len(self.aliases)
            names = [self._use(node) for node in self._handles()]
            if len(self.aliases) == known:
                break  # no new alias: every use has been seen
        if None in names:
            return None
        return {name for name in names if name}

    def _handles(self) -> Iterator[ast.expr]:
        """Yield every place where the handle is read."""
        for node in self.nodes:
            match node:
                case ast.Attribute(attr=self.field, ctx=ast.Load()):
                    yield node
                case ast.Name(id=name, ctx=ast.Load()) if name in self.aliases:
                    yield node
                case ast.ImportFrom(names=names):
                    found = (one.asname for one in names if one.name == self.field and one.asname)
                    self.aliases.update(found)

    def _use(self, handle: ast.expr) -> str | None:  # noqa: PLR0911 - one line a kind
        """Return the call made here, "" for none, None when it cannot be told."""
        parent = self.parents[handle]
        match parent:
            case ast.Attribute(attr=name) if name in _DETOURS:
                outer = self.parents[parent]
                return outer.attr if isinstance(outer, ast.Attribute) else None
            case ast.Attribute(attr=name):
                return name
            case ast.Call(
                func=ast.Name(id="getattr"), args=[one, ast.Constant(value=str(name))]
            ) if one is handle:
                return name
            case ast.Assign(targets=[ast.Name(id=alias)]):
                self.aliases.add(alias)
                return ""
            case ast.NamedExpr(target=ast.Name(id=alias)):
                self.aliases.add(alias)
                return self._use(parent)
            case ast.BoolOp() | ast.IfExp():
                return self._use(parent)  # its value may be the handle
            case ast.Expr() | ast.Compare() | ast.UnaryOp() | ast.If() | ast.Assert():
                return ""  # looked at, not used
            case _:
                return None


__all__ = ["calls_used", "interface_calls"]
