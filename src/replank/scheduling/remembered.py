"""What must survive a restart of the schedule: open requests and what is paused, in one value."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from replank.errors import JournalError
from replank.journal.embedded import EmbeddedPort
from replank.scheduling.entries import Scheduled
from replank.threads import in_thread

SCHEDULE_FILE: Final = "schedule.sqlite"
_KEY: Final = "schedule"


class Remembrance(msgspec.Struct, frozen=True, kw_only=True):
    """What is written."""

    entries: tuple[Scheduled, ...] = ()
    paused: tuple[str, ...] = ()
    last_number: int = 0


class ScheduleFile:
    """Keep a remembrance behind the port's keys; the file is made when there is something to keep.

    Args:
        path: The file.
        gather: Returns what is true now.
        on_failure: Is told what could not be written in the background.
        busy_timeout_s: Seconds to wait for another program that reads the file.
    """

    def __init__(
        self,
        path: Path,
        gather: Callable[[], Remembrance],
        on_failure: Callable[[BaseException], None],
        *,
        busy_timeout_s: float,
    ) -> None:
        self._path = path
        self._gather = gather
        self._on_failure = on_failure
        self._port = EmbeddedPort(path, busy_timeout_s=busy_timeout_s)
        self._is_open = False
        self._version = 0
        self._saved = Remembrance()
        self._saving = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    async def load(self) -> Remembrance:
        """Return what an earlier life has left.

        Raises:
            JournalError: The file is corrupt, newer than this program, or another program's.
        """
        if not self._path.exists():
            return self._saved
        await self._open()
        value = await self._port.get(_KEY)
        if value is not None:
            self._version = value.version
            try:
                self._saved = msgspec.json.decode(value.data, type=Remembrance)
            except msgspec.MsgspecError as error:
                raise JournalError(
                    f"the schedule {self._path} cannot be read",
                    found=str(error),
                    do="move the file away, and schedule the reloads again",
                ) from error
        return self._saved

    def save_soon(self) -> None:
        """Write what is true now, without anybody waiting for it."""
        task = asyncio.create_task(self._save_quietly(), name="save the schedule")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def save(self) -> None:
        """Write what is true now; on the disk on return.

        Raises:
            JournalError: It could not be written.
        """
        async with self._saving:
            wanted = self._gather()
            if wanted == self._saved:
                return
            if not self._is_open:
                await self._open()
            data = msgspec.json.encode(wanted)
            version = await self._port.compare_and_set(_KEY, self._version, data)
            if version is None:
                raise JournalError(
                    f"the schedule {self._path} was changed by another program",
                    do="stop it: one host owns a data directory",
                )
            self._version, self._saved = version, wanted

    async def close(self) -> None:
        """Write what is true now and close; closing twice does no harm."""
        if self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._is_open:
            self._is_open = False
            await self._port.close()

    async def _open(self) -> None:
        await in_thread(self._port.open)
        self._is_open = True

    async def _save_quietly(self) -> None:
        try:
            await self.save()
        except Exception as error:  # whoever asked has gone on: the operator is told
            self._on_failure(error)


__all__ = ["SCHEDULE_FILE", "Remembrance", "ScheduleFile"]
