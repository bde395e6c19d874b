"""A shop without Replank, that can be told to make each mistake the load generator must find."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import h11


class FakeShop:
    """Answer as the demo's two modules do.

    Args:
        fault: "lose", "double", "swap", "refuse", "hang_up", "steal", "old", "mix" or None; done
            to the 20th request.
    """

    def __init__(self, fault: str | None = None) -> None:
        self.fault = fault
        self.serial = 0
        self.requests = 0
        self.accounts: dict[str, int] = {}
        self.arrivals: dict[str, list[list[int]]] = {}
        self.orders: dict[str, list[list[int]]] = {}
        self.connections = 0

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[int]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            await server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        http = h11.Connection(our_role=h11.SERVER)
        try:
            while True:
                request = await _request(http, reader)
                if request is None:
                    return
                answer = self._answer(*request)
                if answer is None:
                    return
                writer.write(_response(http, *answer))
                http.start_next_cycle()
        finally:
            writer.close()

    def _answer(self, path: str, body: dict[str, Any]) -> tuple[int, Any] | None:
        _, _, module, *rest = path.split("/")
        if rest[-1] == "statement":
            return 200, self._statement(module)
        self.requests += 1
        fault = self.fault if self.requests == 20 else None
        if fault == "hang_up":
            return None
        if fault == "refuse":
            return 500, {"error": "the module raised", "kind": "ValueError"}
        self._take(module, body, fault)
        entry = {"version": "2.0" if self.requests < 20 or fault == "old" else "5.0"}
        if self.fault == "old" and self.requests == 19:
            entry["version"] = "5.0"
        entry["serial"] = self.serial
        if module == "api":
            front = "5.0" if fault != "mix" and entry["version"] == "5.0" else "1.0"
            return 200, {"version": front, "booked": entry}
        return (202, {}) if "messages" in rest else (200, entry)

    def _take(self, module: str, body: dict[str, Any], fault: str | None) -> None:
        self.serial += 1
        if fault == "lose":
            return
        if fault != "steal":
            self.accounts[body["owner"]] = self.accounts.get(body["owner"], 0) + body["cents"]
        runs = self.arrivals.setdefault(body["sender"], [])
        runs.append([body["seq"]] * 2)
        if fault == "double":
            runs.append([body["seq"]] * 2)
        if fault == "swap":
            runs.reverse()
        if module == "api":
            self.orders.setdefault(body["sender"], []).append([body["seq"]] * 2)

    def _statement(self, module: str) -> dict[str, Any]:
        if module == "api":
            return {"version": "5.0", "senders": self.orders}
        return {
            "version": "5.0",
            "serial": self.serial,
            "total_cents": sum(self.accounts.values()),
            "accounts": self.accounts,
            "senders": self.arrivals,
        }


async def _request(
    http: h11.Connection, reader: asyncio.StreamReader
) -> tuple[str, dict[str, Any]] | None:
    path, body = "", b""
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            http.receive_data(await reader.read(65_536))
        elif isinstance(event, h11.Request):
            path = event.target.decode()
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            return path, json.loads(body or b"{}")
        else:
            return None


def _response(http: h11.Connection, status: int, answer: Any) -> bytes:
    body = json.dumps(answer).encode()
    head = h11.Response(status_code=status, headers=[("Content-Length", str(len(body)))])
    parts = (head, h11.Data(data=body), h11.EndOfMessage())
    return b"".join(http.send(part) or b"" for part in parts)
