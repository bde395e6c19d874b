"""`/dashboard`: the page, its files, and the one answer that is its own.

The page is static and holds no secret, so it is given to whoever the guard recognises; everything
it shows it asks for with the host's token, over the control routes that every client uses. Nothing
on it comes from another host, and its policy forbids that.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources
from time import perf_counter
from typing import Any, Final

import msgspec

from replank.control import calls
from replank.control.guard import Guard, Refused
from replank.control.http import JSON, Receive, Scope, Send, answer_refusal
from replank.instrumentation.status import HostStatus
from replank.report import ProbationReport
from replank.web.meter import TICK_S, Meter, Tick

PATH: Final = "/dashboard"
_NOW: Final = PATH + "/now"
_TYPES: Final = {
    ".html": b"text/html; charset=utf-8",
    ".css": b"text/css; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".svg": b"image/svg+xml",
}
_POLICY: Final = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
    b" base-uri 'none'; form-action 'none'; frame-ancestors 'none';"
    b" require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS: Final = (
    (b"content-security-policy", _POLICY),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    # A host that was upgraded serves other files under the same names.
    (b"cache-control", b"no-store"),
)
App = Callable[[Scope, Receive, Send], Any]


class Now(msgspec.Struct, frozen=True, kw_only=True):
    """What the page draws each second."""

    status: HostStatus
    probations: tuple[ProbationReport, ...]
    """Of the versions that are on probation now."""
    paused: tuple[str, ...]
    """Modules whose reloads are paused; "*" stands for all."""
    tick: int
    """Number of the tick that is now."""
    tick_s: float
    ticks: tuple[Tick, ...]


class Dashboard:
    """Answer for `/dashboard` before a door's own application, and time the calls that pass.

    Args:
        host: The host.
    """

    def __init__(self, host: Any) -> None:
        self._host = host
        self._meter = Meter()
        self._files = _read_files()

    def around(self, app: App, guard: Guard) -> App:
        """Return an application that stands before another.

        Args:
            app: What answers everything else.
            guard: The door's guard.
        """

        async def door(scope: Scope, receive: Receive, send: Send) -> None:
            path: str = scope["path"]
            if path.startswith(calls.PREFIX):
                await app(scope, receive, self._timed(send))
            elif path == PATH or path.startswith(PATH + "/"):
                await self._answer(scope, send, guard)
            else:
                await app(scope, receive, send)

        return door

    def _timed(self, send: Send) -> Send:
        began = perf_counter()

        async def timed(message: Any) -> None:
            if message["type"] == "http.response.start":
                self._meter.note(perf_counter() - began, message["status"])
            await send(message)

        return timed

    async def _answer(self, scope: Scope, send: Send, guard: Guard) -> None:
        try:
            kind, body = self._found(scope, guard)
        except Refused as refused:
            await answer_refusal(send, refused)
            return
        length = (b"content-length", b"%d" % len(body))
        headers = [(b"content-type", kind), length, *_HEADERS]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _found(self, scope: Scope, guard: Guard) -> tuple[bytes, bytes]:
        """Return the content type and the body of what is asked for, or refuse."""
        if scope["method"] not in {"GET", "HEAD"}:
            raise Refused(405, "not with this method")
        if scope["path"] == _NOW:
            guard.admit(scope["headers"], control=True)
            return JSON[1], msgspec.json.encode(self._now(scope["query_string"]))
        guard.recognise(scope["headers"])
        name = scope["path"][len(PATH) :].strip("/") or "index.html"
        if name not in self._files:
            raise Refused(404, "there is nothing here")
        return self._files[name]

    def _now(self, query: bytes) -> Now:
        name, _, text = query.partition(b"=")
        if query and (name != b"after" or not text.isdigit() or len(text) > 15):  # noqa: PLR2004 - digits enough
            raise Refused(422, "after must be the number of a tick")
        return Now(
            status=self._host.status(),
            probations=self._host.on_probation(),
            paused=self._host.paused(),
            tick=self._meter.now(),
            tick_s=TICK_S,
            ticks=self._meter.after(int(text or 0)),
        )


def _read_files() -> dict[str, tuple[bytes, bytes]]:
    """Read all files of the page once: what is not among them does not exist."""
    found = {}
    for file in resources.files("replank.web").joinpath("static").iterdir():
        kind = _TYPES.get("." + file.name.rpartition(".")[2])
        if kind is not None:
            found[file.name] = (kind, file.read_bytes())
    return found


__all__ = ["PATH", "Dashboard", "Now"]
