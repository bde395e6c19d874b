"""Examine candidates in a warm child process before anything of theirs runs in the host.

The host's side: it starts the server, sends it versions and turns the answers into a result or an
error of ours. Nothing here waits without a limit, and nothing blocks the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
from typing import IO, Any, Final

import msgspec

from replank.code.probe_verdict import decode_report, judge, judge_tests
from replank.code.probe_wire import (
    LENGTH_BYTES,
    Cancel,
    ErrorFacts,
    Examine,
    Examined,
    Preload,
    ProbeLimits,
    Ready,
    TestCounts,
    TestRun,
    ToHost,
    ToServer,
    frame,
    frame_length,
)
from replank.code.store import Stored, Version
from replank.errors import InternalError, ReplankError, SourceError
from replank.threads import in_thread

_START_TIMEOUT_S: Final = 30.0
_ANSWER_GRACE_S: Final = 5.0
"""How much longer than a candidate's own limit the server may take to answer."""
_STOP_TIMEOUT_S: Final = 2.0
_CONCURRENT_MAX: Final = 4
"""How many candidates are examined at once; more wait their turn."""

_BOOT: Final = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[2]); "
    "from replank.code.probe_child import main; main(int(sys.argv[1]), int(sys.argv[3]))"
)


class ProbeResult(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a candidate that can be loaded and constructed.

    Args:
        ok: True; a candidate that is not well is raised as an error.
        contract: What `describe_definition` says.
        seconds: Time of each step ("load", "define", "construct", "compile") and "total".
        warnings: What its author should look at, one line each.
        code: Its code objects, for `Loader.load(code=...)`; None when there are none.
        output: The last part of what it printed.
        patched: What of others its import has replaced, as "json.dumps".
        changed: What its import changes in its process, one line each.
    """

    ok: bool
    contract: dict[str, Any]
    seconds: dict[str, float]
    error: ErrorFacts | None = None
    warnings: tuple[str, ...] = ()
    code: bytes | None = None
    output: str = ""
    patched: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()


class Probe:
    """Examines candidates; belongs to one event loop.

    Args:
        preload: Whether installed packages that a good candidate imported are imported by the
            server too, so that the next examination has them already.
        lanes: How many child processes candidates share that come at the same time, while each
            leaves no trace in its child; by default as many as half of the processors.
    """

    def __init__(self, *, preload: bool = True, lanes: int | None = None) -> None:
        self._preload = preload
        self._lanes = lanes or _usual_lanes()
        self._server: _Server | None = None
        self._starting = asyncio.Lock()
        self._places = asyncio.Semaphore(_CONCURRENT_MAX)
        self._closed = False

    async def start(self) -> None:
        """Start the server and wait until it is warm; without it the first examination does.

        Raises:
            InternalError: It does not start.
        """
        await self._running_server()

    async def examine(
        self, version: Version, name: str, *, limits: ProbeLimits | None = None
    ) -> ProbeResult:
        """Load, read and construct a candidate in a child process.

        Args:
            version: The stored candidate.
            name: The module's name in the host.
            limits: What the candidate may use.

        Returns:
            What it is and what it offers.

        Raises:
            SourceError: It does not load, or it ended, hung or crashed the child.
            DefinitionError: It loads but is no module.
            ModuleError: Another mistake of the author's, such as a type that is no state.
            InternalError: The probe itself does not work.
        """
        limits = limits or ProbeLimits()
        async with self._places:
            answer = await self._ask(version, name, limits)
        report = judge(answer, version, name, limits)
        seconds = {**report.seconds, "total": answer.seconds}
        return ProbeResult(
            ok=True,
            contract=report.contract,
            seconds=seconds,
            warnings=report.warnings,
            code=report.code,
            output=answer.output,
            patched=report.patched,
            changed=report.changed,
        )

    async def run_tests(
        self, version: Version, name: str, tests: TestRun, *, limits: ProbeLimits
    ) -> TestCounts:
        """Run a candidate's own tests in a child of its own.

        Args:
            version: The stored candidate.
            name: The module's name in the host.
            tests: Which tests.
            limits: What they may use.

        Raises:
            CheckError: A test failed, none was found, they did not end, or pytest is missing.
            InternalError: The probe itself does not work.
        """
        async with self._places:
            answer = await self._ask(version, name, limits, tests)
        return judge_tests(answer, version, name, tests, limits)

    async def close(self) -> None:
        """End the server and every examination under way; may be called twice."""
        self._closed = True
        async with self._starting:
            server, self._server = self._server, None
        if server is not None:
            await server.stop()

    async def _ask(
        self, version: Version, name: str, limits: ProbeLimits, tests: TestRun | None = None
    ) -> Examined:
        """Have a candidate examined; a server that dies meanwhile is replaced once."""
        server = await self._running_server()
        try:
            answer = await server.examine(version, name, limits, tests)
        except _ServerGoneError:
            pass
        else:
            self._share_imports(server, answer)
            return answer
        self._refuse_closed()
        # A server of its own: should this candidate kill servers, it kills no other's examination.
        server = await _Server.start(self._lanes)
        try:
            return await server.examine(version, name, limits, tests)
        except _ServerGoneError:
            raise SourceError(
                "the candidate ends the process that examines it",
                module=name,
                found="the probe's server was gone twice while it examined this candidate",
                expected="a module that touches no process but its own when it is imported",
                do="look for kill, killpg or prctl calls at import",
                location=version.entry_file,
            ) from None
        finally:
            await server.stop()

    async def _running_server(self) -> _Server:
        async with self._starting:
            self._refuse_closed()
            if self._server is None or self._server.gone:
                old, self._server = self._server, None
                if old is not None:
                    await old.stop()
                self._server = await _Server.start(self._lanes)
            return self._server

    def _refuse_closed(self) -> None:
        if self._closed:
            raise InternalError("the probe is closed", do="start the host again")

    def _share_imports(self, server: _Server, answer: Examined) -> None:
        if self._preload and answer.status == 0 and answer.report and not server.gone:
            imported = decode_report(answer.report).imported
            if imported:
                server.send(Preload(imported))


class _ServerGoneError(Exception):
    """The server's process ended or no longer answers."""


class _Server:
    """One life of the server's process."""

    def __init__(self, process: subprocess.Popen[bytes], noise: IO[bytes]) -> None:
        self.gone = False
        self._process = process
        self._noise = noise
        self._writer: asyncio.StreamWriter
        self._reading: asyncio.Task[None]
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting: dict[int, asyncio.Future[Examined]] = {}
        self._last_id = 0

    @classmethod
    async def start(cls, lanes: int) -> _Server:
        """Start a process and wait until it takes requests."""
        process, noise, end = await in_thread(_spawn, lanes)
        server = cls(process, noise)
        reader, server._writer = await asyncio.open_connection(sock=end)
        server._reading = asyncio.create_task(server._read(reader), name="replank-probe")
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                await server._ready
        except (TimeoutError, _ServerGoneError):
            said = await in_thread(server.last_words)
            await server.stop()
            raise InternalError(
                "the probe's process does not start",
                found=said or "nothing said",
                expected=f"a Python process at {sys.executable} within {_START_TIMEOUT_S:g} s",
                do="check the interpreter and the machine's memory and process limits",
            ) from None
        except BaseException:
            await server.stop()
            raise
        return server

    async def examine(
        self, version: Version, name: str, limits: ProbeLimits, tests: TestRun | None
    ) -> Examined:
        """Send a candidate and wait for what became of it.

        Raises:
            _ServerGoneError: The server went away first.
        """
        if self.gone:
            raise _ServerGoneError
        self._last_id += 1
        number = self._last_id
        waiting = self._waiting[number] = asyncio.get_running_loop().create_future()
        self.send(_request(number, version, name, limits, tests))
        try:
            async with asyncio.timeout(limits.seconds + _ANSWER_GRACE_S):
                answered: Examined = await waiting
                return answered
        except TimeoutError:
            # It should have killed the child long ago: it is stuck itself.
            self._fail()
            raise _ServerGoneError from None
        except asyncio.CancelledError:
            self.send(Cancel(number))
            raise
        finally:
            self._waiting.pop(number, None)

    def send(self, message: ToServer) -> None:
        """Send a message; what a dead server does not get is found out by its reader."""
        if not self.gone:
            self._writer.write(frame(message))

    def last_words(self) -> str:
        """Return the end of what the process wrote to its standard error."""
        self._noise.seek(0)
        return self._noise.read()[-2_000:].decode("utf-8", "replace").strip()

    async def stop(self) -> None:
        """End the process; it kills its children."""
        self._fail()
        self._reading.cancel()
        self._writer.close()
        with contextlib.suppress(asyncio.CancelledError, OSError):
            await self._reading
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()
        await in_thread(self._bury)

    def _bury(self) -> None:
        try:
            self._process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._noise.close()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while True:
                length = frame_length(await reader.readexactly(LENGTH_BYTES))
                self._take(msgspec.msgpack.decode(await reader.readexactly(length), type=ToHost))
        except (asyncio.IncompleteReadError, ConnectionError, ReplankError, msgspec.MsgspecError):
            self._fail()

    def _take(self, message: ToHost) -> None:
        if isinstance(message, Ready):
            if not self._ready.done():
                self._ready.set_result(None)
            return
        waiting = self._waiting.get(message.id)
        if waiting is not None and not waiting.done():
            waiting.set_result(message)

    def _fail(self) -> None:
        self.gone = True
        waits: list[asyncio.Future[Any]] = [self._ready, *self._waiting.values()]
        for one in waits:
            if not one.done():
                one.set_exception(_ServerGoneError())
                # Marked as seen: whoever waited may have given up meanwhile.
                one.exception()


def _spawn(lanes: int) -> tuple[subprocess.Popen[bytes], IO[bytes], socket.socket]:
    """Start the server's process; blocking, for a worker thread."""
    ours, theirs = socket.socketpair()
    noise = tempfile.TemporaryFile(prefix="replank-probe-")  # noqa: SIM115 - lives as long as it
    flags: list[str] = getattr(subprocess, "_args_from_interpreter_flags", list)()
    path = json.dumps([entry or os.getcwd() for entry in sys.path])  # noqa: PTH109 - a string
    try:
        with theirs:
            process = subprocess.Popen(
                [sys.executable, *flags, "-c", _BOOT, str(theirs.fileno()), path, str(lanes)],
                stdin=subprocess.DEVNULL,
                stdout=noise,
                stderr=noise,
                pass_fds=(theirs.fileno(),),
                # Ctrl-C in a terminal is the host's to handle: it drains, and may reload meanwhile.
                start_new_session=True,
            )
    except OSError as error:
        ours.close()
        noise.close()
        raise InternalError(
            "the probe's process cannot be started",
            found=str(error),
            do="check the machine's memory and process limits",
        ) from error
    ours.setblocking(False)
    return process, noise, ours


def _usual_lanes() -> int:
    """Return how many children are worth their fork: the host needs a processor, too."""
    processors = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    )
    return max(1, (processors or 1) // 2)


def _request(
    number: int, version: Version, name: str, limits: ProbeLimits, tests: TestRun | None
) -> Examine:
    return Examine(
        id=number,
        name=name,
        stored=Stored.of(version),
        cwd=os.getcwd(),  # noqa: PTH109 - a string is what goes over the wire
        sys_path=tuple(sys.path),
        argv=tuple(sys.argv),
        limits=limits,
        tests=tests,
    )


__all__ = ["Probe", "ProbeLimits", "ProbeResult", "TestCounts", "TestRun"]
