"""`GET /metrics`: the host's numbers, for Prometheus."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, Final

from replank.control.guard import Guard, Refused
from replank.control.http import NO_STORE, Receive, Scope, Send, answer_refusal
from replank.threads import in_thread

PATH: Final = "/metrics"
_METHODS: Final = frozenset({"GET", "HEAD"})


class MetricsApp:
    """The ASGI application of the one route; it names modules and versions, no path, no secret.

    Like a module's calls it is open on loopback, and needs the token beyond.

    Args:
        host: The host.
        guard: Who may come in.
    """

    def __init__(self, host: Any, guard: Guard) -> None:
        self._host = host
        self._guard = guard
        self._write: Callable[[], bytes] | None = None

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            self._guard.admit(scope["headers"], control=False)
        except Refused as refused:
            await answer_refusal(send, refused)
            return
        if scope["method"] not in _METHODS:
            await answer_refusal(send, Refused(405, "metrics are read with GET"))
            return
        if self._write is None:
            # In a thread: whoever never asks pays nothing, and no call waits for the first import.
            module = await in_thread(importlib.import_module, "replank.instrumentation.metrics")
            self._write = module.make_exposition(self._host)
        body = self._write()
        headers = [
            (b"content-type", b"text/plain; version=0.0.4; charset=utf-8"),
            (b"content-length", b"%d" % len(body)),
            NO_STORE,
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


__all__ = ["PATH", "MetricsApp"]
