"""One uvicorn server on one listening socket, opened and closed without its signal handlers."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from typing import Any, Final

import uvicorn

from replank.config import HttpConfig
from replank.control.patience import Patience
from replank.errors import ConfigError

BACKLOG: Final = 2048
_TURNS: Final = 3
_CIPHERS: Final = "HIGH:!aNULL:!MD5:!3DES"
"""For TLS 1.2; TLS 1.3 chooses among its own, and what is older is not spoken."""


class Door:
    """One uvicorn server on one listening socket."""

    def __init__(self, app: Any, protocol: Any, listener: socket.socket, http: HttpConfig) -> None:
        self._listener = listener
        self._patience = Patience(http)
        self._looking: asyncio.TimerHandle | None = None
        self._accepting: asyncio.Server | None = None
        self._handshake_timeout_s = http.head_timeout_s
        # The Unix socket is on this machine: nobody can listen in.
        secure = listener.family != socket.AF_UNIX
        self._stop_timeout_s = http.stop_timeout_s
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                http=protocol,
                ws="none",
                interface="asgi3",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,  # they would let a request say who it is
                server_header=False,
                date_header=False,
                limit_concurrency=http.max_connections,
                timeout_keep_alive=http.keep_alive_s,
                ssl_certfile=http.certfile if secure else None,
                ssl_keyfile=http.keyfile if secure else None,
                ssl_ciphers=_CIPHERS,
            )
        )

    async def open(self) -> None:
        """Take connections: the steps of `Server.serve` without its signal handlers and polling.

        Raises:
            ConfigError: The certificate or its key cannot be used.
        """
        config = self._server.config
        try:
            config.load()
        except (OSError, ssl.SSLError) as error:
            raise _cannot_encrypt(config, error) from error
        self._server.lifespan = config.lifespan_class(config)
        await self._server.on_tick(0)  # the headers that every answer has

        def connection() -> Any:
            kind: Any = config.http_protocol_class
            return kind(config=config, server_state=self._server.server_state, app_state={})

        # By hand, because uvicorn would leave a client a minute for the TLS handshake.
        self._accepting = await asyncio.get_running_loop().create_server(
            connection,
            sock=self._listener,
            ssl=config.ssl,
            ssl_handshake_timeout=self._handshake_timeout_s if config.ssl else None,
            backlog=BACKLOG,
        )
        self._look()

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        self._patience.look(self._server.server_state.connections, loop.time())
        self._looking = loop.call_later(self._patience.every_s, self._look)

    async def close(self) -> None:
        """Take no more connections and let the open ones end within the limit."""
        loop = asyncio.get_running_loop()
        if self._looking is not None:
            self._looking.cancel()
        # Closing a listener resets connections that are accepted but not yet handed over (an open
        # CPython bug): stop listening first and let the loop hand over what it has accepted.
        with contextlib.suppress(NotImplementedError, ValueError, OSError):
            loop.remove_reader(self._listener.fileno())
        await _turn_loop()
        if self._accepting is not None:
            self._accepting.close()
        self._listener.close()
        state = self._server.server_state
        for connection in list(state.connections):
            connection.shutdown()  # an idle one closes, a busy one after its answer
        if state.tasks:
            _, late = await asyncio.wait(set(state.tasks), timeout=self._stop_timeout_s)
            for task in late:
                task.cancel("the host stops")
            if late:
                await asyncio.wait(late, timeout=self._stop_timeout_s)
        for connection in list(state.connections):
            connection.transport.close()
        await _turn_loop()


async def _turn_loop() -> None:
    """Let what the loop has already taken on come to its end."""
    for _ in range(_TURNS):
        await asyncio.sleep(0)


def listen_tcp(http: HttpConfig) -> tuple[socket.socket, str]:
    """Listen on the configured address.

    Args:
        http: Address and port.

    Returns:
        The listening socket, and the address as a URL.

    Raises:
        ConfigError: The address is taken or is none of this machine's, or there is half of TLS.
    """
    if http.keyfile is not None and http.certfile is None:
        raise ConfigError(
            "[http] has a keyfile and no certfile", do="name the certificate too: certfile = ..."
        )
    listener = _bind(http)
    try:
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise _cannot_listen(http, error) from error
    listener.setblocking(False)
    host = f"[{http.host}]" if ":" in http.host else http.host
    scheme = "http" if http.certfile is None else "https"
    return listener, f"{scheme}://{host}:{listener.getsockname()[1]}"


def refuse_taken(http: HttpConfig) -> None:
    """Refuse an address that cannot be had, before anything is started that would serve on it.

    Args:
        http: Address and port.

    Raises:
        ConfigError: The address is taken or is none of this machine's.
    """
    _bind(http).close()


def _bind(http: HttpConfig) -> socket.socket:
    try:
        family, kind, number, _, address = socket.getaddrinfo(
            http.host, http.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, number)
    except OSError as error:
        raise _cannot_listen(http, error) from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise _cannot_listen(http, error) from error
    return listener


def _cannot_encrypt(config: uvicorn.Config, error: Exception) -> ConfigError:
    return ConfigError(
        f"the certificate {config.ssl_certfile} cannot be used",
        found=getattr(error, "strerror", None) or str(error) or type(error).__name__,
        expected="a PEM file with a certificate and its chain, and the private key that fits it",
        do="correct [http] certfile and keyfile, or the files and their modes",
    )


def _cannot_listen(http: HttpConfig, error: OSError) -> ConfigError:
    return ConfigError(
        f"cannot listen on {http.host}:{http.port}",
        found=error.strerror or str(error),
        expected="a free port of this machine",
        do="choose another with --port (0 takes any free one) or [http] port",
    )


__all__ = ["BACKLOG", "Door", "listen_tcp", "refuse_taken"]
