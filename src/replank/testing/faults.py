"""Make the disk fail, or the process die, at the k-th thing that is put on the disk.

A program that must survive a full disk or a kill -9 is tested by counting, not by luck: run it once
under `DiskFaults` and read `operations`; then run it again for every k, and have the k-th fail.

    with DiskFaults(folder) as disk:
        async with Host({"ledger": "ledger.py"}, data_dir=folder) as host:
            disk.fail(at=3)                      # the third operation from now on: disk full
            report = await host.reload("ledger")
            disk.heal()

Only what goes below `folder` is seen: files opened for writing, each piece written, fsync, rename,
new and removed files and folders, and every statement that an SQLite database there executes, apart
from those that only read. A database counts only when it was opened while the faults were entered.
"""

from __future__ import annotations

import builtins
import contextlib
import enum
import errno
import io
import os
import signal
import sqlite3
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self
from unittest import mock
from urllib.parse import unquote, urlsplit

from replank.errors import UsageError


class Kind(enum.StrEnum):
    """What an operation does to the disk."""

    OPEN = "open"
    WRITE = "write"
    FSYNC = "fsync"
    RENAME = "rename"
    MAKE = "make"
    REMOVE = "remove"
    SQLITE = "sqlite"


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing that was about to be put on the disk; `number` counts from 1."""

    number: int
    kind: Kind
    what: str
    """A file name, or the beginning of a statement."""

    def __str__(self) -> str:
        return f"#{self.number} {self.kind} {self.what}"


When = Literal["before", "half", "after"]
"""A half of a write is its first bytes; of everything else, nothing."""
Act = Callable[[Operation], None]


@dataclass(frozen=True, slots=True)
class _Fault:
    first: int
    lasting: bool
    when: When
    kinds: frozenset[Kind]
    act: Act


class DiskFaults:
    """See what goes to the disk below a folder, and let chosen operations fail.

    Use it as a context manager; one at a time. Any thread may be at work below the folder.

    Attributes:
        operations: What was seen since it was entered, or since the last `fail`, `die` or `heal`.
        hits: How often a fault has happened.

    Args:
        folder: The data directory.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = os.path.realpath(folder)
        self.operations: list[Operation] = []
        self.hits = 0
        self._fault: _Fault | None = None
        self._lock = threading.Lock()
        self._hooks = contextlib.ExitStack()

    def __enter__(self) -> Self:
        for owner, name, hook in _hooks_of(self):
            self._hooks.enter_context(mock.patch.object(owner, name, hook))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.heal()
        self._hooks.close()

    def fail(
        self,
        at: int = 1,
        *,
        code: int = errno.ENOSPC,
        lasting: bool = False,
        when: When = "before",
        kinds: frozenset[Kind] = frozenset(Kind),
    ) -> None:
        """Have the k-th operation from now on fail as the operating system or SQLite would.

        Args:
            at: Which, counted from 1.
            code: `errno.ENOSPC`, `errno.EIO` or another.
            lasting: Whether all later ones fail too, until `heal`.
            when: Whether none, half or all of it is done first; after "after" the caller cannot
                know that it was done.
            kinds: Only these are counted and fail.
        """

        def act(operation: Operation) -> None:
            raise _error(operation, code)

        self._arm(_Fault(at, lasting, when, kinds, act))

    def die(self, at: int = 1, *, when: When = "before") -> None:
        """Have this process killed at the k-th operation from now on, as by kill -9.

        Args:
            at: Which, counted from 1.
            when: Whether none, half or all of it is done first.
        """

        def act(_: Operation) -> None:
            os.kill(os.getpid(), signal.SIGKILL)

        self._arm(_Fault(at, lasting=False, when=when, kinds=frozenset(Kind), act=act))

    def heal(self) -> None:
        """End the fault, and count from 1 again."""
        self._arm(None)

    def _arm(self, fault: _Fault | None) -> None:
        if fault is not None and fault.first < 1:
            raise UsageError("operations are counted from 1", found=str(fault.first))
        with self._lock:
            self._fault = fault
            self.operations.clear()
            if fault is not None:
                self.hits = 0

    def _does(
        self,
        kind: Kind,
        what: str,
        action: Callable[[], Any],
        half: Callable[[], Any] | None = None,
    ) -> Any:
        """Note an operation and do it, unless it is its turn to fail."""
        with self._lock:
            fault = self._fault
            counted = fault is None or kind in fault.kinds
            operation = Operation(len(self.operations) + 1, kind, what)
            if counted:
                self.operations.append(operation)
            due = fault is not None and counted and _is_due(fault, operation.number)
            self.hits += due
        if fault is None or not due:
            return action()
        if fault.when == "half" and half is not None:
            half()
        result = action() if fault.when == "after" else None
        if kind is Kind.OPEN and result is not None:
            _close(result)  # the file is there; nobody gets hold of it
        fault.act(operation)
        return result

    def _name(self, path: Any) -> str | None:
        """Return the name below the folder of a path or open file, or None when it is elsewhere."""
        try:
            if isinstance(path, int):
                full = str(Path(f"/proc/self/fd/{path}").readlink())
            else:
                full = os.path.realpath(os.fsdecode(path))
        except (OSError, TypeError, ValueError):
            return None
        if full != self.folder and not full.startswith(self.folder + os.sep):
            return None
        return os.path.relpath(full, self.folder)


