"""Hours of the week in which something may or may not be done: `mon-fri 22:00-06:00`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta, tzinfo
from typing import Final
from zoneinfo import ZoneInfo

_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_SPAN: Final = re.compile(
    r"(?:(?P<days>[a-z,\- ]+?)\s+)?(?P<from>\d{1,2}:\d{2})\s*-\s*(?P<to>\d{1,2}:\d{2})"
)
_MINUTES_OF_DAY: Final = 24 * 60
_AHEAD_DAYS: Final = 8
"""A rule that does not let anything through within a week never does."""

SPAN_HELP: Final = 'hours such as "22:00-06:00", "mon-fri 09:00-17:00" or "sat,sun 00:00-24:00"'


@dataclass(frozen=True, slots=True)
class Span:
    """Some hours of some days; one that ends before it begins ends on the next day."""

    days: frozenset[int]
    """Days on which it begins; 0 is Monday."""
    start: int
    """Minutes after midnight."""
    end: int
    """Minutes after the same midnight, up to two days."""

    def around(self, moment: datetime, days_ahead: int) -> Iterable[tuple[datetime, datetime]]:
        """Yield beginning and end of every occurrence from the day before a moment on.

        Args:
            moment: In the zone in which the hours are meant.
            days_ahead: How many days to look at.
        """
        for offset in range(-1, days_ahead):
            day = moment.date() + timedelta(days=offset)
            if day.weekday() in self.days:
                yield _at(day, self.start, moment.tzinfo), _at(day, self.end, moment.tzinfo)


def _at(day: object, minutes: int, zone: tzinfo | None) -> datetime:
    # Wall time first, zone afterwards: "22:00" is 22:00 also on a day of 23 or 25 hours.
    naive = datetime.combine(day, time()) + timedelta(minutes=minutes)  # type: ignore[arg-type]
    return naive.replace(tzinfo=zone)


def parse_span(text: str) -> Span:
    """Read hours.

    Args:
        text: `HH:MM-HH:MM`, with days before it or without: `mon-fri`, `sat,sun`.

    Raises:
        ValueError: It cannot be read; says what is wrong.
    """
    match = _SPAN.fullmatch(text.strip().lower())
    if match is None:
        raise ValueError(f"expected {SPAN_HELP}")
    start, end = _minutes(match["from"]), _minutes(match["to"])
    if start == end:
        raise ValueError(f"{text!r} begins and ends at the same time; expected {SPAN_HELP}")
    if end < start:
        end += _MINUTES_OF_DAY
    return Span(_days(match["days"]), start, end)


def _minutes(text: str) -> int:
    hours, _, minutes = text.partition(":")
    total = int(hours) * 60 + int(minutes)
    if int(minutes) >= 60 or total > _MINUTES_OF_DAY:  # noqa: PLR2004 - minutes of an hour
        raise ValueError(f"{text} is no time of day; expected 00:00 to 24:00")
    return total


def _days(text: str | None) -> frozenset[int]:
    if text is None:
        return frozenset(range(7))
    found: set[int] = set()
    for part in text.replace(" ", "").split(","):
        first, _, last = part.partition("-")
        try:
            begin, end = _DAYS.index(first[:3]), _DAYS.index((last or first)[:3])
        except ValueError:
            raise ValueError(f"{part!r} is no day; expected {', '.join(_DAYS)}") from None
        end += 7 if end < begin else 0
        found |= {day % 7 for day in range(begin, end + 1)}
    return frozenset(found)


def zone_of(name: str) -> tzinfo:
    """Return a time zone by its name.

    Args:
        name: "UTC", or a name such as "Europe/Berlin".

    Raises:
        ValueError: This machine does not know it.
    """
    if name.upper() == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (KeyError, OSError, ValueError):
        raise ValueError(
            f"{name!r} is no time zone that this machine knows; expected a name such as"
            ' "UTC" or "Europe/Berlin"'
        ) from None


@dataclass(frozen=True, slots=True)
class Hours:
    """When something may be done: inside one of the windows, and in none of the quiet hours."""

    windows: tuple[Span, ...] = ()
    """None at all: always."""
    quiet: tuple[Span, ...] = ()
    zone: tzinfo = UTC

    @classmethod
    def parse(cls, windows: Sequence[str], quiet: Sequence[str], zone: str) -> Hours:
        """Read them from text.

        Args:
            windows: When it may be done.
            quiet: When not.
            zone: Name of the time zone in which both are meant.

        Raises:
            ValueError: Something cannot be read, or nothing could ever be done.
        """
        hours = cls(tuple(map(parse_span, windows)), tuple(map(parse_span, quiet)), zone_of(zone))
        if hours.next_open(datetime(2026, 1, 5, tzinfo=UTC)) is None:
            raise ValueError("nothing could ever be done: the quiet hours cover all windows")
        return hours

    def why_closed(self, moment: datetime) -> str | None:
        """Say why nothing may be done at a moment; None when it may.

        Args:
            moment: With its zone.
        """
        local = moment.astimezone(self.zone)
        if _inside(self.quiet, local):
            return "quiet hours"
        if self.windows and not _inside(self.windows, local):
            return "outside its windows"
        return None

    def next_open(self, moment: datetime) -> datetime | None:
        """Return the first moment from the given one on at which it may be done.

        Args:
            moment: With its zone.

        Returns:
            In UTC; None when there is none within a week.
        """
        local = moment.astimezone(self.zone)
        edges = {
            edge.astimezone(UTC)
            for span in (*self.windows, *self.quiet)
            for pair in span.around(local, _AHEAD_DAYS)
            for edge in pair
        }
        now = moment.astimezone(UTC)
        later = sorted(edge for edge in edges if edge > now)
        return next((one for one in (now, *later) if self.why_closed(one) is None), None)


def _inside(spans: Iterable[Span], local: datetime) -> bool:
    now = local.astimezone(UTC)
    return any(
        begin.astimezone(UTC) <= now < end.astimezone(UTC)
        for span in spans
        for begin, end in span.around(local, 1)
    )


__all__ = ["SPAN_HELP", "Hours", "Span", "parse_span", "zone_of"]
