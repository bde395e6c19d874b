"""What lies on the disk: of which files a module is made, and what they would be as a version."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from replank.code.source import marks_of, read_source
from replank.errors import SourceError

_GIT_LOCK: Final = "index.lock"


@dataclass(frozen=True, slots=True)
class Seen:
    """One module's source, as it was at one moment."""

    digest: str = ""
    """What storing it would give; "" when it cannot be taken."""
    problem: str = ""
    """Why it cannot be taken."""
    marks: object = None
    """Sizes and times: when they are the same, the content is not read again."""
    files: frozenset[Path] = frozenset()
    """The source and the helpers beside it: files, and packages as folders."""


def look_at(source: Path) -> Seen:
    """Read a source; blocking.

    Args:
        source: A file or package folder.
    """
    try:
        marks = {source: marks_of(source)}  # before it is read: what is written meanwhile counts
        tree = read_source(source)
        if tree.helpers:
            marks |= {one: marks_of(one) for one in tree.helpers.values()}
            tree = read_source(source)
    except SourceError as error:
        found = f", {error.found}" if error.found else ""
        return Seen(problem=f"{error.what}{found}", files=frozenset((source,)))
    return Seen(tree.digest, "", marks, frozenset(marks))


def glance_at(seen: Seen) -> bool:
    """Say whether a source looks as it did when it was read; blocking, but reads no content.

    Args:
        seen: What was read.
    """
    try:
        return not seen.problem and {one: marks_of(one) for one in seen.files} == seen.marks
    except SourceError:
        return False


def concerns(path: Path, files: Iterable[Path]) -> bool:
    """Say whether a changed path is one of these files, or lies in one of these folders.

    Args:
        path: What the system told of.
        files: Files and folders, also by their real paths.
    """
    return any(path == one or one in path.parents for one in files)


def with_real(path: Path) -> frozenset[Path]:
    """Return a path, and what it really is when it is a link."""
    return frozenset((path, Path(os.path.realpath(path))))


def repository_is_busy(folder: Path) -> bool:
    """Say whether git is changing the files around a folder; blocking.

    Args:
        folder: Any folder of a work tree.
    """
    for one in (folder, *folder.parents):
        git = one / ".git"
        if git.is_dir():
            return (git / _GIT_LOCK).exists()
        if git.exists():
            return False
    return False


__all__ = ["Seen", "concerns", "glance_at", "look_at", "repository_is_busy", "with_real"]
