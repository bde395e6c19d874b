"""Sources, a store and a loader for the tests of the code room."""

from __future__ import annotations

import gc
import textwrap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from replank.code import loader as loader_module
from replank.code.loader import LoadedCode, Loader
from replank.code.store import Version, VersionStore

BROKEN = Path(__file__).parents[2] / "fixtures" / "modules" / "broken"

Write = Callable[..., Path]
Load = Callable[..., LoadedCode]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a file `name.py` from text, or a package folder from a mapping of texts."""

    def write_source(
        content: str | Mapping[str, str], name: str = "ledger", folder: str = "src"
    ) -> Path:
        base = tmp_path / folder
        base.mkdir(exist_ok=True)
        if isinstance(content, str):
            path = base / f"{name}.py"
            path.write_text(textwrap.dedent(content))
            return path
        for relative, text in content.items():
            path = base / name / relative
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text))
        return base / name

    return write_source


@pytest.fixture
def store(tmp_path: Path) -> VersionStore:
    return VersionStore(tmp_path / "versions")


@pytest.fixture
def stored(write: Write, store: VersionStore) -> Callable[..., Version]:
    def put(content: str | Mapping[str, str], name: str = "ledger") -> Version:
        return store.put(write(content, name))

    return put


@pytest.fixture
def load(stored: Callable[..., Version]) -> Iterator[Load]:
    """Load source text as the next generation; everything is unloaded afterwards."""
    loaded: list[LoadedCode] = []

    def load_text(
        content: str | Mapping[str, str],
        name: str = "ledger",
        runtime_names: Mapping[str, Any] | None = None,
        code: bytes | None = None,
    ) -> LoadedCode:
        generation = len(loaded) + 1
        one = Loader().load(
            stored(content, name), name, generation, runtime_names=runtime_names, code=code
        )
        loaded.append(one)
        return one

    yield load_text
    for one in loaded:
        one.unload()
    loaded.clear()
    gc.collect()
    assert not loader_module._finder.trees
