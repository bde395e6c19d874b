"""Python's syntax is read the same whoever else reads at the time."""

from __future__ import annotations

import ast
import gc
import threading
import time
from collections.abc import Iterator

import pytest

from replank.syntax import parse_expression, parse_module

SOURCE = "\n".join(f"def f{i}(x):\n    return [x + {i} for y in range(x)]" for i in range(150))


@pytest.fixture
def switching() -> Iterator[None]:
    """Have a collection begin within each tree, and each let another thread run."""

    def let_others_run(*_: object) -> None:
        time.sleep(0)

    before = gc.get_threshold()
    gc.set_threshold(50)
    gc.callbacks.append(let_others_run)
    yield
    gc.callbacks.remove(let_others_run)
    gc.set_threshold(*before)


@pytest.mark.usefixtures("switching")
def test_threads_that_parse_at_once_do_not_disturb_each_other() -> None:
    """Before 3.11.8 they did: `SystemError: AST constructor recursion depth mismatch`."""
    wanted, found, errors = ast.dump(parse_module(SOURCE)), set(), []

    def read() -> None:
        try:
            for _ in range(6):
                found.add(ast.dump(parse_module(SOURCE)))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (errors, found) == ([], {wanted})


def test_a_future_import_of_ours_is_not_one_of_theirs() -> None:
    code = compile(parse_module("def f(x: undefined_name): ..."), "x.py", "exec", dont_inherit=True)
    with pytest.raises(NameError):
        exec(code, {})


def test_what_is_no_expression_is_a_syntax_error() -> None:
    assert ast.unparse(parse_expression("1 + x")) == "1 + x"
    with pytest.raises(SyntaxError):
        parse_expression("x = 1")
