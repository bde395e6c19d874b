"""Which calls of another module a module uses, found in its source.

What cannot be told, because a handle is passed on or a call is named by a variable, counts as a use
of everything: a reload is rather refused than a caller broken.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator

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
            found = _Scan(ast.parse(text), field).calls()
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
            read = isinstance(getattr(node, "ctx", None), ast.Load)
            if isinstance(node, ast.Attribute) and node.attr == self.field and read:
                yield node
            elif isinstance(node, ast.Name) and node.id in self.aliases and read:
                yield node

    def _use(self, handle: ast.expr) -> str | None:
        """Return the call made here, "" for none, None when it cannot be told."""
        parent = self.parents[handle]
        match parent:
            case ast.Attribute(attr=name) if name in _DETOURS:
                outer = self.parents[parent]
                return outer.attr if isinstance(outer, ast.Attribute) else None
            case ast.Attribute(attr=name):
                return name
            case ast.Call(
                func=ast.Name(id="getattr"), args=[first, ast.Constant(value=str(name)), *_]
            ):
                return name if first is handle else None
            case (
                ast.Assign(targets=[ast.Name(id=alias)]) | ast.NamedExpr(target=ast.Name(id=alias))
            ):
                self.aliases.add(alias)
                # The value of `(x := self.ledger)` is the handle once more.
                return self._use(parent) if isinstance(parent, ast.NamedExpr) else ""
            case (
                ast.Expr() | ast.Compare() | ast.BoolOp() | ast.UnaryOp() | ast.If() | ast.Assert()
            ):
                return ""  # looked at, not used
            case _:
                return None


__all__ = ["calls_used", "interface_calls"]
