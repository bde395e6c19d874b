"""The other Pythons of this machine, each with Replank in an environment made here on first use."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

from bench.lines import Row

ROOT = Path(__file__).parents[1]
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "replank-bench"
MINORS = range(11, 16)
INSTALL_LIMIT_S = 120.0
NOT_INSTALLED = "not installed"


class NoPython(Exception):
    """An interpreter that cannot be used, and why."""


@functools.cache
def other_pythons() -> tuple[list[str], list[Row]]:
    """Return the interpreters to use, and a row for each that cannot be."""
    found, skipped = [], []
    for minor in MINORS:
        if minor == sys.version_info[1]:
            continue
        try:
            found.append(environment(f"python3.{minor}"))
        except NoPython as error:
            skipped.append({"python": f"3.{minor}", "skipped": str(error)})
    return found, skipped


def environment(name: str) -> str:
    """Return an interpreter that can import Replank; installs it when that is missing.

    Args:
        name: Of the command, as `python3.12`.

    Raises:
        NoPython: It is not here, or Replank cannot be installed in it.
    """
    path = find(name)
    if path is None:
        raise NoPython(NOT_INSTALLED)
    folder = CACHE / f"replank-{name}"
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        said = _ran([path, "-m", "venv", str(folder)], INSTALL_LIMIT_S)
        # the dependencies only count: the source is this one, found by PYTHONPATH
        what = str(ROOT) if (ROOT / "pyproject.toml").exists() else "replank"
        if not said or not _ran([str(python), "-m", "pip", "install", "-q", what], INSTALL_LIMIT_S):
            raise NoPython("Replank cannot be installed in it")
        (folder / "complete").touch()
    return str(python)


def find(name: str) -> str | None:
    """Return an interpreter that runs: on the path, else one that pyenv or uv keeps.

    Args:
        name: Of the command, as `python3.12`.
    """
    version = name.removeprefix("python")
    home = Path.home()
    kept = (
        Path(os.environ.get("PYENV_ROOT", home / ".pyenv")).glob(f"versions/{version}.*"),
        (home / ".local" / "share" / "uv" / "python").glob(f"cpython-{version}.*"),
    )
    found = [shutil.which(name), *(str(one / "bin" / name) for way in kept for one in sorted(way))]
    # a shim of pyenv is on the path, and no interpreter until somebody chooses one
    return next((one for one in found if one is not None and _ran([one, "-c", ""], 20.0)), None)


def _ran(command: list[str], limit_s: float) -> bool:
    try:
        done = subprocess.run(command, capture_output=True, timeout=limit_s, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
