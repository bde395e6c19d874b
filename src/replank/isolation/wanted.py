"""What host and worker tell each other about modules and versions, in plain values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from replank.code.store import Stored


class Load(NamedTuple):
    """What a worker is to load."""

    name: str
    number: int
    stored: Stored
    code: bytes | None
    """What the probe compiled."""
    folder: str
    """Where snapshots lie."""
    write_limit_s: float
    log_level: int


@dataclass(frozen=True, slots=True)
class Offer:
    """What a loaded module is, as the host needs to know it."""

    contract: dict[str, Any]
    state: tuple[str, ...]
    functions: tuple[str, ...]
    on_reload: dict[str, str]
    """What becomes of each stream in a reload."""
    uses: tuple[tuple[str, str, str, tuple[str, ...] | None], ...]
    """Field, module, version range, and the calls of its typed interface."""
    calls_others: bool


__all__ = ["Load", "Offer"]
