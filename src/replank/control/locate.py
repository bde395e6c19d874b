"""Where a running host can be reached: written when it starts, removed when it stops."""

from __future__ import annotations

import os
import tempfile
import tomllib
from pathlib import Path
from typing import Final

import msgspec

from replank.config import CONFIG_FILE, DATA_DIR, load_config
from replank.errors import ConfigError, UsageError

CONTACT_FILE: Final = "control.json"
SOCKET_NAME: Final = "control.sock"
SOCKET_PATH_MAX_BYTES: Final = 100
"""Systems allow 103 to 107 bytes; a longer path goes to a private temporary folder."""


class Contact(msgspec.Struct, frozen=True, kw_only=True):
    """How to reach a host."""

    pid: int
    socket: str
    """Path of the Unix socket."""
    http: str | None
    """Address of the HTTP server, such as "http://127.0.0.1:8321"; None when it is off."""
    version: str
    """Of the host's Replank."""
    token_file: str | None = None
    """Where the token for control over HTTP lies."""


class HostNotFound(UsageError):
    """No host runs on that data directory."""


def choose_socket_path(data_dir: Path) -> Path:
    """Return where to make the socket, in a folder that only its owner may enter.

    Args:
        data_dir: The data directory; too long a path gets a temporary folder instead.
    """
    folder = data_dir.resolve() / "run"
    path = folder / SOCKET_NAME
    if len(os.fsencode(path)) > SOCKET_PATH_MAX_BYTES:
        return Path(tempfile.mkdtemp(prefix="replank-")) / SOCKET_NAME
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    return path


def write_contact(data_dir: Path, contact: Contact) -> None:
    """Tell clients where the host is, in one step.

    Args:
        data_dir: The data directory.
        contact: How to reach the host.
    """
    path = data_dir / CONTACT_FILE
    fresh = path.with_suffix(".new")
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(msgspec.json.encode(contact))
    fresh.replace(path)


def remove_contact(data_dir: Path) -> None:
    """Tell clients that no host is there any more.

    Args:
        data_dir: The data directory.
    """
    (data_dir / CONTACT_FILE).unlink(missing_ok=True)


def read_contact(data_dir: str | os.PathLike[str]) -> Contact:
    """Return how to reach the host of a data directory.

    Args:
        data_dir: The data directory.

    Raises:
        HostNotFound: None runs there, or its note cannot be read.
    """
    path = Path(data_dir) / CONTACT_FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=Contact)
    except FileNotFoundError:
        raise HostNotFound(
            f"no host runs on {data_dir}",
            expected=f"a running host that has written {path}",
            do="start one with `replank run`, or name another with --data-dir or --config",
        ) from None
    except (OSError, msgspec.DecodeError) as error:
        raise HostNotFound(
            f"the host's note {path} cannot be read", found=str(error), do="start the host again"
        ) from error


def find_data_dir(
    data_dir: str | os.PathLike[str] | None = None, config: str | os.PathLike[str] | None = None
) -> Path:
    """Return the data directory that a command means.

    Args:
        data_dir: As named on the command line: wins.
        config: A configuration file as named on the command line.

    Returns:
        The first of: `data_dir`; the one named in `config`; the one named in ./replank.toml;
        `REPLANK_DATA_DIR` of the environment, which stands above what a file says; ./.replank.

    Raises:
        ConfigError: The configuration file is wrong, and no host runs where it says.
    """
    if data_dir is not None:
        return Path(data_dir)
    if config is None and not Path(CONFIG_FILE).is_file():
        return Path(os.environ.get("REPLANK_DATA_DIR", DATA_DIR))
    file = Path(CONFIG_FILE if config is None else config)
    try:
        return Path(load_config(file).data_dir)
    except ConfigError:
        if not file.is_file():
            raise
        # whoever has to roll back now must not be kept from it by a slip in an edited file
        folder = _named_data_dir(file)
        if not (folder / CONTACT_FILE).is_file():
            raise
        return folder


def _named_data_dir(file: Path) -> Path:
    """Return the data directory that a configuration file names, whatever else is wrong in it."""
    try:
        named = tomllib.loads(file.read_text("utf-8")).get("data_dir", DATA_DIR)
    except (OSError, ValueError):
        named = DATA_DIR
    return file.parent / os.environ.get("REPLANK_DATA_DIR", str(named))


__all__ = [
    "CONTACT_FILE",
    "Contact",
    "HostNotFound",
    "choose_socket_path",
    "find_data_dir",
    "read_contact",
    "remove_contact",
    "write_contact",
]
