"""A candidate is read by a type checker: what counts, and what becomes of a checker that fails."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from replank.code.store import Version, VersionStore
from replank.code.type_check import TypeCheck, find_checker
from replank.errors import CheckError

GOOD = "def half(cents: int) -> int:\n    return cents // 2\n"
BAD = "def half(cents: int) -> int:\n    return str(cents)\n"


def stored(folder: Path, source: str, name: str = "ledger", **helpers: str) -> Version:
    project = folder / "project"
    project.mkdir(exist_ok=True)
    for helper, text in helpers.items():
        (project / f"{helper}.py").write_text(text)
    (project / f"{name}.py").write_text(source)
    return VersionStore(folder / "versions").put(project / f"{name}.py")


def played(folder: Path, checker: str, script: str, seconds: float = 20.0) -> TypeCheck:
    """A checker that does what a Python script says; `files` are what it is asked to check."""
    program = folder / checker
    head = f"#!{sys.executable}\nimport json, os, sys\nfiles = [a for a in sys.argv if a.endswith('.py')]\n"
    program.write_text(head + script)
    program.chmod(0o755)
    return TypeCheck(checker, seconds, folder / "cache", lambda _: str(program))


async def refused(check: TypeCheck, version: Version, **used: Version) -> CheckError:
    with pytest.raises(CheckError) as raised:
        await check.run("ledger", version, used)
    return raised.value


@pytest.mark.parametrize("checker", ["mypy", "pyright", "ty"])
async def test_what_a_real_checker_finds_is_told_with_file_and_line(
    tmp_path: Path, checker: str
) -> None:
    if find_checker(checker) is None:
        pytest.skip(f"{checker} is not installed")
    check = TypeCheck(checker, 60.0, tmp_path / "cache")
    error = await refused(check, stored(tmp_path, BAD))
    assert error.location == "ledger.py:2"
    assert f"{checker} finds 1 error" in error.what
    assert "ledger.py:2: " in (error.found or "")


async def test_a_used_module_is_the_one_that_serves_and_not_a_copy_beside_the_candidate(
    tmp_path: Path,
) -> None:
    served = stored(tmp_path, GOOD)
    shop = "from ledger import half\nfrom notes import note\nprice: int = half(4)\nnote(price)\n"
    (tmp_path / "project" / "ledger.py").write_text(
        "def half(cents: str) -> str:\n    return cents\n"
    )
    version = stored(tmp_path, shop, "shop", notes="def note(price: int) -> None: ...\n")
    assert "@helpers/ledger.py" in version.files
    check = TypeCheck("ty", 60.0, tmp_path / "cache")
    await check.run("shop", version, {"ledger": served})
    error = await refused(check, version)
    assert error.location == "shop.py:3"


async def test_an_error_in_a_helper_counts_for_it_is_part_of_the_version(tmp_path: Path) -> None:
    version = stored(tmp_path, "import notes\n", notes="x: int = 'three'\n")
    error = await refused(TypeCheck("ty", 60.0, tmp_path / "cache"), version)
    assert error.location == "notes.py:1"


async def test_what_is_wrong_elsewhere_is_no_fault_of_the_candidate(tmp_path: Path) -> None:
    script = "print('/elsewhere/other.py:3: error: Wrong  [arg-type]')\nsys.exit(1)\n"
    await played(tmp_path, "mypy", script).run("ledger", stored(tmp_path, GOOD), {})


async def test_notes_and_warnings_are_no_errors(tmp_path: Path) -> None:
    script = (
        "print(f'{files[0]}:1: note: See the manual')\n"
        "print(f'{files[0]}:1:5: warning[odd] Odd')\nsys.exit(0)\n"
    )
    await played(tmp_path, "ty", script).run("ledger", stored(tmp_path, GOOD), {})


async def test_many_errors_are_counted_and_the_first_are_named(tmp_path: Path) -> None:
    script = "for n in range(9): print(f'{files[0]}:{n + 1}: error: Wrong {n}  [x]')\nsys.exit(1)\n"
    error = await refused(played(tmp_path, "mypy", script), stored(tmp_path, GOOD))
    assert "9 errors" in error.what
    assert "; and 4 more" in (error.found or "")
    assert "ledger.py:9: Wrong 8" in error.candidate_traceback


async def test_pyright_reports_in_json_and_counts_lines_from_0(tmp_path: Path) -> None:
    report = {"generalDiagnostics": [{"severity": "warning", "message": "so so", "file": "FILE"}]}
    at = {"start": {"line": 1, "character": 4}, "end": {"line": 1, "character": 5}}
    wrong = {"severity": "error", "message": "No\n  detail", "rule": "reportReturnType"}
    report["generalDiagnostics"].append({**wrong, "file": "FILE", "range": at})
    text = json.dumps(report)
    script = (
        f"print('news of a new version')\nprint({text!r}.replace('FILE', files[0]))\nsys.exit(1)\n"
    )
    error = await refused(played(tmp_path, "pyright", script), stored(tmp_path, BAD))
    assert error.found == "ledger.py:2: No [reportReturnType]"


@pytest.mark.parametrize("checker", ["mypy", "pyright", "ty"])
async def test_a_checker_that_breaks_down_lets_nothing_pass(tmp_path: Path, checker: str) -> None:
    script = "print('my settings are broken')\nsys.exit(2)\n"
    error = await refused(played(tmp_path, checker, script), stored(tmp_path, GOOD))
    assert error.what == f"{checker} could not check it: exit code 2"
    assert error.found == "my settings are broken"


async def test_a_checker_that_does_not_end_is_ended_with_what_it_started(tmp_path: Path) -> None:
    script = (
        "import subprocess, time\n"
        "child = subprocess.Popen(['sleep', '600'])\n"
        f"open({str(tmp_path / 'pids')!r}, 'w').write(f'{{os.getpid()}} {{child.pid}}')\n"
        "time.sleep(600)\n"
    )
    check = played(tmp_path, "mypy", script, seconds=2.0)
    error = await refused(check, stored(tmp_path, GOOD))
    assert "did not end within 2 s" in error.what
    for pid in map(int, (tmp_path / "pids").read_text().split()):
        state = Path(f"/proc/{pid}/stat")
        assert not state.exists() or state.read_text().split()[2] == "Z"


async def test_a_checker_that_is_not_installed_is_said_and_nothing_passes(tmp_path: Path) -> None:
    check = TypeCheck("ty", 1.0, tmp_path / "cache", lambda _: None)
    error = await refused(check, stored(tmp_path, GOOD))
    assert "ty is not installed" in error.what
    assert "pip install ty" in (error.do or "")


@pytest.mark.parametrize(
    ("checker", "file", "text"),
    [
        ("mypy", "mypy.ini", "[mypy]\n"),
        ("mypy", "pyproject.toml", "[tool.mypy]\nstrict = true\n"),
        ("pyright", "pyrightconfig.json", "{}"),
    ],
)
async def test_the_projects_own_settings_are_taken(
    tmp_path: Path, checker: str, file: str, text: str
) -> None:
    (tmp_path / file).write_text(text)
    said = str(tmp_path / "said")
    script = (
        "given = [a for a in sys.argv if a.endswith('pyrightconfig.json')]\n"
        f"text = open(given[0]).read() if given else ' '.join(sys.argv)\n"
        f"open({said!r}, 'w').write(os.getcwd() + ' ' + text)\n"
        "print('{\"generalDiagnostics\": []}')\n"
    )
    await played(tmp_path, checker, script).run("ledger", stored(tmp_path, GOOD), {})
    told = Path(said).read_text()
    assert told.startswith(f"{os.path.realpath(tmp_path)} ")
    assert str(tmp_path / file) in told
