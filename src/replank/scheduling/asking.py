"""`host.schedule`, `host.scheduled` and so on: what `Host` inherits."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import datetime
from pathlib import Path

from replank.config import Config
from replank.coordinator.slot import Routes
from replank.errors import UsageError
from replank.instrumentation.events import Bus
from replank.scheduling.desk import ScheduleDesk, What
from replank.scheduling.entries import Priority, Scheduled
from replank.scheduling.scheduler import Target
from replank.scheduling.ticket import Ticket
from replank.scheduling.watch import Watched, Watcher


class SchedulesReloads:
    """Reloads at a time, again and again, or when it suits; they survive a restart."""

    config: Config
    bus: Bus
    _desk: ScheduleDesk
    _routes: Routes
    _watchers: list[Watcher]

    async def schedule(
        self,
        what: What,
        *,
        at: datetime | str | None = None,
        after_s: float | None = None,
        cron: str | None = None,
        priority: Priority = "normal",
        quiet_wait_s: float | None = None,
        retries: int | None = None,
        reason: str = "schedule",
    ) -> Scheduled:
        """Have modules reloaded later, as one transaction; returns when it is on the disk.

        A request whose time passes while no host runs is done at the next start; one with a cron
        line waits for its next time. How it ended is in `scheduled()` and in the history.

        Args:
            what: As for `reload`; sources are read when the time has come.
            at: When: a datetime, ISO 8601, or a time of day such as "22:30".
            after_s: When: seconds from now.
            cron: Again and again: minute, hour, day of month, month, day of week.
            priority: "low", "normal", "high" or "critical"; the last passes over every policy.
            quiet_wait_s: Seconds to wait for quiet traffic at most, when the time has come.
            retries: How often to try again when busy calls or the disk stopped it.
            reason: Who or what asked, for the history.

        Raises:
            UnknownModule: There is no such module.
            UsageError: The time cannot be read, or is past.
            JournalError: It could not be written; it is not scheduled then.
        """
        targets = self._targets(what)
        wishes = self._desk.wishes(
            at=at,
            after_s=after_s,
            cron=cron,
            priority=priority,
            quiet_wait_s=quiet_wait_s,
            retries=retries,
        )
        return await self._desk.add(targets, reason, wishes)

    def scheduled(self) -> tuple[Scheduled, ...]:
        """Return every request that waits or runs, soonest first, then the last ones answered."""
        agenda = self._desk.agenda
        return (*(one.record() for one in agenda.waiting()), *agenda.answered())

    def paused(self) -> tuple[str, ...]:
        """Return the modules whose reloads are paused; "*" stands for all."""
        return tuple(sorted(self._desk.agenda.policies.paused))

    async def cancel_scheduled(self, request_id: str) -> Scheduled:
        """Forget a request that has not been taken up; whoever waits for it is told.

        Args:
            request_id: Such as "s12".

        Raises:
            UsageError: There is none, or it runs already.
        """
        record = self._desk.agenda.cancel(request_id)
        await self._desk.save()
        return record

    async def pause_reloads(self, *names: str) -> None:
        """Let all requests but critical ones wait until `resume_reloads`, also over a restart.

        Args:
            names: Modules; none for all.

        Raises:
            UnknownModule: There is no such module.
        """
        self._known(names)
        self._desk.agenda.pause(names)
        await self._desk.save()

    async def resume_reloads(self, *names: str) -> None:
        """Let requests go on.

        Args:
            names: Modules; none for all.

        Raises:
            UnknownModule: There is no such module.
            UsageError: All reloads are paused, and one module cannot be taken out of that.
        """
        self._known(names)
        if names and "*" in self._desk.agenda.policies.paused:
            raise UsageError("all reloads are paused", do="resume all: name no module")
        self._desk.agenda.resume(names)
        await self._desk.save()

    async def watch(self, *names: str) -> Watcher:
        """Reload modules whenever their sources change, until the host or the watcher stops.

        Sources count by their content; those of tied modules that change together are one
        transaction. `SourcesNoticed` events say what is done, and why nothing is done.

        Args:
            names: Modules; none for all.

        Returns:
            The watcher, which watches already; sources that differ from what serves are reloaded.

        Raises:
            UnknownModule: There is no such module.
        """
        self._known(names)
        slots = self._routes.slots
        watched = Watched(
            sources={name: slots[name].source for name in names or slots},
            serving=lambda name: self._routes.current(name).version.digest,
            reload=lambda together: self.reload(together, reason="watch"),
            tied_to=self._routes.tied_to,
            others=self._others_to_watch(),
        )
        watcher = Watcher(watched, self.bus, self.config.watch)
        await watcher.start()
        self._watchers.append(watcher)
        return watcher

    def _others_to_watch(self) -> dict[Path, Callable[[], Awaitable[None]]]:
        """Return more files, with what to do when one of them changes."""
        return {}

    def _known(self, names: Iterable[str]) -> None:
        if names:
            self._targets(names)

    def reload(self, what: What, *, reason: str = "call") -> Ticket:
        """See `Host.reload`."""
        raise NotImplementedError

    def _targets(
        self, what: str | Iterable[str] | Mapping[str, str | os.PathLike[str] | None]
    ) -> dict[str, Target]:
        raise NotImplementedError


__all__ = ["SchedulesReloads"]
