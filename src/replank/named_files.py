"""The configuration of a host whose module files are named on the command line."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import msgspec

from replank.config import DATA_DIR, Config, ModuleConfig, check_modules
from replank.environment import overridden
from replank.errors import ConfigError


def config_for_files(
    files: Iterable[str | os.PathLike[str]], *, data_dir: str | os.PathLike[str] = DATA_DIR
) -> Config:
    """Make a configuration for module files named on the command line.

    Args:
        files: Python files or package folders; the module's name is the file's name.
        data_dir: Folder of the journal, relative to the working directory.

    Raises:
        ConfigError: A file is missing, is no Python file, or two have the same name.
    """
    modules: dict[str, ModuleConfig] = {}
    for file in map(Path, files):
        name = file.resolve().stem
        _refuse_bad_file(file, name)
        if name in modules:
            raise ConfigError(
                f"two modules would be called {name!r}",
                found=f"{modules[name].source} and {file}",
                do="rename one, or name both in a replank.toml",
            )
        modules[name] = ModuleConfig(source=str(file.resolve()))
    if not modules:
        raise ConfigError("no module was named", do="name a file: replank run ledger.py")
    config, said = overridden(Config(data_dir=str(data_dir), modules=modules), os.environ)
    check_modules(config, said.get)
    absolute = {
        name: msgspec.structs.replace(one, source=str(Path(one.source).resolve()))
        for name, one in config.modules.items()
    }
    place = str(Path(config.data_dir).resolve())
    return msgspec.structs.replace(config, data_dir=place, modules=absolute)


def _refuse_bad_file(file: Path, name: str) -> None:
    if not file.exists():
        raise ConfigError(f"there is no file {file}", do="check the path")
    if file.is_dir() and not (file / "__init__.py").is_file():
        raise ConfigError(
            f"{file} is not a package", found="a folder without __init__.py", do="name its file"
        )
    if file.is_file() and file.suffix != ".py":
        raise ConfigError(
            f"{file} is neither a Python file nor a package", expected="a .py file or a folder"
        )
    if not name.isidentifier():
        raise ConfigError(
            f"{name!r} cannot be a module's name",
            expected="letters, digits and _",
            do=f'rename the file, or name it in a replank.toml: ledger = "{file}"',
        )


__all__ = ["config_for_files"]
