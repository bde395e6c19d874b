"""Have the user's own type checker read a candidate, with the modules that it uses beside it.

A checker knows nothing of the host: it would read the used modules as they lie on the disk, which
need not be what serves. So the candidate, its helpers and the very versions of its used modules are
laid out in a folder of their own, where the checker finds them before all others. Its settings are
the project's: the nearest folder above the source that has some.

Only errors in the candidate and its helpers count; what is wrong elsewhere was not changed by it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import site
import sys
import sysconfig
import tempfile
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from replank.code.helpers import FOLDER
from replank.code.store import Version
from replank.errors import CheckError
from replank.threads import in_thread

_NICENESS: Final = 5
"""A checker gives way to what serves."""
_OUTPUT_CHARS_MAX: Final = 4_000
_NAMED_MAX: Final = 5
_SETTINGS: Final = {
    "mypy": ("mypy.ini", ".mypy.ini", "setup.cfg"),
    "pyright": ("pyrightconfig.json",),
    "ty": ("ty.toml",),
}
_ERROR: Final = re.compile(r"^(?P<file>.+?):(?P<line>\d+):(?:\d+:)? error(?:: |\[)(?P<text>.*)$")


@dataclass(frozen=True, slots=True)
class _Finding:
    """One error, in the author's file."""

    place: str
    text: str


@dataclass(frozen=True, slots=True)
class _Layout:
    """What the checker is shown."""

    work: Path
    candidate: Path
    """Folder of the candidate and its helpers."""
    files: tuple[str, ...]
    """What is checked, absolute."""
    search: tuple[str, ...]
    """Where imports are looked for, first to last."""
    settings: Path | None
    """The project's own, when it has some for this checker."""
    project: Path
    """Where the checker is started."""
    cache: Path


def find_checker(name: str) -> str | None:
    """Return the executable of a type checker: beside the host's interpreter, or on the PATH.

    Args:
        name: Such as "mypy".
    """
    beside = Path(sys.executable).parent / name
    return str(beside) if os.access(beside, os.X_OK) else shutil.which(name)


@dataclass(frozen=True, slots=True)
class TypeCheck:
    """How candidates are checked.

    Args:
        checker: "mypy", "pyright" or "ty".
        seconds: What it may take.
        cache: Folder for what it keeps from one run to the next.
        find: Returns the checker's executable, or None.
    """

    checker: str
    seconds: float
    cache: Path
    find: Callable[[str], str | None] = find_checker

    async def run(self, name: str, version: Version, used: Mapping[str, Version]) -> None:
        """Check a candidate.

        Args:
            name: The module's name in the host.
            version: The stored candidate.
            used: The versions of the modules that it uses, by name.

        Raises:
            CheckError: It has errors, or could not be checked.
        """
        program = await in_thread(self.find, self.checker)
        if program is None:
            raise CheckError(
                f"its types cannot be checked: {self.checker} is not installed",
                module=name,
                found=f"no {self.checker} beside {sys.executable}, and none on the PATH",
                expected=f'{self.checker}, for type_check = "{self.checker}"',
                do=f"install it there: pip install {self.checker}; "
                "or take type_check out of the configuration",
            )
        with tempfile.TemporaryDirectory(prefix="replank-types-") as work:
            layout = await in_thread(_lay_out, Path(work), version, used, self)
            command = await in_thread(_TOOLS[self.checker][0], program, layout)
            status, said = await self._output(name, command, layout)
        self._judge(name, layout, status, said)

    async def _output(self, name: str, command: list[str], layout: _Layout) -> tuple[int, str]:
        """Run the checker; it is gone on return, with everything that it started."""
        search = [*layout.search, *filter(None, [os.environ.get("MYPYPATH")])]
        environment = {**os.environ, "MYPYPATH": os.pathsep.join(search), "NO_COLOR": "1"}
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=layout.project,
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PGRP, process.pid, _NICENESS)
        try:
            async with asyncio.timeout(self.seconds):
                said, _ = await process.communicate()
        except TimeoutError:
            raise CheckError(
                f"{self.checker} did not end within {self.seconds:g} s",
                module=name,
                found="still at work",
                expected=f"an end within reload.type_check_timeout_s = {self.seconds:g}",
                do="raise reload.type_check_timeout_s: the first run fills the checker's cache",
            ) from None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await asyncio.shield(process.wait())
        assert process.returncode is not None, "it has been waited for"
        return process.returncode, said.decode("utf-8", "replace")

    def _judge(self, name: str, layout: _Layout, status: int, said: str) -> None:
        found = _TOOLS[self.checker][1](said, layout)
        if found is None or (status not in (0, 1) and not found):
            error = CheckError(
                f"{self.checker} could not check it: exit code {status}",
                module=name,
                found=said.strip().rpartition("\n")[2] or "nothing said",
                expected="a run to the end",
                do=f"run {self.checker} by hand in {layout.project}; what it printed is below",
            )
            error.candidate_traceback = said[-_OUTPUT_CHARS_MAX:]
            raise error
        if not found:
            return
        lines = [f"{one.place}: {one.text}" for one in found]
        more = f"; and {len(lines) - _NAMED_MAX} more" if len(lines) > _NAMED_MAX else ""
        error = CheckError(
            f"{self.checker} finds {len(lines)} error{'s' if len(lines) > 1 else ''} in it",
            module=name,
            found="; ".join(lines[:_NAMED_MAX]) + more,
            expected="none",
            do="mend them, or say at the line why they are none, as the checker wants it said",
            location=found[0].place,
        )
        error.candidate_traceback = "\n".join(lines)[:_OUTPUT_CHARS_MAX] + "\n"
        raise error


