"""One host for one data directory: a second one is refused with the owner's pid."""

from __future__ import annotations

import contextlib
import fcntl
import os
import weakref
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from replank.errors import DataDirBusy, StorageError

LOCK_FILE: Final = "lock"


class DataDirLock:
    """Hold a data directory for this process, from `acquire` to `release`.

    The lock belongs to the open file, so that the kernel lets go of it however the process ends.

    Args:
        data_dir: The folder; made, for its owner only, when it is missing.
    """

    __slots__ = ("__weakref__", "_fd", "data_dir")

    def __init__(self, data_dir: str | os.PathLike[str]) -> None:
        self.data_dir = Path(data_dir)
        self._fd: int | None = None

    @property
    def held(self) -> bool:
        """Whether this process holds the directory through this object."""
        return self._fd is not None

    def acquire(self) -> Self:
        """Take the directory.

        Raises:
            DataDirBusy: Another host holds it.
            StorageError: The folder or the file cannot be made or locked.
        """
        assert self._fd is None, "a lock is acquired once"
        path = self.data_dir / LOCK_FILE
        try:
            self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StorageError(
                f"the data directory {self.data_dir} cannot be used",
                found=error.strerror or str(error),
                expected="a folder in which this user may write",
                do="choose another with --data-dir, or correct its owner and mode",
            ) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            raise self._busy() from None
        except OSError as error:
            os.close(fd)
            raise StorageError(
                f"the data directory {self.data_dir} cannot be locked",
                found=error.strerror or str(error),
                do="choose a folder on a local disk with --data-dir",
            ) from error
        try:
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            os.close(fd)  # or this process would hold the directory until it ends
            raise StorageError(
                f"the data directory {self.data_dir} cannot be written",
                found=error.strerror or str(error),
                expected="a disk with room, on which this user may write",
                do="make room, or choose another folder with --data-dir",
            ) from error
        self._fd = fd
        _held.add(self)
        return self

    def release(self) -> None:
        """Let go of the directory; does nothing when it is not held."""
        if self._fd is not None:
            # The file stays: removing it would let a third host lock a file nobody else sees.
            with contextlib.suppress(OSError):  # the pid in it only serves a message
                os.ftruncate(self._fd, 0)
            os.close(self._fd)
            self._fd = None
            _held.discard(self)

    def __enter__(self) -> Self:
        """Acquire."""
        return self.acquire()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Release."""
        self.release()

    def _busy(self) -> DataDirBusy:
        owner = read_owner(self.data_dir)
        return DataDirBusy(
            f"another host uses the data directory {self.data_dir}",
            found=f"pid {owner}" if owner else "an owner that did not write its pid yet",
            do="stop that host, or give this one its own with --data-dir",
        )

    def _forget_in_child(self) -> None:
        """Close a forked child's copy: it would hold the directory after the host has ended."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def read_owner(data_dir: str | os.PathLike[str]) -> int | None:
    """Return the pid that the holder of a data directory wrote, if any.

    Args:
        data_dir: The folder.
    """
    try:
        return int((Path(data_dir) / LOCK_FILE).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


_held: Final[weakref.WeakSet[DataDirLock]] = weakref.WeakSet()


def _forget_all_in_child() -> None:
    for lock in list(_held):
        lock._forget_in_child()


os.register_at_fork(after_in_child=_forget_all_in_child)

__all__ = ["LOCK_FILE", "DataDirLock", "read_owner"]
