"""What is true now: frozen records that the CLI, the HTTP API and the metrics read."""

from __future__ import annotations

import enum
from typing import Any, Self

import msgspec


class Gate(enum.StrEnum):
    """Whether new calls enter a module."""

    OPEN = "open"
    CLOSED = "closed"


class ModuleStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One module, as it serves now."""

    name: str
    label: str
    """The author's own version label."""
    digest: str
    """Content address of the source that serves."""
    generation: int
    schema: int
    gate: Gate = Gate.OPEN
    in_flight: int = 0
    """Calls that entered and have not left."""
    waiting: int = 0
    """Calls held at the closed gate."""
    calls: int = 0
    """Calls that entered since the host started."""
    calls_refused: int = 0
    """Calls refused because too many waited; never executed."""
    generations_alive: int = 1
    """Generations in memory: what serves, candidates, and what is not freed yet."""
    messages_accepted: int = 0
    messages_queued: int = 0
    messages_handled: int = 0
    messages_failed: int = 0
    messages_lost: int = 0
    """Accepted, and neither handled nor failed nor queued: 0, or a mistake of ours."""
    source: str = ""
    """Where the author keeps the module."""
    uses: tuple[str, ...] = ()
    started_at: str = ""
    """When this generation began to serve: ISO 8601, UTC."""
    isolation: str = "none"
    """Where it runs: in the host ("none"), or in a process of its own ("process")."""
    pid: int | None = None
    """That process; None for a module that runs in the host, or while there is none."""
    memory_bytes: int = 0
    """Resident memory of that process; 0 for a module that runs in the host."""
    restarts: int = 0
    """How often that process was started again for this generation."""
    down: str = ""
    """Why it takes no calls until it is reloaded; "" while it does."""


class HostStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The host and all its modules, as they are now."""

    pid: int
    data_dir: str
    started_at: str
    """ISO 8601, UTC."""
    modules: tuple[ModuleStatus, ...] = ()

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


__all__ = ["Gate", "HostStatus", "ModuleStatus"]
