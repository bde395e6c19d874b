"""Helpers: files beside a module that it imports by their plain names are part of its version.

`ledger.py` and `api.py` both say `import shared`, and `shared.py` lies beside them. Each of them
is stored with a copy of `shared.py`, so that a version is whole: a crash, a rollback and a
rejection each find the helper that they had. What is loaded is one copy for each *content*, under
a private name that says the content (`shared@h3f2a9c04d1e7`): modules whose helper is the same
share its classes and its variables, as with an ordinary import, and one whose helper has changed
gets the new one while the old generation keeps the old one.

What a program itself has imported before stays the program's: modules then share that very module.
"""

from __future__ import annotations

import ast
import keyword
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from replank.syntax import parse_module

FOLDER: Final = "@helpers"
"""Where they lie in a stored version; no entry can have that name."""
_PRIVATE: Final = re.compile(r"@h[0-9a-f]{12}\b")
_DIGITS: Final = 12

Files = Mapping[str, bytes]
Read = Callable[[Path], dict[str, bytes] | None]
Digest = Callable[[Files], str]


class Helper(NamedTuple):
    """One helper of a version."""

    name: str
    private_name: str
    is_package: bool
    files: tuple[str, ...]
    """Relative to the folder of helpers."""


def find_helpers(source: Path, entry: str, files: Files) -> dict[str, Path]:
    """Return the helpers that these files may import, by name; reads folders, no files.

    Args:
        source: The file or package folder that they belong to.
        entry: The name under which it imports itself.
        files: Content by relative path.
    """
    beside = _beside(Path(os.path.abspath(source)).parent, entry)  # noqa: PTH100 - keeps links
    wanted = _imported(files, frozenset(beside))
    return {name: beside[name] for name in sorted(wanted) if not _is_the_programs(beside[name])}


def read_helpers(
    source: Path, entry: str, files: Files, read: Read
) -> tuple[dict[str, bytes], dict[str, Path]] | None:
    """Read the helpers of a source, and theirs.

    Args:
        source: A file or package folder.
        entry: The name under which it imports itself.
        files: Its content by relative path.
        read: Reads one file or package folder; None when it changed meanwhile.

    Returns:
        Their content by relative path, and where each lies; None when one of them changed.
    """
    found: dict[str, bytes] = {}
    places: dict[str, Path] = {}
    new = find_helpers(source, entry, files)
    while new:
        fresh: dict[str, bytes] = {}
        for name, path in new.items():
            content = read(path)
            if content is None:
                return None
            places[name] = path
            fresh |= {f"{FOLDER}/{relative}": data for relative, data in content.items()}
        found |= fresh
        more = find_helpers(source, entry, fresh)
        new = {name: path for name, path in more.items() if name not in places}
    return found, places


def helpers_of(files: Iterable[str], read: Callable[[str], bytes], digest: Digest) -> list[Helper]:
    """Return the helpers of a stored version.

    Args:
        files: Its files, by relative path.
        read: Returns the content of one of them.
        digest: Returns the digest of some files.
    """
    own = [name.removeprefix(f"{FOLDER}/") for name in files if name.startswith(f"{FOLDER}/")]
    content: dict[str, dict[str, bytes]] = {}
    for relative in own:
        name = relative.partition("/")[0].removesuffix(".py")
        content.setdefault(name, {})[relative] = read(f"{FOLDER}/{relative}")
    names = frozenset(content)
    uses = {name: _imported(part, names - {name}) for name, part in content.items()}
    found = []
    for name, part in content.items():
        whole = {path: data for one in _reached(name, uses) for path, data in content[one].items()}
        hexed = digest(whole).rpartition(":")[2][:_DIGITS]
        is_package = f"{name}.py" not in part
        found.append(Helper(name, f"{name}@h{hexed}", is_package, tuple(sorted(part))))
    return found


def is_helper(private_root: str) -> bool:
    """Say whether a private name is a helper's, not a generation's.

    Args:
        private_root: The part before the first dot.
    """
    return _PRIVATE.search(private_root) is not None


def without_private_names(text: str) -> str:
    """Return a text with helpers called as their author calls them."""
    return _PRIVATE.sub("", text)


def _beside(folder: Path, entry: str) -> dict[str, Path]:
    """Return what can be imported from a folder, other than what Python itself brings along."""
    found: dict[str, Path] = {}
    try:
        with os.scandir(folder) as items:
            for item in items:
                name = item.name.removesuffix(".py")
                path = Path(item.path)
                if (
                    not name.isidentifier()
                    or keyword.iskeyword(name)
                    or name in (entry, "replank", "__init__", "__main__", "setup", "conftest")
                    or name in sys.stdlib_module_names
                ):
                    continue
                if name != item.name and item.is_file():
                    found.setdefault(name, path)
                elif name == item.name and (path / "__init__.py").is_file():
                    found[name] = path  # as Python does: a package goes before a file
    except OSError:
        return {}
    return found


def _imported(files: Files, names: frozenset[str]) -> set[str]:
    """Return which of these names the files import, anywhere in them."""
    found: set[str] = set()
    if not names:
        return found
    word = re.compile(rb"\b(?:" + b"|".join(one.encode() for one in names) + rb")\b")
    for path, content in files.items():
        if not path.endswith(".py") or word.search(content) is None:
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tree = parse_module(content, path)
        except (SyntaxError, ValueError, RecursionError):
            continue  # it will not load, and is told then
        found |= _roots(tree) & names
    return found


def _roots(tree: ast.Module) -> set[str]:
    roots: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            roots |= {one.name.partition(".")[0] for one in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            roots.add(node.module.partition(".")[0])
    return roots


def _reached(name: str, uses: Mapping[str, set[str]]) -> list[str]:
    seen: set[str] = set()
    left = [name]
    while left:
        if (one := left.pop()) not in seen:
            seen.add(one)
            left += uses.get(one, ())
    return sorted(seen)


def _is_the_programs(path: Path) -> bool:
    """Say whether the program has imported that very file by its plain name."""
    module = sys.modules.get(path.name.removesuffix(".py"))
    file = getattr(module, "__file__", None)
    if not isinstance(file, str):
        return False
    own = path / "__init__.py" if path.is_dir() else path
    return os.path.realpath(file) == os.path.realpath(own)


__all__ = [
    "FOLDER",
    "Helper",
    "find_helpers",
    "helpers_of",
    "is_helper",
    "read_helpers",
    "without_private_names",
]
