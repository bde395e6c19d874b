"""What is asked for: when, how urgently, how often again; and where each request stands."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, get_args

import msgspec

from replank.errors import UsageError
from replank.report import ReloadReport
from replank.scheduling.scheduler import Request, Target
from replank.scheduling.ticket import Ticket

Priority = Literal["low", "normal", "high", "critical"]
PRIORITIES: Final[tuple[Priority, ...]] = get_args(Priority)
Standing = Literal["waiting", "running", "answered", "cancelled", "superseded"]


@dataclass(frozen=True, slots=True)
class Wishes:
    """When and how a reload is to be done; checked when it is made."""

    priority: Priority = "normal"
    due: float | None = None
    """Unix seconds; None for now."""
    cron: str | None = None
    """Five fields; done again and again."""
    quiet_wait_s: float | None = None
    """Seconds to wait for quiet traffic at most; None for what is configured."""
    retries: int | None = None
    """How often to try again; None for what is configured."""

    def __post_init__(self) -> None:
        """Refuse what means nothing."""
        if self.priority not in PRIORITIES:
            raise UsageError(
                f"there is no priority {self.priority!r}",
                found=str(self.priority),
                expected=", ".join(PRIORITIES),
            )
        if self.quiet_wait_s is not None and not self.quiet_wait_s > 0:
            raise UsageError(
                "a wait for quiet traffic must be longer than nothing",
                found=str(self.quiet_wait_s),
                expected="seconds, such as 60",
            )
        if self.retries is not None and self.retries < 0:
            raise UsageError(
                "a reload cannot be tried again less than never", found=str(self.retries)
            )

    @property
    def rank(self) -> int:
        """The priority as a number: the higher, the sooner."""
        return PRIORITIES.index(self.priority)


NOW: Final = Wishes()


class Scheduled(msgspec.Struct, frozen=True, kw_only=True):
    """One request as operators see it, and as it is remembered over a restart."""

    id: str
    modules: tuple[str, ...]
    sources: dict[str, str | None] = {}
    """By module, a source other than the configured one."""
    priority: Priority = "normal"
    reason: str = "schedule"
    due: float = 0.0
    """Unix seconds; for a request with a cron line, the next time."""
    cron: str | None = None
    quiet_wait_s: float | None = None
    retries: int | None = None
    allow_breaking: tuple[str, ...] = ()
    created: float = 0.0
    """Unix seconds."""
    standing: Standing = "waiting"
    why: str = ""
    """What it waits for."""
    attempt: int = 0
    """How often it was tried in vain since it was due."""
    runs: int = 0
    """How often it was done; more than once with a cron line."""
    last_reload: str | None = None
    last_outcome: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the record as plain JSON-able values."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return plain


@dataclass(eq=False, slots=True)
class Entry:
    """One request while it is open."""

    id: str
    request: Request
    wishes: Wishes
    ticket: Ticket
    due: float
    created: float
    durable: bool = False
    """Whether it is remembered over a restart."""
    attempt: int = 0
    runs: int = 0
    ripe_since: float | None = None
    """Since when nothing but quiet traffic is missing."""
    debounced_until: float = 0.0
    standing: Standing = "waiting"
    why: str = ""
    told: tuple[str, float] | None = None
    """The reason for waiting that was told last, and when."""
    last: ReloadReport | None = None
    followers: list[Ticket] = field(default_factory=list)
    """Tickets of older requests that this one has taken the place of."""

    @property
    def modules(self) -> frozenset[str]:
        """The modules' names."""
        return frozenset(self.request.targets)

    @property
    def reads_source(self) -> bool:
        """Whether it takes what lies on the disk when its time comes; a way back does not."""
        return all(one.digest is None for one in self.request.targets.values())

    @property
    def repeats(self) -> bool:
        """Whether it is done again after it was done."""
        return self.wishes.cron is not None

    def answer(self, act: Callable[[Ticket], None]) -> None:
        """Do something with the ticket and with those that it has taken the place of."""
        for ticket in (self.ticket, *self.followers):
            act(ticket)

    def record(self) -> Scheduled:
        """Return what operators see."""
        targets = self.request.targets
        return Scheduled(
            id=self.id,
            modules=tuple(sorted(targets)),
            sources={name: str(t.source) for name, t in targets.items() if t.source is not None},
            priority=self.wishes.priority,
            reason=self.request.reason,
            due=self.due,
            cron=self.wishes.cron,
            quiet_wait_s=self.wishes.quiet_wait_s,
            retries=self.wishes.retries,
            allow_breaking=tuple(sorted(self.request.allow_breaking)),
            created=self.created,
            standing=self.standing,
            why=self.why,
            attempt=self.attempt,
            runs=self.runs,
            last_reload=self.last.id if self.last else None,
            last_outcome=str(self.last.outcome) if self.last else None,
        )


def entry_of(record: Scheduled) -> Entry:
    """Return an open request again from what was remembered.

    Args:
        record: What `Entry.record` gave.
    """
    sources: Mapping[str, str | None] = record.sources
    targets = {
        name: Target(Path(path) if (path := sources.get(name)) else None) for name in record.modules
    }
    request = Request(targets, record.reason, allow_breaking=frozenset(record.allow_breaking))
    wishes = Wishes(record.priority, record.due, record.cron, record.quiet_wait_s, record.retries)
    return Entry(
        record.id,
        request,
        wishes,
        Ticket(frozenset(targets)),
        record.due,
        record.created,
        durable=True,
        runs=record.runs,
    )


__all__ = ["NOW", "PRIORITIES", "Entry", "Priority", "Scheduled", "Standing", "Wishes", "entry_of"]
