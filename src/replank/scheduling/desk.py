"""What a program may ask of the schedule: the part of `Host` that deals with times."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Final

from replank.config import Config
from replank.coordinator.slot import Routes
from replank.errors import JournalError, UsageError
from replank.instrumentation.events import Bus, Warned
from replank.report import ReloadReport
from replank.scheduling.agenda import Agenda
from replank.scheduling.clock import Clock
from replank.scheduling.entries import Entry, Priority, Scheduled, Wishes, entry_of
from replank.scheduling.moments import next_of_cron, read_moment
from replank.scheduling.policies import Policies
from replank.scheduling.remembered import SCHEDULE_FILE, Remembrance, ScheduleFile
from replank.scheduling.scheduler import ReloadScheduler, Request, Target

RECENT: Final = 100
"""Reloads of the history that the rate limit counts after a restart."""

What = str | Iterable[str] | Mapping[str, str | os.PathLike[str] | None]


class ScheduleDesk:
    """The agenda with its file.

    Args:
        scheduler: Runs reloads.
        routes: Knows which modules are tied, and their traffic.
        bus: Is told what waits.
        config: Hours and limits.
        data_dir: Where the file lies.
        clock: What time it is.
    """

    def __init__(
        self,
        scheduler: ReloadScheduler,
        routes: Routes,
        bus: Bus,
        config: Config,
        data_dir: Path,
        clock: Clock,
    ) -> None:
        self._routes = routes
        self._bus = bus
        self._left = Remembrance()
        policies = Policies(config, lambda name: routes.slot(name).gate.calls)
        self.agenda = Agenda(scheduler, policies, routes.tied_to, clock, bus)
        self._file = ScheduleFile(
            data_dir / SCHEDULE_FILE,
            self._remembrance,
            self._not_saved,
            busy_timeout_s=config.storage.busy_timeout_s,
        )

    async def load(self) -> None:
        """Read what an earlier life has left, before anything is started.

        Raises:
            JournalError: The file cannot be used.
        """
        self._left = await self._file.load()

    def start(self, history: Iterable[ReloadReport] = ()) -> None:
        """Take up what was read, once the modules serve.

        Args:
            history: The last reloads, newest first: the rate limit counts them.
        """
        for report in reversed(tuple(history)):
            if report.started_at and report.reason != "start":
                at = datetime.fromisoformat(report.started_at).timestamp()
                self.agenda.policies.begin(frozenset(one.name for one in report.modules), at)
        left, known = self._left, self._routes.slots.keys()
        entries = [entry_of(one) for one in left.entries if known >= set(one.modules)]
        self.agenda.restore(entries, left.paused, left.last_number)
        self.agenda.on_change = self._file.save_soon
        if lost := len(left.entries) - len(entries):
            text = f"{lost} scheduled reloads are forgotten: their modules are not configured"
            self._bus.publish(Warned(text=text))
            self._file.save_soon()

    async def stop(self) -> None:
        """Take no more requests; those that are durable stay on the disk."""
        self.agenda.on_change = lambda: None
        await self.agenda.stop()

    async def close(self) -> None:
        """Close the file."""
        await self._file.close()

    async def add(self, targets: Mapping[str, Target], reason: str, wishes: Wishes) -> Scheduled:
        """Take a request that survives a restart; it is on the disk on return."""
        entry = self.agenda.add(Request(targets, reason), wishes, durable=True)
        try:
            await self._file.save()
        except JournalError:
            if entry.standing == "waiting":
                self.agenda.cancel(entry.id)
            raise
        return entry.record()

    async def save(self) -> None:
        """Have what is true now on the disk."""
        await self._file.save()

    def wishes(
        self,
        *,
        priority: Priority = "normal",
        at: datetime | str | None = None,
        after_s: float | None = None,
        cron: str | None = None,
        quiet_wait_s: float | None = None,
        retries: int | None = None,
    ) -> Wishes:
        """Return wishes from what a program or an operator said.

        Raises:
            UsageError: They contradict each other, or cannot be read.
        """
        if sum(one is not None for one in (at, after_s, cron)) > 1:
            raise UsageError(
                "a reload has one time", expected="one of a time, a delay and a cron line"
            )
        if after_s is not None and not 0 <= after_s < 1e9:  # noqa: PLR2004 - 30 years
            raise UsageError("a delay cannot be that", found=f"{after_s} s", expected="seconds")
        now = self.agenda.clock.now()
        zone = self.agenda.policies.hours("").zone
        due = None
        if at is not None:
            due = read_moment(at, now, zone)
        elif after_s is not None:
            due = now + after_s
        elif cron is not None:
            due = next_of_cron(cron, now, zone)
        return Wishes(priority, due, cron, quiet_wait_s, retries)

    def _remembrance(self) -> Remembrance:
        return Remembrance(
            entries=tuple(one.record() for one in self.agenda.waiting() if _is_kept(one)),
            paused=tuple(sorted(self.agenda.policies.paused)),
            last_number=self.agenda.last_number,
        )

    def _not_saved(self, error: BaseException) -> None:
        self._bus.publish(Warned(text=f"the schedule was not saved: {error}"))


def _is_kept(entry: Entry) -> bool:
    return entry.durable


__all__ = ["RECENT", "ScheduleDesk", "What"]
