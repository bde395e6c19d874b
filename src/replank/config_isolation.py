"""What an isolated module may take: the part of `[modules.NAME]` about a process of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

import msgspec

from replank.config_kinds import ByteCount, Count, Seconds, Section
from replank.errors import ConfigError

Share = Annotated[float, msgspec.Meta(gt=0)]
IsolationKind = Literal["none", "process"]


class IsolationConfig(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a module runs, and what its process may take."""

    isolation: IsolationKind = "none"
    """Whether it runs in a process of its own ("process", Linux only) or in the host ("none"): a
    crash, a leak or an endless loop of it then takes only that process."""
    isolation_memory_bytes: ByteCount | None = None
    """Resident bytes that its process may take; it is ended and started again above them. Private
    memory of twice as many is refused to it at once. Without a limit when left out."""
    isolation_cpu_share: Share | None = None
    """Processors that it may use, 0.5 for half of one, on the average of `isolation_cpu_s`; it is
    ended and started again above them. Without a limit when left out."""
    isolation_cpu_s: Seconds = 10.0
    """Seconds over which its use of the processors is averaged."""
    isolation_hang_s: Seconds = 10.0
    """Seconds without a turn of its event loop after which it is ended and started again."""
    isolation_restarts: Count = 5
    """How often it is started again within `isolation_restart_window_s`; after one end more it
    stays down, and its calls are refused, until it is reloaded."""
    isolation_restart_window_s: Seconds = 60.0
    """Seconds."""
    isolation_backoff_s: Seconds = 0.1
    """Seconds before it is started again the second time in a row; doubled each time."""

    @property
    def isolated(self) -> bool:
        """Whether it runs in a process of its own."""
        return self.isolation == "process"


def check_isolation(
    module: str,
    others: dict[str, object],
    location: Callable[[str], str | None],
    *,
    isolated: bool,
) -> None:
    """Refuse what a module in a process of its own cannot have.

    Args:
        module: Its name.
        others: Its settings `threads`, `mode` and `on_bad_record`.
        location: Returns where in the file a key stands.
        isolated: Whether it runs in a process of its own.

    Raises:
        ConfigError: Says which, where and why.
    """
    refused: dict[str, tuple[tuple[object, ...], str]] = {
        "threads": ((True,), "it has one event loop"),
        "mode": (("windowed", "lazy"), "its state is copied over a socket, in the pause"),
        "on_bad_record": (("quarantine", "default"), "records go to that process all or none"),
    }
    for key, (values, why) in refused.items() if isolated else ():
        value = others[key]
        if value in values:
            said = "true" if value is True else f'"{value}"'
            raise ConfigError(
                f"{module} cannot have {key} = {said} in a process of its own: {why}",
                found=f'isolation = "process" and {key} = {said}',
                expected="one of them",
                do=f'take {key} out, or say isolation = "none"',
                location=location(f"modules.{module}.{key}"),
            )


__all__ = ["IsolationConfig", "IsolationKind", "check_isolation"]
