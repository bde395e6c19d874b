"""Read the pages of the documentation, and run what stands in them.

A comment before a code block says what it is:

- `<!-- file: NAME -->`: saved under that name in the page's folder;
- `<!-- run -->`: run there; a Python block as a program, the lines of a console block that start
  with `$` as commands, whose output is compared (`…` stands for anything); `<!-- run: 3 -->`
  expects that exit code of the last command;
- `<!-- background -->`: started there, and stopped at the end of the page;
- `<!-- shown: WHY -->`: for people only, and why it is not run;
- none: what can be held against the code without running it is (`test_shown_blocks.py`).
"""

from __future__ import annotations

import os
import re
import select
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
COMMAND_TIMEOUT_S = 40
START_TIMEOUT_S = 30
STOP_TIMEOUT_S = 20

_MARK = re.compile(r"<!-- (file|run|background|shown)(?:: (.+?))? -->")
_FENCE = re.compile(r"^```(\w*)$")


@dataclass
class Block:
    """One code block."""

    language: str
    line: int
    mark: str = ""
    argument: str = ""
    lines: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "\n".join(self.lines) + "\n"


def pages() -> list[Path]:
    """Return README and every page under docs."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: Path) -> Iterator[Block]:
    """Yield the code blocks of a page, each with the comment before it."""
    mark = argument = ""
    block: Block | None = None
    for number, line in enumerate(page.read_text("utf-8").splitlines(), 1):
        if block is not None:
            if line == "```":
                yield block
                block = None
            else:
                block.lines.append(line)
            continue
        fence = _FENCE.match(line)
        if fence:
            block = Block(fence[1], number, mark, argument)
            mark = argument = ""
        elif found := _MARK.fullmatch(line):
            mark, argument = found[1], found[2] or ""
        elif line.strip():
            assert not mark, f"{page.name}:{number}: a comment that belongs to no code block"
    assert block is None, f"{page.name}: a code block is never closed"


def matches(expected: str, found: str) -> bool:
    """Compare output with what the page shows; `…` stands for anything."""
    pattern = ".*".join(re.escape(part) for part in expected.strip().split("…"))
    return re.fullmatch(pattern, found.strip(), re.DOTALL) is not None


class PageRun:
    """One page, run in a folder of its own.

    Args:
        folder: An empty folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._background: list[subprocess.Popen[str]] = []
        # wide and without colours, whatever terminal started the tests
        self._environment = os.environ | {
            "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}",
            "COLUMNS": "200",
            "NO_COLOR": "1",
            "TERM": "dumb",
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for process in self._background:
            process.send_signal(signal.SIGTERM)
        for process in self._background:
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()

    def do(self, block: Block) -> None:
        """Do what the comment before a block says."""
        if block.mark == "file":
            target = self.folder / block.argument
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(block.text, "utf-8")
        elif block.mark == "background":
            for line in block.lines:
                self._start(line.removeprefix("$ "))
        elif block.mark == "run" and block.language == "python":
            self._program(block)
        elif block.mark == "run":
            self._console(block)
        elif block.language == "python":
            compile(block.text, f"line {block.line}", "exec")

    def _program(self, block: Block) -> None:
        done = self._run([sys.executable, "-c", block.text])
        assert done.returncode == int(block.argument or 0), f"line {block.line}: {done}"

    def _console(self, block: Block) -> None:
        commands = [index for index, line in enumerate(block.lines) if line.startswith("$ ")]
        assert commands, f"line {block.line}: no command to run"
        code = 0
        for index, after in zip(commands, [*commands[1:], len(block.lines)], strict=True):
            assert code == 0, f"line {block.line}: only the last command may fail"
            command = block.lines[index].removeprefix("$ ")
            done = self._run(shlex.split(command))
            code = done.returncode
            expected = "\n".join(block.lines[index + 1 : after])
            found = done.stdout + done.stderr
            assert matches(expected, found), f"{command} printed:\n{found}\nexpected:\n{expected}"
        assert code == int(block.argument or 0), f"{command} ended with {code}:\n{found}"

    def _run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=self.folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )

    def _start(self, command: str) -> None:
        """Start a host on any free port, and wait until it says where it serves."""
        process = subprocess.Popen(
            [*shlex.split(command), "--port", "0"],
            cwd=self.folder,
            env=self._environment | {"PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._background.append(process)
        assert process.stdout is not None
        seen = ""
        while not (self.folder / ".replank" / "control.json").exists():
            ready, _, _ = select.select([process.stdout], [], [], START_TIMEOUT_S)
            line = process.stdout.readline() if ready else ""
            seen += line
            assert line, f"{command} does not serve:\n{seen}"
