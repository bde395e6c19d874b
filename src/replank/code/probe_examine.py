"""Examine a candidate, in a process that exists only for that and may die of it.

Everything here runs in a child forked by the probe's server. It examines the next only when this
one has left no trace. Whatever the candidate does, exit, crash, loop, flood, the child is gone
afterwards and the server says how it ended.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import functools
import io
import math
import os
import resource
import signal
import sys
import sysconfig
import threading
import warnings
from collections.abc import Callable
from contextvars import copy_context
from pathlib import Path
from time import perf_counter
from types import ModuleType
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from replank.code.loader import LoadedCode, Loader
from replank.code.probe_ground import Ground
from replank.code.probe_tests import run_tests
from replank.code.probe_wire import (
    BROKEN_MARK,
    BROKEN_STATUS,
    LENGTH_BYTES,
    ChildReport,
    ErrorFacts,
    Examine,
    Verdict,
    frame_length,
    verdict_frame,
)
from replank.code.trace import explain
from replank.definition import Definition, describe_definition
from replank.errors import ModuleError, ReplankError
from replank.memory import data_bytes
from replank.reading import read_definition
from replank.verification.ownership import Owner
from replank.verification.patches import callables_now, imported_by, patched, untouched
from replank.verification.surroundings import Surroundings

WHERE_SIGNAL: Final = signal.SIGUSR2
"""Sent at the deadline: the child writes where it stands, then dies of it."""

_PR_SET_PDEATHSIG: Final = 1
_WARNINGS_MAX: Final = 20
_IMPORTED_MAX: Final = 2_000
_OF_LIBRARIES: Final = ("changes warnings.filters", "changes sys.meta_path", "changes gc.")
"""What importing a library does often and rightly."""

T = TypeVar("T")


class Ends(NamedTuple):
    """The child's ends of the pipes between it and its server."""

    report: int
    """Where what it has found is written."""
    output: int
    """Where what the candidate prints goes."""
    fault: int
    """Where `faulthandler` writes."""
    orders: int
    """Where the candidates are read that follow."""


def examine_and_exit(request: Examine, ends: Ends) -> None:
    """Examine the candidate, write the report and end this process; never returns.

    While each candidate leaves no trace, those are examined that follow.

    Args:
        request: What to examine, and under which limits.
        ends: The pipes to the server.
    """
    born = os.getpid()
    leave = os._exit
    following: Examine | None = request
    try:
        _settle(request, ends.output, ends.fault)
        while following is not None:
            _limit(following)
            if following.tests is not None:
                verdict = _verdict(run_tests(following, following.tests, ends.fault), waits=False)
            else:
                ground = Ground.now()
                report, plain = copy_context().run(_examine, following)
                verdict = _verdict(report, waits=plain and ground.is_as_it_was())
            if os.getpid() != born:
                # A candidate that forked at import has a copy of us; only the first one reports.
                break
            _lift_memory_limit()
            _write_all(ends.report, verdict_frame(verdict))
            _flush()
            following = _next(ends.orders) if verdict.waits else None
    except BaseException as error:
        # Nothing may unwind into the server's loop, of which this process holds a copy.
        with contextlib.suppress(BaseException):
            os.write(ends.fault, f"{BROKEN_MARK}{type(error).__name__}: {error}\n".encode())
        leave(BROKEN_STATUS)
    leave(0)


def _verdict(report: ChildReport, *, waits: bool) -> Verdict:
    return Verdict(msgspec.msgpack.encode(report), waits)


def _next(orders: int) -> Examine | None:
    """Wait for the next candidate; None when there is none."""
    length = _read_exactly(orders, LENGTH_BYTES)
    body = _read_exactly(orders, frame_length(length)) if length else b""
    return msgspec.msgpack.decode(body, type=Examine) if body else None


def _read_exactly(fd: int, count: int) -> bytes:
    """Read so many bytes; nothing when the stream ends before."""
    data = b""
    while len(data) < count:
        more = os.read(fd, count - len(data))
        if not more:
            return b""
        data += more
    return data


def _settle(request: Examine, output_fd: int, fault_fd: int) -> None:
    """Make this process the candidate's own: streams, signals, limits, folder, path."""
    os.setsid()
    _die_with_parent()
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(output_fd, 1)
    os.dup2(output_fd, 2)
    # New ones: those of the server still believe in the file that their descriptors were.
    sys.stdout = _text_stream(1)
    sys.stderr = _text_stream(2)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    faulthandler.enable(file=fault_fd)
    for number in (WHERE_SIGNAL, signal.SIGTERM, signal.SIGXCPU):
        # Chained: when all is written the signal ends the process, so nothing is cut off.
        signal.signal(number, signal.SIG_DFL)
        faulthandler.register(number, file=fault_fd, chain=True)
    _tell_before_leaving(fault_fd)
    os.chdir(request.cwd)
    sys.path[:] = request.sys_path
    sys.argv[:] = request.argv


def _text_stream(fd: int) -> io.TextIOWrapper:
    raw = io.FileIO(fd, "w", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw), encoding="utf-8", errors="backslashreplace", line_buffering=True
    )


def _die_with_parent() -> None:
    if sys.platform == "linux":
        # Were the server killed, an endless candidate would live on with nobody to end it.
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _tell_before_leaving(fault_fd: int) -> None:
    """Let `os._exit` and a kill by its own hand leave a traceback, as a crash does."""
    leave, kill = os._exit, os.kill

    def _exit(status: int) -> None:
        faulthandler.dump_traceback(file=fault_fd)
        _flush()
        leave(status)

    def kill_noted(pid: int, number: int) -> None:
        if pid == os.getpid():
            faulthandler.dump_traceback(file=fault_fd)
        kill(pid, number)

    os._exit = _exit  # type: ignore[assignment]
    os.kill = kill_noted


