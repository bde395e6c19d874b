"""`replank doctor`: is all well with the environment, the configuration and the data directory?

Nothing is changed: what has to be tried is tried on a file, a port and a process of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from replank.cli import examine, examine_data
from replank.cli.findings import Finding, Grade, Health, Situation, fault, well
from replank.config import CONFIG_FILE, DATA_DIR, Config, load_config
from replank.errors import ConfigError

Examination = Callable[[Situation], Iterator[Finding]]

_EXAMINATIONS: Final[tuple[Examination, ...]] = (
    examine.examine_python,
    examine.examine_packages,
    examine.examine_modules,
    examine_data.examine_folder,
    examine_data.examine_room,
    examine_data.examine_journal,
    examine_data.examine_socket,
    examine_data.examine_token,
    examine.examine_http,
    examine.examine_files,
    examine.examine_probe,
    examine.examine_isolation,
)


def examine_all(data_dir: Path | None, config: Path | None) -> Health:
    """Examine everything; a mistake in one examination does not keep the others away.

    Args:
        data_dir: As named on the command line.
        config: As named on the command line.
    """
    read, first = _read_config(config)
    folder = Path(read.data_dir) if data_dir is None else data_dir
    host, runs = examine_data.find_host(folder)
    here = Situation(config=read, data_dir=folder.absolute(), runs=runs)
    findings = [first]
    for one in _EXAMINATIONS:
        findings += _examined(one, here)
        if one is examine_data.examine_room:
            findings.append(host)
    return Health(
        well=all(one.grade is not Grade.FAULT for one in findings),
        data_dir=str(here.data_dir),
        findings=tuple(findings),
    )


def _examined(one: Examination, here: Situation) -> list[Finding]:
    try:
        return list(one(here))
    except Exception as error:
        what = one.__name__.removeprefix("examine_")
        return [fault(what, f"{type(error).__name__}: {error}", "look into this by hand")]


def _read_config(config: Path | None) -> tuple[Config, Finding]:
    what = "configuration"
    path = config or Path(CONFIG_FILE)
    if config is None and not path.is_file():
        here = msgspec.structs.replace(Config(), data_dir=DATA_DIR)
        return here, well(what, "no replank.toml here: the defaults; `replank init` writes one")
    try:
        return load_config(path), well(what, str(path))
    except ConfigError as error:
        found = f"{error.what}, at {error.location}" if error.location else error.what
        return Config(), fault(what, found, error.do or error.expected or "correct it")


__all__ = ["examine_all"]
