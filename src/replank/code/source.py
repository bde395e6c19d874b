"""Read an author's source once, whole and unmixed, into memory.

Everything downstream works on these bytes: what is digested is what is stored, and what is stored
is what is compiled. A file that changes while it is read is read again, so that a version is never
half of one edit and half of the next.
"""

from __future__ import annotations

import hashlib
import keyword
import os
import stat
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from replank.code.helpers import read_helpers
from replank.errors import SourceError

SOURCE_BYTES_MAX: Final = 64 * 1024 * 1024
"""Largest source taken: 64 MiB. Larger trees are data, and data is no part of a version."""

READ_ATTEMPTS_MAX: Final = 6
"""How often a source that changes while it is read is read again."""

READ_PAUSE_S: Final = 0.02
"""Time between two such attempts, in seconds."""

_EDITOR_SUFFIXES: Final = ("~", ".swp", ".swo", ".swx", ".tmp", ".bak", ".orig", ".rej", ".pyc")


@dataclass(frozen=True, slots=True)
class SourceTree:
    """The bytes of one source, as they were at one moment.

    Args:
        entry: Name under which the source imports itself, for example "ledger".
        is_package: Whether the source is a folder with `__init__.py`.
        files: Content by relative posix path; the path starts with the entry's own name, or with
            the folder of helpers.
        helpers: Where the helpers lie, by name.
    """

    entry: str
    is_package: bool
    files: Mapping[str, bytes]
    helpers: Mapping[str, Path] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """The content's address, "sha256:<hex>"."""
        return digest_files(self.files)


def digest_files(files: Mapping[str, bytes]) -> str:
    """Return "sha256:<hex>" over the sorted (relative posix path, bytes) pairs."""
    summed = hashlib.sha256()
    for path in sorted(files):
        name = path.encode("utf-8", "surrogateescape")
        # The lengths keep ("a", "bc") and ("ab", "c") apart.
        summed.update(len(name).to_bytes(8, "big") + name)
        summed.update(len(files[path]).to_bytes(8, "big"))
        summed.update(files[path])
    return f"sha256:{summed.hexdigest()}"


def digest_of(source: Path) -> str:
    """Return the digest that storing this source would give; nothing is stored.

    Args:
        source: A file `name.py` or a folder with `__init__.py`.

    Raises:
        SourceError: The source cannot be taken; the message says why.
    """
    return read_source(source).digest


def read_source(source: Path) -> SourceTree:
    """Read a file or package folder; blocking.

    Args:
        source: A file `name.py` or a folder with `__init__.py`.

    Returns:
        The bytes of every file that belongs to the source, helpers beside it included.

    Raises:
        SourceError: The path is missing, unreadable, empty, too large, no Python source, or it
            keeps changing.
    """
    source = Path(source)
    entry, is_package = _identify(source)
    waiter = threading.Event()
    for attempt in range(READ_ATTEMPTS_MAX):
        if attempt:
            waiter.wait(READ_PAUSE_S)
        files = _read_unmixed(source, is_package=is_package)
        if files is None:
            continue
        _refuse_empty(source, files, is_package=is_package)
        beside = read_helpers(source, entry, files, _read_helper)
        if beside is not None:
            return SourceTree(entry, is_package, {**files, **beside[0]}, beside[1])
    raise SourceError(
        f"{source} keeps changing while it is read",
        expected=f"a source that holds still for one of {READ_ATTEMPTS_MAX} readings",
        do="reload again when the copy or the build has ended",
        location=source.name,
    )


def marks_of(source: Path) -> object:
    """Return sizes and times of a source's files; equal ones mean that nothing was written.

    Args:
        source: A file `name.py` or a folder with `__init__.py`.

    Raises:
        SourceError: The path is missing, unreadable, or no Python source.
    """
    _, is_package = _identify(source)
    try:
        return _marks(source, is_package=is_package)
    except OSError as error:
        raise _unreadable(source, error) from error


