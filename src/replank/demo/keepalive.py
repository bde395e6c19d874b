"""One HTTP keep-alive connection over plain asyncio streams: small enough to be trusted."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Self

import h11
import msgspec

READ_BYTES = 65_536


class Connection:
    """Send one request after the other over one connection; open it again when it was closed.

    Args:
        host: Address of the server.
        port: Its TCP port.
        timeout_s: Seconds after which an answer counts as lost.
    """

    def __init__(self, host: str, port: int, *, timeout_s: float = 30.0) -> None:
        self.host = host
        self.port = port
        self.timeout_s = timeout_s
        self._http: h11.Connection | None = None
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    async def post(self, path: str, arguments: dict[str, Any]) -> tuple[int, bytes]:
        """Send a JSON object and return status and body of the answer.

        Args:
            path: Where to.
            arguments: The keyword arguments of the call.

        Raises:
            OSError: The connection could not be opened, or ended before the answer.
            TimeoutError: No answer within `timeout_s`.
        """
        body = msgspec.json.encode(arguments)
        try:
            async with asyncio.timeout(self.timeout_s):
                return await self._exchange(path, body)
        except h11.ProtocolError as error:
            self.close()
            raise ConnectionError(str(error)) from error
        except BaseException:
            # a half-read answer must never be taken for the next one's
            self.close()
            raise

    def close(self) -> None:
        """Close the connection; the next request opens a new one."""
        if self._writer is not None:
            self._writer.close()
        self._http = self._reader = self._writer = None

    async def _exchange(self, path: str, body: bytes) -> tuple[int, bytes]:
        if self._http is None or self._reader is None or self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(self.host, self.port)
            self._http = h11.Connection(our_role=h11.CLIENT)
        http, reader, writer = self._http, self._reader, self._writer
        request = h11.Request(
            method="POST",
            target=path,
            headers=[
                ("Host", f"{self.host}:{self.port}"),
                ("Content-Type", "application/json"),
                ("Content-Length", str(len(body))),
            ],
        )
        writer.write(
            (http.send(request) or b"")
            + (http.send(h11.Data(data=body)) or b"")
            + (http.send(h11.EndOfMessage()) or b"")
        )
        status, answer = await _answer(http, reader)
        if http.our_state is h11.MUST_CLOSE or http.their_state is h11.MUST_CLOSE:
            self.close()
        else:
            http.start_next_cycle()
        return status, answer


async def _answer(http: h11.Connection, reader: asyncio.StreamReader) -> tuple[int, bytes]:
    status, parts = 0, []
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            data = await reader.read(READ_BYTES)
            if not data and http.their_state is not h11.SEND_BODY:
                raise ConnectionResetError("the server closed the connection")
            http.receive_data(data)
        elif isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            parts.append(bytes(event.data))
        elif isinstance(event, h11.EndOfMessage):
            return status, b"".join(parts)
        elif isinstance(event, h11.ConnectionClosed):
            raise ConnectionResetError("the server closed the connection")


__all__ = ["Connection"]
