"""What the journal takes and gives."""

from __future__ import annotations

import datetime as dt
from typing import Any

import msgspec


class Participant(msgspec.Struct, frozen=True):
    """One module of a transaction that begins."""

    module: str
    digest_from: str
    """Digest of the version that serves; "" at the first start."""
    digest_to: str
    """Digest of the candidate's version."""
    generation: int
    """The candidate's, from `Journal.next_generation`."""


class Committed(msgspec.Struct, frozen=True):
    """One module as the commit record has it: what serves."""

    module: str
    digest: str
    label: str
    """The author's own version label."""
    generation: int
    schema_version: int
    schema_dict: dict[str, Any]
    """`Schema.to_dict()` of the state."""
    source: str
    """Where the author keeps the module."""
    tx: str = ""
    """The reload that committed it; filled in when it is read back."""


class SnapshotRecord(msgspec.Struct, frozen=True):
    """One durable snapshot."""

    module: str
    path: str
    digest: str
    """Digest of the version whose state it is."""
    schema_version: int
    taken_at: str
    """ISO 8601, UTC."""
    kind: str = "stop"
    """Why it was taken: "stop", "commit", ..."""


def utc_now() -> str:
    """Return the time now as the journal writes it: ISO 8601, UTC, milliseconds."""
    return dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")


__all__ = ["Committed", "Participant", "SnapshotRecord", "utc_now"]
