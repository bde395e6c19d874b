"""Read a module's definition from its source, for tools: loaded and forgotten, never published.

What is loaded here never serves. The code of the module does run, in this process, so tools for
people and tests do it and a host does not.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from replank.code.loader import Loader
from replank.code.store import Version, VersionStore
from replank.definition import Definition
from replank.reading import read_definition
from replank.state.names import Namespace

_numbers = itertools.count(1_000_000)
"""Beyond every number that a journal gives: a tool may run in a process that has a host."""


@dataclass(frozen=True, slots=True)
class ReadModule:
    """A module as it was read: what the definition says, and whose classes it names."""

    definition: Definition
    own: Namespace
    version: Version


@contextmanager
def reading(source: Path, name: str) -> Iterator[ReadModule]:
    """Lend a module's definition; its code is forgotten afterwards.

    Args:
        source: A file or package folder.
        name: The module's name in the host.

    Raises:
        SourceError: The source is missing or does not load.
        DefinitionError: It is no module.
    """
    with (
        tempfile.TemporaryDirectory(prefix="replank-") as folder,
        reading_version(VersionStore(Path(folder)).put(source), name) as read,
    ):
        yield read


@contextmanager
def reading_version(version: Version, name: str) -> Iterator[ReadModule]:
    """Lend the definition of a stored version; its code is forgotten afterwards.

    Args:
        version: What to load.
        name: The module's name in the host.

    Raises:
        SourceError: It does not load.
        DefinitionError: It is no module.
    """
    loaded = Loader().load(version, name, next(_numbers))
    try:
        definition = read_definition(loaded.module, name)
        yield ReadModule(definition, Namespace(loaded.private_name, loaded.helpers), version)
    finally:
        loaded.unload()


__all__ = ["ReadModule", "reading", "reading_version"]
