"""Who may ask what: one guard for the Unix socket, one for TCP.

On the Unix socket the kernel has said who the peer is. On TCP anyone on the machine, and any page
in a browser on it, can connect, so a request must name this host (a rebound DNS name does not),
must not come from a foreign page, and needs the token for all but calls of modules on loopback.
"""

from __future__ import annotations

import hmac
import ipaddress
import os
import re
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from replank.errors import StorageError

TOKEN_FILE: Final = "token"  # noqa: S105 - the name of a file
_LOOKED_AT: Final = frozenset({b"host", b"origin", b"authorization", b"sec-fetch-site"})
_HOST: Final = re.compile(r"(?:\[([0-9a-f:.]+)\]|([^:\[\]@/]+))(?::\d{1,5})?")
_SEEN_MAX: Final = 1_024
_TOKEN_BYTES: Final = 32
_TOKEN_MIN_CHARS: Final = 16


class Refused(Exception):
    """A request was refused before anything was done.

    Args:
        status: The HTTP status.
        text: Why, for the client.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


class SocketGuard:
    """Let everything in: the peer of a Unix socket was checked when it connected."""

    public: Final = False
    """Whether answers may be read by others than the owner."""

    def admit(self, headers: Iterable[tuple[bytes, bytes]], *, control: bool) -> None:
        """Let a request in.

        Args:
            headers: The request's headers.
            control: Whether it is for a control route.
        """

    def recognise(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Let in a request for something that holds no secret.

        Args:
            headers: The request's headers.
        """


class TcpGuard:
    """Check each request that came over TCP.

    Args:
        address: The address listened on.
        allowed_hosts: More names that the Host header may carry.
        token: What a control request must bear.
    """

    public: Final = True
    """Whether answers may be read by others than the owner."""

    def __init__(self, address: str, allowed_hosts: Iterable[str], token: str) -> None:
        names = {"localhost", "127.0.0.1", "::1", address, *allowed_hosts}
        self._names = frozenset(name.strip("[]").lower() for name in names)
        self._seen: set[bytes] = set()
        self._token = token.encode()
        self._open_calls = is_loopback(address)

    def admit(self, headers: Iterable[tuple[bytes, bytes]], *, control: bool) -> None:
        """Let a request in, or say why not.

        Args:
            headers: The request's headers, names in lower case.
            control: Whether it is for a control route.

        Raises:
            Refused: It must not come in.
        """
        given = self._recognise(headers)
        if control or not self._open_calls:
            self._check_token(given)

    def recognise(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Let in a request for something that holds no secret, if it means this host.

        Args:
            headers: The request's headers, names in lower case.

        Raises:
            Refused: It names another host or comes from a foreign page.
        """
        self._recognise(headers)

    def _recognise(self, headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
        """Return what the request bears as authorization."""
        found: dict[bytes, bytes] = {}
        for name, value in headers:
            if name in _LOOKED_AT:
                if name in found:
                    raise Refused(400, f"the request has two {name.decode()} headers")
                found[name] = value
        host, origin = found.get(b"host"), found.get(b"origin")
        if host is None or not self._knows(host):
            raise Refused(403, "the Host header does not name this host")
        if origin is not None and origin not in (b"http://" + host, b"https://" + host):
            raise Refused(403, "the request comes from a page of another origin")
        if found.get(b"sec-fetch-site") in (b"cross-site", b"same-site"):
            raise Refused(403, "the request comes from a page of another site")
        return found.get(b"authorization")

    def _knows(self, host: bytes) -> bool:
        if host in self._seen:
            return True
        found = _HOST.fullmatch(host.decode("latin-1").lower())
        if found is None or (found[1] or found[2]) not in self._names:
            return False
        if len(self._seen) < _SEEN_MAX:  # a stranger has many ways to spell a name and a port
            self._seen.add(host)
        return True

    def _check_token(self, header: bytes | None) -> None:
        scheme, _, given = (header or b"").partition(b" ")
        if scheme.lower() != b"bearer":
            raise Refused(401, "this needs the host's token: Authorization: Bearer TOKEN")
        if not hmac.compare_digest(given.strip(), self._token):
            raise Refused(401, "the token is wrong")


Guard = SocketGuard | TcpGuard


def is_loopback(address: str) -> bool:
    """Tell whether only this machine can reach an address.

    Args:
        address: An IP address or a host name.
    """
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address.strip("[]")).is_loopback
    except ValueError:
        return False


def read_or_make_token(data_dir: Path) -> str:
    """Return the host's token, kept in the data directory for its owner only.

    Args:
        data_dir: The data directory.

    Raises:
        StorageError: The file cannot be read or written.
    """
    path = data_dir / TOKEN_FILE
    try:
        found = _read_private(path)
        if found is not None:
            return found
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        path.unlink(missing_ok=True)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "w") as file:
            file.write(token + "\n")
    except OSError as error:
        raise StorageError(
            f"the token file {path} cannot be used",
            found=error.strerror or str(error),
            do="check the owner and the mode of the data directory",
        ) from error
    return token


def _read_private(path: Path) -> str | None:
    """Return a token that nobody else could read; otherwise a new one is due."""
    try:
        info: Any = path.lstat()
        token = path.read_text(encoding="ascii").strip()
    except (FileNotFoundError, UnicodeDecodeError):
        return None
    private = info.st_mode & 0o077 == 0 and info.st_uid == os.getuid()
    return token if private and len(token) >= _TOKEN_MIN_CHARS else None


__all__ = [
    "TOKEN_FILE",
    "Guard",
    "Refused",
    "SocketGuard",
    "TcpGuard",
    "is_loopback",
    "read_or_make_token",
]
