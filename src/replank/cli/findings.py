"""What `replank doctor` finds, as records: one examination may find several things."""

from __future__ import annotations

import enum
from pathlib import Path

import msgspec

from replank.config import Config


class Grade(enum.StrEnum):
    """How a finding is meant."""

    WELL = "well"
    WARNING = "warning"
    FAULT = "fault"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked at."""

    what: str
    grade: Grade
    found: str
    do: str | None = None


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """All that was found."""

    well: bool
    """Whether there is no fault; a warning is none."""
    data_dir: str
    findings: tuple[Finding, ...]


class Situation(msgspec.Struct, frozen=True, kw_only=True):
    """What is examined."""

    config: Config
    """What the file says; the defaults where it cannot be read, or there is none."""
    data_dir: Path
    runs: int | None = None
    """Pid of the host that answers on the data directory, if one does."""


def well(what: str, found: str) -> Finding:
    """Return a finding that is as it should be.

    Args:
        what: What was looked at.
        found: What was found.
    """
    return Finding(what=what, grade=Grade.WELL, found=found)


def warning(what: str, found: str, do: str) -> Finding:
    """Return a finding that works, and may hurt one day.

    Args:
        what: What was looked at.
        found: What was found.
        do: What to do about it.
    """
    return Finding(what=what, grade=Grade.WARNING, found=found, do=do)


def fault(what: str, found: str, do: str) -> Finding:
    """Return a finding with which a host does not run, or not safely.

    Args:
        what: What was looked at.
        found: What was found.
        do: What to do about it.
    """
    return Finding(what=what, grade=Grade.FAULT, found=found, do=do)


__all__ = ["Finding", "Grade", "Health", "Situation", "fault", "warning", "well"]
