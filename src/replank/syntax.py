"""Read Python's own syntax, from several threads at once."""

from __future__ import annotations

import ast
import threading
from typing import Final

_TRIES: Final = 5
_one_at_a_time: Final = threading.RLock()  # a collection within may parse too


def parse_module(source: str | bytes, filename: str = "<unknown>") -> ast.Module:
    """Return the tree of a whole file.

    Args:
        source: Its text.
        filename: Where it is, for errors.

    Raises:
        SyntaxError: It is no Python.
    """
    tree = _parse(source, filename, "exec")
    assert isinstance(tree, ast.Module)
    return tree


def parse_expression(text: str) -> ast.expr:
    """Return the tree of one expression.

    Args:
        text: The expression.

    Raises:
        SyntaxError: It is none.
    """
    tree = _parse(text, "<unknown>", "eval")
    assert isinstance(tree, ast.Expression)
    return tree.body


def _parse(source: str | bytes, filename: str, mode: str) -> ast.AST:
    """Parse under a lock.

    Before Python 3.11.8 and 3.12.2 two threads that parse at once spoil each other's count of the
    depth (`SystemError: AST constructor recursion depth mismatch`, CPython issue 106905). The lock
    keeps ours apart; a thread of the program's own may still come between, so try again.
    """
    for _ in range(_TRIES):
        try:
            with _one_at_a_time:
                return compile(source, filename, mode, ast.PyCF_ONLY_AST, dont_inherit=True)
        except SystemError as error:
            failed = error
    raise failed
