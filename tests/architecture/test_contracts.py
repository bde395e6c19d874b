"""The arrows between the rooms, checked where a developer looks first: in the tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def lint_imports(config: Path) -> subprocess.CompletedProcess[str]:
    tool = Path(sys.executable).with_name("lint-imports")
    return subprocess.run(
        [tool, "--no-cache", "--no-logo", "--config", config],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_imports_follow_the_arrows() -> None:
    done = lint_imports(ROOT / "pyproject.toml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_arrow_that_runs_the_wrong_way_is_found(tmp_path: Path) -> None:
    """The same contract upside down must fail, or it checks nothing."""
    config = tmp_path / "importlinter.toml"
    config.write_text(
        '[tool.importlinter]\nroot_package = "replank"\n'
        '[[tool.importlinter.contracts]]\nname = "upside down"\ntype = "layers"\n'
        'layers = ["replank.errors", "replank.module"]\n'
    )
    done = lint_imports(config)
    assert done.returncode != 0
    assert "BROKEN" in done.stdout