def list_files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield (relative posix path, path) of every file of a package folder, unsorted.

    Caches, hidden files and what editors leave behind belong to no version. Linked folders are
    followed, each real folder once on the way down, so that a circle of links ends.
    """
    yield from _walk(folder, folder.name, frozenset())


def _walk(folder: Path, prefix: str, above: frozenset[str]) -> Iterator[tuple[str, Path]]:
    real = os.path.realpath(folder)
    if real in above:
        return
    with os.scandir(folder) as entries:
        for item in entries:
            name = item.name
            if not _belongs(name):
                continue
            if item.is_dir():
                yield from _walk(Path(item.path), f"{prefix}/{name}", above | {real})
            else:
                yield f"{prefix}/{name}", Path(item.path)


def _belongs(name: str) -> bool:
    return not (
        name.startswith(".")
        or name == "__pycache__"
        or name.endswith(_EDITOR_SUFFIXES)
        or (name.startswith("#") and name.endswith("#"))
    )


def _identify(source: Path) -> tuple[str, bool]:
    try:
        mode = source.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise SourceError(
            f"there is no {source}",
            expected="a file name.py or a folder with __init__.py",
            do="correct the path of the module",
        ) from None
    except OSError as error:
        raise _unreadable(source, error) from error
    if stat.S_ISDIR(mode):
        if not (source / "__init__.py").is_file():
            raise SourceError(
                f"the folder {source} is no package",
                found="no __init__.py in it",
                expected="a file name.py or a folder with __init__.py",
                do=f"add {source / '__init__.py'} or name the file itself",
            )
        entry = source.name or source.resolve().name
    elif stat.S_ISREG(mode) and source.suffix == ".py":
        entry = source.stem
    else:
        raise SourceError(
            f"{source} is no Python source",
            found=source.suffix or "a name without .py" if stat.S_ISREG(mode) else "no plain file",
            expected="a file name.py or a folder with __init__.py",
            do="name the module's Python file",
        )
    if not entry.isidentifier() or keyword.iskeyword(entry):
        raise SourceError(
            f"{source.name} cannot be imported by its name",
            found=repr(entry),
            expected="a Python identifier that is no keyword",
            do="rename the file or folder",
        )
    return entry, stat.S_ISDIR(mode)


def _read_unmixed(source: Path, *, is_package: bool) -> dict[str, bytes] | None:
    """Return the files, or None when one of them changed meanwhile."""
    try:
        before = _marks(source, is_package=is_package)
        total_bytes = sum(size for _, size, _, _ in before.values())
        if total_bytes > SOURCE_BYTES_MAX:
            raise SourceError(
                f"{source} is too large",
                found=f"{total_bytes} bytes in {len(before)} files",
                expected=f"at most {SOURCE_BYTES_MAX} bytes (64 MiB)",
                do="keep data outside the package and open it in on_start",
            )
        files = {relative: path.read_bytes() for relative, (path, *_) in before.items()}
        if before == _marks(source, is_package=is_package) and all(
            len(files[relative]) == size for relative, (_, size, _, _) in before.items()
        ):
            return files
    except (FileNotFoundError, NotADirectoryError):
        # A file went away between listing and reading: an edit is under way.
        return None
    except OSError as error:
        raise _unreadable(source, error) from error
    return None


def _read_helper(path: Path) -> dict[str, bytes] | None:
    return _read_unmixed(path, is_package=path.is_dir())


def _marks(source: Path, *, is_package: bool) -> dict[str, tuple[Path, int, int, int]]:
    paths = list_files(source) if is_package else [(source.name, source)]
    marks: dict[str, tuple[Path, int, int, int]] = {}
    for relative, path in paths:
        found = path.stat()
        # A pipe or device in the folder would block the reader or never end.
        if stat.S_ISREG(found.st_mode):
            marks[relative] = (path, found.st_size, found.st_mtime_ns, found.st_ino)
    return marks


def _refuse_empty(source: Path, files: Mapping[str, bytes], *, is_package: bool) -> None:
    # A package may well have an empty __init__.py; an empty single file is an editor's truncation.
    if not is_package and not files[source.name].strip():
        raise SourceError(
            f"{source.name} is empty",
            found=f"{len(files[source.name])} bytes",
            expected="Python source; an editor may be about to write it",
            do="save the file again, then reload",
            location=f"{source.name}:1",
        )


def _unreadable(source: Path, error: OSError) -> SourceError:
    return SourceError(
        f"{error.filename or source} cannot be read",
        found=error.strerror or type(error).__name__,
        expected="a readable file or folder",
        do="check the permissions and the disk",
        location=source.name,
    )


__all__ = [
    "SOURCE_BYTES_MAX",
    "SourceTree",
    "digest_files",
    "digest_of",
    "list_files",
    "marks_of",
    "read_source",
]
