"""Times as people write them: `22:30`, `2026-11-24T03:00`, `10m`, and cron lines."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final

from cronsim import CronSim, CronSimError

from replank.errors import UsageError

_UNITS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_AMOUNT: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd]?)")
_TIME_OF_DAY: Final = re.compile(r"\d{1,2}:\d{2}(:\d{2})?")
_CRON_FIELDS: Final = 5


def read_duration(text: str) -> float:
    """Return seconds.

    Args:
        text: One or more amounts such as `90`, `10m`, `1h30m`, `2d`; seconds without a unit.

    Raises:
        UsageError: It cannot be read.
    """
    parts = _AMOUNT.findall(text)
    if not parts or not re.fullmatch(rf"(?:\s*{_AMOUNT.pattern}\s*)+", text):
        raise UsageError(
            f"{text!r} is no length of time", expected="such as 90 (seconds), 10m, 1h30m or 2d"
        )
    return sum(float(number) * _UNITS[unit or "s"] for number, unit in parts)


def read_moment(given: datetime | str, now: float, zone: tzinfo) -> float:
    """Return Unix seconds.

    Args:
        given: ISO 8601; or a time of day, for the next time that it is that late.
        now: Unix seconds.
        zone: Zone of what names none.

    Raises:
        UsageError: It cannot be read, or is past.
    """
    moment = _moment(given, now, zone) if isinstance(given, str) else given
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=zone)
    if moment.timestamp() < now:
        raise UsageError(
            "that time is past",
            found=moment.isoformat(),
            expected=f"a time after {datetime.fromtimestamp(now, zone).isoformat()}",
            do="leave the time out to reload now",
        )
    return moment.timestamp()


def _moment(text: str, now: float, zone: tzinfo) -> datetime:
    text = text.strip()
    try:
        if _TIME_OF_DAY.fullmatch(text):
            today = datetime.fromtimestamp(now, zone)
            hours, minutes, *seconds = (int(part) for part in text.split(":"))
            moment = today.replace(
                hour=hours, minute=minutes, second=seconds[0] if seconds else 0, microsecond=0
            )
            return moment if moment.timestamp() >= now else moment + timedelta(days=1)
        return datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"{text!r} is no time",
            expected="a time of day such as 22:30, or ISO 8601 such as 2026-11-24T03:00",
        ) from None


def next_of_cron(line: str, now: float, zone: tzinfo) -> float:
    """Return the first moment after now that a cron line names, in Unix seconds.

    Args:
        line: Five fields: minute, hour, day of month, month, day of week.
        now: Unix seconds.
        zone: Zone in which it is meant.

    Raises:
        UsageError: It is no cron line, or names no moment at all.
    """
    try:
        if len(line.split()) != _CRON_FIELDS:
            raise CronSimError(f"found {len(line.split())} fields")  # noqa: TRY301 - said once
        return next(CronSim(line, datetime.fromtimestamp(now, zone))).timestamp()
    except CronSimError as error:
        raise UsageError(
            f"{line!r} is no cron line",
            found=str(error),
            expected='minute, hour, day of month, month, day of week, such as "0 3 * * mon-fri"',
        ) from None
    except StopIteration:
        raise UsageError(
            f"the cron line {line!r} names no moment at all", do="look at its day and month"
        ) from None


def said(moment: float, zone: tzinfo = UTC) -> str:
    """Return a moment as people read it.

    Args:
        moment: Unix seconds.
        zone: Zone in which to say it.
    """
    return datetime.fromtimestamp(moment, zone).strftime("%Y-%m-%d %H:%M:%S %Z")


__all__ = ["next_of_cron", "read_duration", "read_moment", "said"]