def _lay_out(work: Path, version: Version, used: Mapping[str, Version], how: TypeCheck) -> _Layout:
    work = work.resolve()  # as checkers print it
    candidate = work / "candidate"
    files = _copy(version, candidate, {one.entry for one in used.values()})
    folders = [candidate]
    for name, one in used.items():
        folders.append(work / "used" / name)
        _copy(one, folders[-1], set())
    how.cache.mkdir(parents=True, exist_ok=True)
    settings = _settings_of(how.checker, version.source)
    return _Layout(
        work=work,
        candidate=candidate,
        files=tuple(str(path) for path in files if path.suffix in (".py", ".pyi")),
        search=(*map(str, folders), *_where_python_looks(version.source)),
        settings=settings,
        project=version.source.parent if settings is None else settings.parent,
        cache=how.cache,
    )


def _copy(version: Version, to: Path, shadowed: set[str]) -> list[Path]:
    """Lay a version out with its helpers beside it.

    Args:
        version: A stored version.
        to: An empty folder.
        shadowed: Names of helpers to leave out: the used modules themselves, as they serve.
    """
    made = []
    for relative in version.files:
        plain = relative.removeprefix(f"{FOLDER}/")
        if plain != relative and plain.partition("/")[0].removesuffix(".py") in shadowed:
            continue
        made.append(to / plain)
        made[-1].parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(version.root / relative, made[-1])
    return made


def _where_python_looks(source: Path) -> list[str]:
    """Return the project's own folders: installed packages are found by the interpreter."""
    root = source.parent
    while (root / "__init__.py").is_file():
        root = root.parent
    installed = {sysconfig.get_path(key) for key in ("stdlib", "platstdlib", "purelib", "platlib")}
    installed |= {*site.getsitepackages(), site.getusersitepackages()}
    found = [
        os.path.abspath(entry)  # noqa: PTH100 - keeps links
        for entry in sys.path
        if Path(entry).is_dir() and not _is_below(entry, installed)
    ]
    return list(dict.fromkeys([*found, str(root)]))


def _is_below(entry: str, folders: Iterable[str]) -> bool:
    path = os.path.realpath(entry)
    return any(f"{path}/".startswith(f"{os.path.realpath(one)}/") for one in folders)


def _settings_of(checker: str, source: Path) -> Path | None:
    """Return the nearest file above a source that has settings for the checker."""
    for folder in source.parents:
        for name in _SETTINGS[checker]:
            file = folder / name
            if file.is_file() and (name != "setup.cfg" or "[mypy" in file.read_text("utf-8")):
                return file
        project = folder / "pyproject.toml"
        if project.is_file():
            with contextlib.suppress(OSError, tomllib.TOMLDecodeError):
                if checker in tomllib.loads(project.read_text("utf-8")).get("tool", {}):
                    return project
    return None


def _run_mypy(program: str, layout: _Layout) -> list[str]:
    settings = [f"--config-file={layout.settings}"] if layout.settings else []
    return [
        *(program, *settings, "--python-executable", sys.executable),
        *("--cache-dir", str(layout.cache / "mypy"), "--show-absolute-path", "--no-pretty"),
        *("--show-error-codes", "--hide-error-context", "--no-color-output", "--no-error-summary"),
        *layout.files,
    ]


def _run_pyright(program: str, layout: _Layout) -> list[str]:
    # Search paths can be given in a file only, and no other excludes what lies in such folders.
    settings: dict[str, Any] = {"extraPaths": layout.search, "exclude": []}
    if layout.settings is not None:
        settings["extends"] = str(layout.settings)
    file = layout.work / "pyrightconfig.json"
    file.write_text(json.dumps(settings), "utf-8")
    return [
        *(program, "--outputjson", "--pythonpath", sys.executable, "--project", str(file)),
        *layout.files,
    ]


def _run_ty(program: str, layout: _Layout) -> list[str]:
    search = [part for path in layout.search for part in ("--extra-search-path", path)]
    return [
        *(program, "check", "--python", sys.executable, "--project", str(layout.project)),
        *("--output-format", "concise", "--color", "never", *search),
        *layout.files,
    ]


def _errors_in_lines(said: str, layout: _Layout) -> list[_Finding] | None:
    """Read what mypy and ty print: `file:line: error: text`, or `file:line:column: error[...]`."""
    found = []
    for line in said.splitlines():
        match = _ERROR.match(line)
        if match is None:
            continue
        text = match["text"] if f" error: {match['text']}" in line else f"[{match['text']}"
        place = _place(layout, layout.project / match["file"], int(match["line"]))
        if place is not None:
            found.append(_Finding(place, text))
    return found


def _errors_in_json(said: str, layout: _Layout) -> list[_Finding] | None:
    """Read what pyright prints; None when it is no report."""
    try:
        report = json.loads(said[said.find("{") :])
        found = []
        for one in report["generalDiagnostics"]:
            line = one.get("range", {}).get("start", {}).get("line", 0) + 1
            place = _place(layout, Path(one["file"]), line)
            if one["severity"] == "error" and place is not None:
                text = one["message"].partition("\n")[0]
                found.append(_Finding(place, f"{text} [{one.get('rule', 'error')}]"))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return found


def _place(layout: _Layout, file: Path, line: int) -> str | None:
    """Return "ledger.py:12" for a line of the candidate or its helpers, else None."""
    if not file.is_relative_to(layout.candidate):
        return None
    return f"{file.relative_to(layout.candidate).as_posix()}:{line}"


_Read = Callable[[str, _Layout], list[_Finding] | None]
_TOOLS: Final[Mapping[str, tuple[Callable[[str, _Layout], list[str]], _Read]]] = {
    "mypy": (_run_mypy, _errors_in_lines),
    "pyright": (_run_pyright, _errors_in_json),
    "ty": (_run_ty, _errors_in_lines),
}


__all__ = ["TypeCheck", "find_checker"]
