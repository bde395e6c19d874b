"""What `Client` can ask of a host's schedule and configuration."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from replank.control.schedule_routes import (
    CancelRequest,
    PauseRequest,
    Schedule,
    ScheduleRequest,
)
from replank.live_config import ConfigReport
from replank.scheduling.entries import Priority, Scheduled

T = TypeVar("T")
What = str | Iterable[str] | Mapping[str, str | os.PathLike[str] | None]


class AsksSchedule:
    """The schedule's part of a client."""

    def schedule(
        self,
        what: What,
        *,
        at: str | None = None,
        after_s: float | None = None,
        cron: str | None = None,
        priority: Priority = "normal",
        quiet_wait_s: float | None = None,
        retries: int | None = None,
    ) -> Scheduled:
        """Have modules reloaded later; see `Host.schedule`."""
        body = ScheduleRequest(
            modules=modules_of(what),
            at=at,
            after_s=after_s,
            cron=cron,
            priority=priority,
            quiet_wait_s=quiet_wait_s,
            retries=retries,
            reason="cli",
        )
        return self._post("/control/schedule", body, Scheduled)

    def scheduled(self) -> Schedule:
        """Return what waits, what was answered last, and what is paused."""
        return self._get("/control/schedule", Schedule)

    def cancel_scheduled(self, request_id: str) -> Scheduled:
        """Forget a request; see `Host.cancel_scheduled`."""
        return self._post("/control/schedule/cancel", CancelRequest(id=request_id), Scheduled)

    def pause_reloads(self, names: Iterable[str] = ()) -> Schedule:
        """Let requests wait; see `Host.pause_reloads`."""
        return self._post("/control/schedule/pause", PauseRequest(modules=list(names)), Schedule)

    def resume_reloads(self, names: Iterable[str] = ()) -> Schedule:
        """Let requests go on; see `Host.resume_reloads`."""
        return self._post("/control/schedule/resume", PauseRequest(modules=list(names)), Schedule)

    def reload_config(self) -> ConfigReport:
        """Have the configuration file read again; see `Host.reload_config`."""
        return self._post("/control/config/reload", {}, ConfigReport)

    def _get(self, path: str, kind: type[T]) -> T:
        raise NotImplementedError

    def _post(self, path: str, body: Any, kind: type[T]) -> T:
        raise NotImplementedError


def modules_of(what: What) -> list[str] | dict[str, str | None]:
    """Return modules as they travel: sources by their absolute paths.

    Args:
        what: A name, names, or names with sources.
    """
    if isinstance(what, str):
        return [what]
    if isinstance(what, Mapping):
        return {
            name: None if source is None else os.path.abspath(source)  # noqa: PTH100 - keeps links
            for name, source in what.items()
        }
    return list(what)


__all__ = ["AsksSchedule", "What", "modules_of"]