def _is_due(fault: _Fault, number: int) -> bool:
    return number >= fault.first if fault.lasting else number == fault.first


def _close(opened: Any) -> None:
    if isinstance(opened, int):
        os.close(opened)
    else:
        opened.close()


def _error(operation: Operation, code: int) -> Exception:
    if operation.kind is not Kind.SQLITE:
        return OSError(code, os.strerror(code), operation.what)
    full = code in (errno.ENOSPC, errno.EDQUOT)
    error = sqlite3.OperationalError("database or disk is full" if full else "disk I/O error")
    error.sqlite_errorname = "SQLITE_FULL" if full else "SQLITE_IOERR"
    return error


# -- the hooks: each looks whether the path is ours, and otherwise does what was there before ------


def _hooks_of(faults: DiskFaults) -> Iterator[tuple[Any, str, Callable[..., Any]]]:
    for name, kind in _BY_NAME.items():
        yield os, name, _hook(faults, kind, getattr(os, name))
    yield os, "open", _low_opener(faults, os.open)
    opened = _opener(faults, builtins.open)
    yield builtins, "open", opened
    yield io, "open", opened
    yield sqlite3, "connect", _connector(faults, sqlite3.connect)


_BY_NAME: Final = {
    "fsync": Kind.FSYNC,
    "rename": Kind.RENAME,
    "replace": Kind.RENAME,
    "mkdir": Kind.MAKE,
    "unlink": Kind.REMOVE,
    "remove": Kind.REMOVE,
    "rmdir": Kind.REMOVE,
    "ftruncate": Kind.WRITE,
    "pwrite": Kind.WRITE,
    "write": Kind.WRITE,
}


def _hook(faults: DiskFaults, kind: Kind, original: Callable[..., Any]) -> Callable[..., Any]:
    def hook(path: Any, *args: Any, **kwargs: Any) -> Any:
        name = faults._name(path)
        if name is None:
            return original(path, *args, **kwargs)
        return faults._does(kind, name, lambda: original(path, *args, **kwargs))

    return hook


def _low_opener(faults: DiskFaults, original: Callable[..., int]) -> Callable[..., int]:
    def hook(path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
        writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        name = faults._name(path) if writes else None
        if name is None:
            return original(path, flags, *args, **kwargs)
        fd: int = faults._does(Kind.OPEN, name, lambda: original(path, flags, *args, **kwargs))
        return fd

    return hook


class _CountedFile(io.FileIO):
    """A file whose every piece is one operation: the buffer above it writes as much as it has."""

    faults: DiskFaults
    label: str

    def write(self, data: Any) -> int:
        """Write a piece."""
        write = super().write
        written: int = self.faults._does(
            Kind.WRITE,
            self.label,
            lambda: write(data),
            lambda: write(memoryview(data)[: len(data) // 2]),
        )
        return written


def _opener(faults: DiskFaults, original: Callable[..., Any]) -> Callable[..., Any]:
    def hook(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        name = faults._name(file) if set(mode) & set("wxa+") else None
        if name is None:
            return original(file, mode, *args, **kwargs)
        if "b" not in mode or "+" in mode:
            return faults._does(Kind.OPEN, name, lambda: original(file, mode, *args, **kwargs))
        raw: _CountedFile = faults._does(
            Kind.OPEN, name, lambda: _CountedFile(file, mode.replace("b", ""))
        )
        raw.faults, raw.label = faults, name
        return io.BufferedWriter(raw)

    return hook


class _CountedConnection(sqlite3.Connection):
    """A connection whose every statement that can write is one operation."""

    faults: DiskFaults

    def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
        """Execute one statement."""
        execute = super().execute
        return self._counted(sql, lambda: execute(sql, *args))

    def executemany(self, sql: str, *args: Any) -> sqlite3.Cursor:
        """Execute one statement many times."""
        executemany = super().executemany
        return self._counted(sql, lambda: executemany(sql, *args))

    def executescript(self, sql: str, /) -> sqlite3.Cursor:
        """Execute several statements."""
        executescript = super().executescript
        return self._counted(sql, lambda: executescript(sql))

    def _counted(self, sql: str, action: Callable[[], sqlite3.Cursor]) -> sqlite3.Cursor:
        words = sql.split(None, 3)
        # A rollback writes nothing either: what was written so far lies behind the log's end.
        if words[0].upper() in ("SELECT", "PRAGMA", "ROLLBACK"):
            return action()
        cursor: sqlite3.Cursor = self.faults._does(Kind.SQLITE, " ".join(words[:3]), action)
        return cursor


def _connector(faults: DiskFaults, original: Callable[..., Any]) -> Callable[..., Any]:
    def hook(database: Any, *args: Any, **kwargs: Any) -> Any:
        text = os.fsdecode(database)
        path = Path(unquote(urlsplit(text).path) if text.startswith("file:") else text)
        if faults._name(path) is None:
            return original(database, *args, **kwargs)
        connection = original(database, *args, factory=_CountedConnection, **kwargs)
        connection.faults = faults
        return connection

    return hook


__all__ = ["DiskFaults", "Kind", "Operation"]
