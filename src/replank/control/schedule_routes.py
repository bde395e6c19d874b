"""`/control/schedule...`: reloads that wait for their time."""

from __future__ import annotations

from typing import Any

import msgspec

from replank.scheduling.entries import Priority, Scheduled


class ScheduleRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /control/schedule`."""

    modules: list[str] | dict[str, str | None]
    """Names, or names with a source other than the configured one (null: the configured one)."""
    at: str | None = None
    """ISO 8601, or a time of day such as "22:30"."""
    after_s: float | None = None
    """Seconds from now."""
    cron: str | None = None
    """Minute, hour, day of month, month, day of week."""
    priority: Priority = "normal"
    quiet_wait_s: float | None = None
    """Seconds to wait for quiet traffic at most."""
    retries: int | None = None
    """How often to try again when busy calls or the disk stopped it."""
    reason: str = "http"


class CancelRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /control/schedule/cancel`."""

    id: str


class PauseRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /control/schedule/pause` and `/control/schedule/resume`."""

    modules: list[str] = []
    """None: all."""


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of `GET /control/schedule`, and of a pause or its end."""

    requests: tuple[Scheduled, ...]
    """Those that wait or run, soonest first, then the last ones answered."""
    paused: tuple[str, ...] = ()
    """Modules whose reloads are paused; "*" stands for all."""


def describe(host: Any) -> Schedule:
    """Return what waits, and what is paused."""
    return Schedule(requests=host.scheduled(), paused=host.paused())


async def add(host: Any, what: Any, wanted: ScheduleRequest) -> Scheduled:
    """Schedule a reload; on the disk on return.

    Args:
        host: The host.
        what: The modules, once it is certain that this client may name these sources.
        wanted: When and how.
    """
    record: Scheduled = await host.schedule(
        what,
        at=wanted.at,
        after_s=wanted.after_s,
        cron=wanted.cron,
        priority=wanted.priority,
        quiet_wait_s=wanted.quiet_wait_s,
        retries=wanted.retries,
        reason=wanted.reason,
    )
    return record


async def cancel(host: Any, wanted: CancelRequest) -> Scheduled:
    """Forget a request."""
    record: Scheduled = await host.cancel_scheduled(wanted.id)
    return record


async def pause(host: Any, wanted: PauseRequest) -> Schedule:
    """Let requests wait."""
    await host.pause_reloads(*wanted.modules)
    return describe(host)


async def resume(host: Any, wanted: PauseRequest) -> Schedule:
    """Let requests go on."""
    await host.resume_reloads(*wanted.modules)
    return describe(host)


__all__ = [
    "CancelRequest",
    "PauseRequest",
    "Schedule",
    "ScheduleRequest",
    "add",
    "cancel",
    "describe",
    "pause",
    "resume",
]
