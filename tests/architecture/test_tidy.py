"""The house rules that no linter knows: size, banned calls, import habits."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "replank"
SHOP = SOURCE / "demo" / "shop"

FUNCTION_LINES_MAX = 60
FILE_LINES_MAX = 400

# The ratchet: what is longer today, and how long it may be. It may shrink, never grow; new entries
# need a reason in the commit that adds them.
LONG_FUNCTIONS: dict[str, int] = {}
LONG_FILES: dict[str, int] = {
    "host.py": 465,
    "journal/embedded.py": 411,
}

# The command line and the demo talk to people; everything else has events and logs for that.
MAY_PRINT = ("cli/", "demo/", "__main__.py")


SLEEPS = frozenset({"time.sleep", "sleep"})
STANDS_ASIDE = "threads.py"  # it sleeps to give the interpreter lock away: its one purpose


def sources() -> list[Path]:
    return sorted(path for path in SOURCE.rglob("*.py") if SHOP not in path.parents)


def relative(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), str(path))


def calls(tree: ast.AST) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            # sleep(0) lets another thread run: it does not wait for time to pass
            if name in SLEEPS and ast.unparse(node.args[0]) == "0":
                continue
            yield name, node.lineno


def function_lengths(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0]
            documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
            body = node.body[1:] if documented else node.body
            if body:
                end = node.end_lineno or 0
                yield f"{relative(path)}:{node.name}", end - body[0].lineno + 1


def test_no_function_body_is_longer_than_sixty_lines() -> None:
    found = {
        name: length
        for path in sources()
        for name, length in function_lengths(path)
        if length > FUNCTION_LINES_MAX
    }
    grown = {name: length for name, length in found.items() if length > LONG_FUNCTIONS.get(name, 0)}
    assert not grown, f"split these functions: {grown}"


def test_the_function_ratchet_holds_no_entry_that_is_no_longer_needed() -> None:
    lengths = {name: length for path in sources() for name, length in function_lengths(path)}
    loose = {
        name: limit
        for name, limit in LONG_FUNCTIONS.items()
        if lengths.get(name, 0) < limit or limit <= FUNCTION_LINES_MAX
    }
    assert not loose, f"lower or remove these entries: {loose}"


def test_no_file_is_longer_than_four_hundred_lines() -> None:
    lengths = {relative(path): len(path.read_text("utf-8").splitlines()) for path in sources()}
    grown = {
        name: length
        for name, length in lengths.items()
        if length > max(FILE_LINES_MAX, LONG_FILES.get(name, 0))
    }
    assert not grown, f"split these files: {grown}"


def test_nothing_sleeps_in_a_thread_of_the_host() -> None:
    found = [
        f"{relative(path)}:{line}"
        for path in sources()
        if relative(path) != STANDS_ASIDE
        for name, line in calls(parsed(path))
        if name in SLEEPS
    ]
    assert not found, f"wait for an event with a deadline instead: {found}"


def test_only_the_command_line_and_the_demo_print() -> None:
    found = [
        f"{relative(path)}:{line}"
        for path in sources()
        if not relative(path).startswith(MAY_PRINT)
        for name, line in calls(parsed(path))
        if name in {"print", "pprint", "breakpoint"}
    ]
    assert not found, f"publish an event or log instead: {found}"


def defined_by_root(name: str) -> bool:
    """Whether a name is the root's own, or a module in it."""
    place = SOURCE / name
    return name == "__version__" or place.with_suffix(".py").exists() or place.is_dir()


def root_imports(tree: ast.Module) -> Iterator[int]:
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.ImportFrom)
            and node.level == 0
            and node.module == "replank"
            and any(not defined_by_root(name.name) for name in node.names)
        ):
            yield node.lineno
        if isinstance(node, ast.Import) and any(name.name == "replank" for name in node.names):
            yield node.lineno


def test_the_library_never_imports_its_own_package_root() -> None:
    found = [
        f"{relative(path)}:{line}"
        for path in sources()
        if path != SOURCE / "__init__.py"
        for line in root_imports(parsed(path))
    ]
    assert not found, f"import the module that defines the name: {found}"


def test_every_module_says_in_its_first_line_what_it_is_for() -> None:
    silent = [relative(path) for path in sources() if not ast.get_docstring(parsed(path))]
    assert not silent


@pytest.mark.parametrize("folder", ["src", "tests", "bench", "examples"])
def test_no_file_is_left_that_holds_a_merge_conflict_or_a_tab(folder: str) -> None:
    bad = [
        str(path.relative_to(ROOT))
        for path in (ROOT / folder).rglob("*.py")
        if any(line.startswith(("<<<<<<< ", ">>>>>>> ", "\t")) for line in lines(path))
    ]
    assert not bad


def lines(path: Path) -> list[str]:
    return path.read_text("utf-8", errors="replace").splitlines()


def test_the_rules_find_what_they_forbid(tmp_path: Path) -> None:
    """A rule that cannot fail proves nothing."""
    bad = tmp_path / "bad.py"
    bad.write_text(
        "import replank\nfrom replank import errors, __version__\nfrom replank import Module\n"
        "import time\ntime.sleep(1)\ntime.sleep(0)\nprint('x')\n"
    )
    tree = parsed(bad)
    assert list(root_imports(tree)) == [1, 3]
    assert list(calls(tree)) == [("time.sleep", 5), ("print", 7)]
