"""The doors of a host: a Unix socket for its owner, and HTTP.

Both are uvicorn servers in the host's own loop, without signal handlers. Each door has an
application and a guard of its own, so that what a request may do hangs on the listener it came by,
never on what it says about itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import socket
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from replank.config import Config
from replank.control import calls, locate, routes, scrape
from replank.control.door import BACKLOG, Door, listen_tcp
from replank.control.feed import EventFeed
from replank.control.guard import (
    TOKEN_FILE,
    Guard,
    Refused,
    SocketGuard,
    TcpGuard,
    read_or_make_token,
)
from replank.control.http import Receive, Scope, Send, answer_refusal
from replank.control.protocol import SocketProtocol, TcpProtocol
from replank.errors import StorageError
from replank.threads import in_thread

_IMPORTED_LATE: Final = (
    "anyio._backends._asyncio",
    "anyio._core._sockets",
    "anyio._core._streams",
    "anyio._core._testing",
    "anyio.lowlevel",
    "anyio.streams.memory",
    "anyio.streams.stapled",
    "anyio.streams.tls",
)

"""What starlette's first streamed answer would import on the event loop, for 100 ms and more."""


_NOTHING: Final = (
    "there is nothing here: calls are at /modules/NAME/METHOD, numbers at /metrics, and all "
    "routes are told at /control/openapi.json"
)


def _preload() -> None:
    for name in _IMPORTED_LATE:
        with contextlib.suppress(ImportError):  # another version of anyio: slower, not wrong
            importlib.import_module(name)


class ControlServer:
    """Let clients in, from `start` to `stop`.

    Args:
        host: A started host.
        config: Its configuration: addresses and limits.
        on_stop: Called when a client asks the host to stop; None refuses that.
        around: Given each door's application and guard, returns what answers in its place.
    """

    def __init__(
        self,
        host: Any,
        config: Config,
        *,
        on_stop: Callable[[], None] | None = None,
        around: Callable[[Any, Guard], Any] | None = None,
    ) -> None:
        self._around = around
        self._host = host
        self._config = config
        self._on_stop = on_stop
        self._data_dir = Path(config.data_dir).absolute()
        self._doors: list[Door] = []
        self._listening = contextlib.ExitStack()
        self._socket_path: Path | None = None
        self.contact: locate.Contact | None = None
        self._feed = EventFeed(
            host.recent,
            heartbeat_s=config.http.heartbeat_s,
            readers_max=config.http.max_event_readers,
        )

    async def start(self) -> locate.Contact:
        """Open the doors and write the note that clients find the host by.

        Returns:
            How to reach the host.

        Raises:
            ConfigError: The TCP address is taken or cannot be listened on.
            StorageError: The socket or the token cannot be made.
        """
        assert not self._doors, "a server is started once"
        await in_thread(_preload)
        http = self._config.http
        try:
            self._data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            token = read_or_make_token(self._data_dir)
            url = None
            if http.enabled:
                guard = TcpGuard(http.host, http.allowed_hosts, token)
                listener, url = listen_tcp(http)
                await self._open(guard, TcpProtocol, listener)
            await self._open(SocketGuard(), SocketProtocol, self._listen_unix())
            self.contact = locate.Contact(
                pid=os.getpid(),
                socket=str(self._socket_path),
                http=url,
                version=routes.own_version(),
                token_file=str(self._data_dir / TOKEN_FILE),
            )
            locate.write_contact(self._data_dir, self.contact)
        except OSError as error:
            await self.stop()
            raise StorageError(
                f"the control socket of {self._data_dir} cannot be made",
                found=error.strerror or str(error),
                do="check the owner and the mode of the data directory",
            ) from error
        except BaseException:
            await self.stop()
            raise
        return self.contact

    async def stop(self) -> None:
        """Take no more connections, let what is open end within its limit, remove the note."""
        if self.contact is not None:
            locate.remove_contact(self._data_dir)
            self.contact = None
        self._feed.close()
        self._listening.close()
        doors, self._doors = self._doors, []
        await asyncio.gather(*(door.close() for door in doors))
        if self._socket_path is not None:
            self._socket_path.unlink(missing_ok=True)
            if self._socket_path.parent.name != "run":  # the private temporary folder
                with contextlib.suppress(OSError):
                    self._socket_path.parent.rmdir()
            self._socket_path = None

    async def __aenter__(self) -> Self:
        """Start."""
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop."""
        await self.stop()

    async def _open(self, guard: Guard, protocol: Any, listener: socket.socket) -> None:
        http = self._config.http
        calls_app = calls.CallsApp(self._host, guard, http.max_body_bytes)
        self._listening.callback(self._host.subscribe(calls_app.note))
        app: Any = _App(
            calls_app,
            routes.ControlRoutes(
                self._host,
                guard,
                max_body_bytes=http.max_body_bytes,
                max_events=http.max_stream_events,
                on_stop=self._on_stop,
                feed=self._feed,
            ),
            scrape.MetricsApp(self._host, guard),
        )
        if self._around is not None:
            app = self._around(app, guard)
        door = Door(app, protocol, listener, http)
        self._doors.append(door)
        await door.open()

    def _listen_unix(self) -> socket.socket:
        path = self._socket_path = locate.choose_socket_path(self._data_dir)
        # Whoever left it is gone: this host holds the lock of the data directory.
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(str(path))
            path.chmod(0o600)
            listener.listen(BACKLOG)
        except BaseException:
            listener.close()
            raise
        listener.setblocking(False)
        return listener


class _App:
    """Send each request to the thin path of calls, to the control routes, or to the metrics."""

    def __init__(
        self,
        calls_app: calls.CallsApp,
        control: routes.ControlRoutes,
        metrics: scrape.MetricsApp,
    ) -> None:
        self._calls = calls_app
        self._control = control
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"].startswith(calls.PREFIX):
            await self._calls(scope, receive, send)
        elif scope["path"].startswith(routes.PREFIX):
            await self._control(scope, receive, send)
        elif scope["path"] == scrape.PATH:
            await self._metrics(scope, receive, send)
        else:
            await answer_refusal(send, Refused(404, _NOTHING))


__all__ = ["ControlServer"]
