"""What reports say about a module's state: its bad records, and what taking it over costs."""

from __future__ import annotations

from typing import Any, Self

import msgspec


class ReportRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A frozen record that is also one line of JSON."""

    def to_dict(self) -> dict[str, Any]:
        """Return the record as plain JSON-able values."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return plain

    def to_json(self) -> str:
        """Return the record as one line of JSON."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read a record that `to_json` wrote."""
        return msgspec.json.decode(text, type=cls)


class BadRecordReport(ReportRecord, frozen=True, kw_only=True):
    """A record that did not migrate; the module's policy let the reload go on."""

    table: str
    key: str
    step: str = ""
    field: str = ""
    """The record's field at fault; "" when it is not one."""
    reason: str = ""
    filled: tuple[str, ...] = ()
    """Fields that got their defaults; () for a record that was set aside."""


class StateCost(ReportRecord, frozen=True, kw_only=True):
    """What taking over one module's state takes."""

    pause_s: float = 0.0
    """Of the time in which calls wait, the part that the state takes."""
    window_s: float = 0.0
    """Copying, migrating and checking while the old version serves, its calls in between."""
    memory_bytes: int = 0
    """What the process's resident memory grows by until the commit, in bytes; measured, it does
    not show what came from memory that the process had and did not use."""


class ReadmissionReport(ReportRecord, frozen=True, kw_only=True):
    """What became of records that had been set aside."""

    module: str
    taken: int = 0
    """Records that serve again."""
    discarded: int = 0
    refused: tuple[str, ...] = ()
    """Those that stay set aside, each with the reason."""


__all__ = ["BadRecordReport", "ReadmissionReport", "ReportRecord", "StateCost"]
