"""`/control/state...`: what a module's state holds, out and in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from replank.control import wire
from replank.control.guard import Refused
from replank.errors import UsageError
from replank.state.format import Snapshot, frames
from replank.threads import in_thread

_CHUNK_BYTES: Final = 1 << 18


async def describe(host: Any, request: Request) -> Response:
    """Answer which fields a state has."""
    module = request.query_params.get("module") or ""
    return _json(msgspec.json.encode(await host.look_at_state(module)))


async def export(host: Any, wanted: wire.StateRequest) -> Response:
    """Answer with the state as a document."""
    return _json(await host.export_state(wanted.module))


async def sample(host: Any, wanted: wire.StateRequest) -> Response:
    """Answer with a copy whose records are whole, in the format of snapshots."""
    snapshot = await host.sample_state(wanted.module)
    return StreamingResponse(_chunks(snapshot), media_type="application/octet-stream")


async def replace(host: Any, wanted: wire.ImportRequest, *, public: bool) -> Response:
    """Put another state in.

    Raises:
        Refused: A file is named by somebody who may not name files of this machine.
        UsageError: The file cannot be read, or neither file nor document is given.
    """
    if wanted.path is not None:
        if public:
            raise Refused(403, "over TCP the document itself has to be sent")
        document = await in_thread(_read, Path(wanted.path), wanted.module)
    else:
        document = b"" if wanted.document is msgspec.UNSET else bytes(wanted.document)
    if not document:
        raise Refused(422, "give the path of an export, or the document itself")
    return _json(msgspec.json.encode(await host.import_state(wanted.module, document)))


async def quarantined(host: Any, request: Request) -> Response:
    """Answer which records did not migrate and are kept."""
    module = request.query_params.get("module") or ""
    return _json(msgspec.json.encode(await host.quarantined(module)))


async def take_back(host: Any, wanted: wire.TakeBackRequest) -> Response:
    """Put kept records in again, or forget them."""
    report = await host.take_back(wanted.module, wanted.keys, discard=wanted.discard)
    return _json(msgspec.json.encode(report))


def _read(path: Path, module: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"the export {path} cannot be read",
            module=module,
            found=error.strerror or str(error),
            do="check the path",
        ) from error


async def _chunks(snapshot: Snapshot) -> AsyncIterator[bytes]:
    """Encode in a thread, some frames at a time: callers go on."""
    source = frames(snapshot)
    while chunk := await in_thread(_some, source):
        yield chunk


def _some(source: Iterator[bytes]) -> bytes:
    parts: list[bytes] = []
    size = 0
    for frame in source:
        parts.append(frame)
        size += len(frame)
        if size >= _CHUNK_BYTES:
            break
    return b"".join(parts)


def _json(body: bytes) -> Response:
    return Response(body, media_type="application/json")


__all__ = ["describe", "export", "quarantined", "replace", "sample", "take_back"]