def _limit(request: Examine) -> None:
    # Only soft limits: the child lifts the memory limit again to be able to write its report.
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError, ValueError):
        # A backstop only: the server's deadline is in wall-clock time and comes first.
        used = resource.getrusage(resource.RUSAGE_SELF)
        seconds = math.ceil(used.ru_utime + used.ru_stime + request.limits.seconds) + 2
        hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, hard))
    with contextlib.suppress(OSError, ValueError):
        # Data, not address space: allocators and GPU libraries reserve far more than they use.
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        limit = data_bytes() + request.limits.memory_bytes
        resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


def _lift_memory_limit() -> None:
    with contextlib.suppress(OSError, ValueError):
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))


def _examine(request: Examine) -> tuple[ChildReport, bool]:
    """Examine a candidate; return what it is, and whether it seems to have left no trace."""
    before = set(sys.modules)
    threads = threading.active_count()
    seconds: dict[str, float] = {}
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("default")
        names = imported_by(_sources(request))
        callables, around = callables_now(names), Surroundings.now()
        try:
            loaded = _timed(
                seconds, "load", lambda: Loader().load(request.version, request.name, 0)
            )
            definition = _timed(seconds, "define", lambda: _define(loaded, request))
            _timed(seconds, "construct", lambda: _construct(definition, loaded, request))
        except ReplankError as error:
            _lift_memory_limit()
            return ChildReport(ok=False, seconds=seconds, error=_facts(error, request)), False
        patches = patched(names, callables, Owner([loaded.private_name]))
        changed = [f"replaces {one}" for one in patches]
        changed += [f"changes {one.text}" for one in around.changes(Surroundings.now())]
        doubtful = _timed(seconds, "compile", loaded.compile_rest)
        started = threading.active_count() - threads
    notes = [*_warning_lines(warned, request), *doubtful]
    if started > 0:
        changed.append(f"starts {started} thread(s)")
        notes.append(f"starts {started} thread(s) at import; start them in on_start instead")
    notes += [f"replaces {one} at import, for the whole process" for one in patches]
    report = ChildReport(
        ok=True,
        contract=describe_definition(definition),
        seconds=seconds,
        warnings=tuple(notes[:_WARNINGS_MAX]),
        code=loaded.compiled(),
        # What starts threads must not be imported by the server: a fork would lose them.
        imported=() if started > 0 else _installed(set(sys.modules) - before),
        patched=patches,
        changed=tuple(one for one in changed if not one.startswith(_OF_LIBRARIES)),
    )
    plain = not (warned or notes or changed)
    if plain:
        loaded.unload()
        plain = untouched(names, callables)
    return report, plain


def _sources(request: Examine) -> list[str]:
    root = Path(request.stored.root)
    files = [root / name for name in request.stored.files if name.endswith(".py")]
    return [file.read_text("utf-8", "replace") for file in files]


def _timed(seconds: dict[str, float], step: str, run: Callable[[], T]) -> T:
    begun = perf_counter()
    try:
        return run()
    finally:
        seconds[step] = perf_counter() - begun


def _define(loaded: LoadedCode, request: Examine) -> Definition:
    try:
        return read_definition(loaded.module, request.name)
    except BaseException as error:
        doing = "the module's definition could not be read"
        raise _explained(error, loaded, request, doing) from None


def _construct(definition: Definition, loaded: LoadedCode, request: Examine) -> Any:
    try:
        return definition.construct(loaded.module)
    except BaseException as error:
        raise _explained(error, loaded, request, "the constructor raised") from None


def _explained(
    error: BaseException, loaded: LoadedCode, request: Examine, doing: str
) -> ModuleError:
    return explain(error, request.version, request.name, loaded.private_name, doing=doing)


def _facts(error: ReplankError, request: Examine) -> ErrorFacts:
    expected = error.expected
    if error.found and error.found.startswith("MemoryError"):
        mebibytes = request.limits.memory_bytes // (1024 * 1024)
        expected = f"at most {mebibytes} MiB of memory while it is imported and constructed"
    return ErrorFacts(
        kind=error.kind,
        what=error.what,
        module=error.module,
        found=error.found,
        expected=expected,
        do=error.do,
        location=error.location,
        traceback=getattr(error, "candidate_traceback", ""),
    )


def _warning_lines(warned: list[warnings.WarningMessage], request: Examine) -> list[str]:
    root = f"{request.stored.root}/"
    lines = [
        f"{one.filename.removeprefix(root)}:{one.lineno} {one.category.__name__}: {one.message}"
        for one in warned
        if one.filename.startswith(root)
    ]
    # The compiler sees the body of a call twice: once as its method, once as its entry.
    return list(dict.fromkeys(lines))


def _installed(names: set[str]) -> tuple[str, ...]:
    """Keep the modules that lie among installed packages: those do not change under our feet."""
    folders = installed_folders()
    kept = []
    for name in sorted(names):
        module = sys.modules.get(name)
        file = module.__dict__.get("__file__") if isinstance(module, ModuleType) else None
        if isinstance(file, str) and file.startswith(folders):
            kept.append(name)
    return tuple(kept[:_IMPORTED_MAX])


@functools.cache
def installed_folders() -> tuple[str, ...]:
    """Return where installed packages lie; asked by the server too, so that no child has to look.

    Python reads all its build settings for this, which is a tenth of an examination.
    """
    paths = sysconfig.get_paths()
    return tuple(f"{paths[one]}{os.sep}" for one in ("stdlib", "platstdlib", "purelib", "platlib"))


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(BaseException):
            stream.flush()


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


__all__ = ["WHERE_SIGNAL", "Ends", "examine_and_exit", "installed_folders"]
