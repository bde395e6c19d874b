"""What the host and its probe say to each other: length-prefixed MessagePack."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import msgspec

from replank.code.store import Stored, Version
from replank.errors import InternalError

LENGTH_BYTES: Final = 4
FRAME_BYTES_MAX: Final = 256 * 1024 * 1024
"""Longest frame taken: sources are limited to 64 MiB and their code is of the same order."""

BROKEN_STATUS: Final = 70
BROKEN_MARK: Final = "probe: "
"""How a child says that we failed, not the candidate: this status, this before the reason."""


class ProbeLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What a candidate may use while it is examined.

    Args:
        seconds: Time from the start of the examination to its end, in seconds.
        memory_bytes: Memory beyond what an idle interpreter holds.
        output_bytes: How much of what it prints is kept; the last part.
    """

    seconds: float = 10.0
    memory_bytes: int = 1024 * 1024 * 1024
    output_bytes: int = 16 * 1024


class ErrorFacts(msgspec.Struct, frozen=True, kw_only=True):
    """An error of ours as plain values, to be raised again in the host."""

    kind: str
    what: str
    module: str | None = None
    found: str | None = None
    expected: str | None = None
    do: str | None = None
    location: str | None = None
    traceback: str = ""


class TestRun(msgspec.Struct, frozen=True, kw_only=True):
    """A candidate's own tests.

    Args:
        path: File or folder of tests.
        source: The module's configured source: its place says by which names tests import it.
    """

    __test__ = False  # pytest would take it for a class of tests

    path: str
    source: str


class TestCounts(msgspec.Struct, frozen=True, kw_only=True):
    """How a candidate's tests went.

    Args:
        passed: How many.
        skipped: How many were left out by their author.
        seconds: How long they took.
    """

    __test__ = False

    passed: int = 0
    skipped: int = 0
    seconds: float = 0.0


class Examine(msgspec.Struct, frozen=True, kw_only=True, tag="examine"):
    """Load a version in a child of its own and say what it is."""

    id: int
    name: str
    stored: Stored
    cwd: str
    sys_path: tuple[str, ...]
    argv: tuple[str, ...]
    limits: ProbeLimits
    tests: TestRun | None = None
    """Run these instead of reading what the version offers."""

    @property
    def version(self) -> Version:
        """The version to examine."""
        return self.stored.version()


class Preload(msgspec.Struct, frozen=True, tag="preload"):
    """Import installed modules in the server, so that later children have them already."""

    names: tuple[str, ...]


class Cancel(msgspec.Struct, frozen=True, tag="cancel"):
    """Kill the child of an examination that nobody waits for."""

    id: int


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The server takes requests."""

    pid: int


class Examined(msgspec.Struct, frozen=True, kw_only=True, tag="examined"):
    """How a child ended.

    Args:
        id: The examination.
        report: The child's own `ChildReport`, encoded; empty when it did not get that far.
        status: Its exit code, or the negative number of the signal that ended it.
        timed_out: Whether it was killed at its deadline.
        output: The last part of what it printed.
        fault: What `faulthandler` wrote.
        seconds: From the fork, or from when an older child took it up, to the verdict, in seconds.
    """

    id: int
    report: bytes
    status: int
    timed_out: bool
    output: str
    fault: str
    seconds: float


class ChildReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a child found out about a candidate."""

    ok: bool
    contract: dict[str, Any] = {}
    seconds: dict[str, float] = {}
    error: ErrorFacts | None = None
    warnings: tuple[str, ...] = ()
    code: bytes | None = None
    imported: tuple[str, ...] = ()
    patched: tuple[str, ...] = ()
    """What of others its import has replaced, as "json.dumps"."""
    changed: tuple[str, ...] = ()
    """What else its import changes in its process, a line each; patches too."""
    tests: TestCounts | None = None


ToServer = Examine | Preload | Cancel
ToHost = Ready | Examined


def frame(message: msgspec.Struct) -> bytes:
    """Encode a message with its length before it."""
    body = msgspec.msgpack.encode(message)
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


class Frames:
    """Cuts a stream of bytes into the bodies of frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes; return the bodies that are complete.

        Raises:
            InternalError: A length is beyond all reason: the stream is out of step.
        """
        self._buffer += data
        bodies = []
        while len(self._buffer) >= LENGTH_BYTES:
            end = LENGTH_BYTES + frame_length(self._buffer[:LENGTH_BYTES])
            if len(self._buffer) < end:
                break
            bodies.append(bytes(self._buffer[LENGTH_BYTES:end]))
            del self._buffer[:end]
        return bodies


class Verdict(NamedTuple):
    """What a child writes when it has examined a candidate."""

    report: bytes
    """Its `ChildReport`, encoded."""
    waits: bool
    """Whether it can examine another, and waits for it; else it leaves."""


def verdict_frame(verdict: Verdict) -> bytes:
    """Encode a child's verdict with its length before it."""
    mark = b"+" if verdict.waits else b"."
    return mark + len(verdict.report).to_bytes(LENGTH_BYTES, "big") + verdict.report


def split_verdict(data: bytes | bytearray) -> Verdict | None:
    """Read a child's verdict; None when it is not complete, or no verdict."""
    begin = 1 + LENGTH_BYTES
    if data[:1] not in (b"+", b".") or len(data) < begin:
        return None
    end = begin + int.from_bytes(data[1:begin], "big")
    return Verdict(bytes(data[begin:end]), data[:1] == b"+") if len(data) == end else None


def frame_length(prefix: bytes | bytearray) -> int:
    """Return the length that a prefix announces.

    Raises:
        InternalError: It is beyond all reason.
    """
    length = int.from_bytes(prefix, "big")
    if length > FRAME_BYTES_MAX:
        raise InternalError("the probe's stream is out of step", found=f"{length} bytes announced")
    return length


__all__ = [
    "BROKEN_MARK",
    "BROKEN_STATUS",
    "LENGTH_BYTES",
    "Cancel",
    "ChildReport",
    "ErrorFacts",
    "Examine",
    "Examined",
    "Frames",
    "Preload",
    "ProbeLimits",
    "Ready",
    "TestCounts",
    "TestRun",
    "ToHost",
    "ToServer",
    "Verdict",
    "frame",
    "frame_length",
    "split_verdict",
    "verdict_frame",
]
