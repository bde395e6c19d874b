"""`replank bench`: from a clone, and from an installation."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from bench.cases import CASES

from replank.cli.bench import folder_of_bench

ROOT = Path(__file__).parents[3]


def replank(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "replank", *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_runs_the_bench_of_this_checkout_whatever_lies_where_the_user_stands(
    tmp_path: Path,
) -> None:
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "__init__.py").write_text("raise SystemExit('not this one')\n")
    done = replank("bench", "--list", cwd=tmp_path)
    assert [line.split()[0] for line in done.stdout.splitlines()] == [one.name for one in CASES]
    assert done.returncode == 0


def test_the_exit_status_of_the_bench_is_the_command_s(tmp_path: Path) -> None:
    done = replank("bench", "pauze", cwd=tmp_path)
    assert done.returncode == 2
    assert "no case pauze" in done.stderr


def test_an_installation_has_its_own_copy_and_a_clone_its_folder(tmp_path: Path) -> None:
    for name in ("shipped", "clone"):
        (tmp_path / name / "bench").mkdir(parents=True)
        (tmp_path / name / "bench" / "__main__.py").touch()
    shipped, clone = tmp_path / "shipped", tmp_path / "clone"
    assert folder_of_bench(shipped, clone) == shipped
    assert folder_of_bench(tmp_path / "none", clone) == clone


def test_without_the_folder_it_says_where_it_looked_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(click.UsageError) as caught:
        folder_of_bench(tmp_path / "a", tmp_path / "b")
    assert str(tmp_path / "a") in caught.value.message
    assert "clone its repository" in caught.value.message


def test_a_wheel_holds_everything_that_the_cases_import() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    included = settings["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    assert all(target == f"replank/_bench/{source}" for source, target in included.items())
    shipped = [ROOT / one for one in included]
    assert all(path.exists() for path in shipped)
    todo = [path for one in CASES for path in (ROOT / "bench").glob(f"{one.name}.py")]
    seen: set[Path] = set()
    while todo:
        path = todo.pop()
        if path in seen:
            continue
        seen.add(path)
        todo += imported(path)
    missing = [path for path in seen if not any(path.is_relative_to(one) for one in shipped)]
    assert not missing, f"name these under force-include in pyproject.toml: {missing}"
    assert ROOT / "tests" / "simulation" / "clients.py" in seen


def imported(path: Path) -> Iterator[Path]:
    """Yield the files of `bench` and `tests` that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{one.name}" for one in node.names)]
        elif isinstance(node, ast.Import):
            names = [one.name for one in node.names]
        else:
            continue
        for name in names:
            found = (ROOT / name.replace(".", "/")).with_suffix(".py")
            if name.split(".")[0] in ("bench", "tests") and found.exists():
                yield found
