"""A connection to a host over its Unix socket."""

from __future__ import annotations

import http.client
import socket


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket.

    Args:
        path: Of the socket.
        timeout_s: How long to wait for an answer, in seconds.
    """

    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        """Connect."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)

    def wait_s(self, timeout_s: float) -> None:
        """Set how long to wait for an answer, in seconds."""
        self.timeout = timeout_s
        if self.sock is not None:
            self.sock.settimeout(timeout_s)


__all__ = ["UnixConnection"]
