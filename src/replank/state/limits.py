"""What a reload of one module's state may take."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Mode(enum.StrEnum):
    """How a state travels; AUTO chooses by what was measured."""

    AUTO = "auto"
    EAGER = "eager"
    WINDOWED = "windowed"
    LAZY = "lazy"


class OnBadRecord(enum.StrEnum):
    """What becomes of a record that does not migrate, or not back again."""

    ABORT = "abort"
    QUARANTINE = "quarantine"
    DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class StateLimits:
    """Limits of one module's transfer.

    Attributes:
        mode: How the state travels.
        windowed_from_records: In AUTO, tables with at least so many records get a window.
        pause_max_s: What the state may add to the pause, in seconds.
        memory_max_bytes: What the reload may add to the process's memory; None for no limit.
        slice_s: Longest slice of copying between traffic, in seconds.
        on_bad_record: What becomes of a record that does not migrate.
        quarantine_max: Records that may be set aside.
    """

    mode: Mode = Mode.AUTO
    windowed_from_records: int = 2_000
    pause_max_s: float = 1.0
    memory_max_bytes: int | None = None
    slice_s: float = 0.001
    on_bad_record: OnBadRecord = OnBadRecord.ABORT
    quarantine_max: int = 100
