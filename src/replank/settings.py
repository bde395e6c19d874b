"""The settings around reloads: `[probation]`, `[storage]`, `[trust]`, `[schedule]`, `[watch]`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import msgspec

from replank.config_kinds import Count, Seconds, Section
from replank.errors import ConfigError
from replank.hours import Hours, parse_span, zone_of

SecondsOrZero = Annotated[float, msgspec.Meta(ge=0)]


class ProbationConfig(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What sends a version back in the `reload.probation_s` after its commit: `[probation]`."""

    observe: bool = True
    """Whether calls are counted and timed, in the window and on probation."""
    min_calls: Count = 20
    """Calls of one method, in each version, without which nothing is said about it."""
    error_budget: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.01
    """Share of calls that may fail; more, and more than before, sends the version back."""
    latency_ratio: Annotated[float, msgspec.Meta(gt=1)] = 2.0
    """How many times as long as before the median call may take."""
    latency_for_s: SecondsOrZero = 1.0
    """Seconds that a method must be found slower, at every look, before that counts."""
    check_every_s: Seconds = 5.0
    """Seconds from one round of the module's own checks to the next."""
    look_every_s: Seconds = 0.25
    """Seconds from one look at the calls to the next."""
    leak_budget_bytes: Annotated[int, msgspec.Meta(ge=0)] = 16 * 1024 * 1024
    """Bytes to which something that is no declared state may grow with the calls, a global list or
    a cache without a limit, beyond what it held before; more sends the version back. 0: it is only
    reported."""
    canary: tuple[Annotated[float, msgspec.Meta(gt=0, le=1)], ...] = ()
    """Shares of the calls of a module without state that go to its candidate before the swap, one
    step after the other, such as [0.05, 0.5]; no canary when left out."""
    canary_step_s: Seconds = 10.0
    """Seconds that each of these steps lasts."""


class StorageConfig(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is kept in the data directory and how long its locks may block: `[storage]`."""

    busy_timeout_s: Seconds = 5.0
    """Seconds to wait for another reader of the journal before giving up."""
    snapshots_kept: Count = 3
    """Durable snapshots kept for each module; older ones are removed."""
    fork_timeout_s: Seconds = 600.0
    """Seconds that a forked child may take to write a large state, an export or an import."""
    reloads_kept: Count = 10_000
    """Reloads kept in the journal's history; older ones are removed at start."""


class TrustConfig(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whose versions are loaded: `[trust]`."""

    require_signature: bool = False
    """Whether a version must be signed by one of the keys; see `replank sign`."""
    keys: dict[str, str] = msgspec.field(default_factory=dict)
    """By name of the signer, the public key: "ed25519:...", as `replank new-key` prints it."""


class ScheduleConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When requests for reloads are taken up: `[schedule]`."""

    timezone: Annotated[str, msgspec.Meta(min_length=1)] = "UTC"
    """Zone of all hours, times and cron lines: "UTC", or a name such as "Europe/Berlin"."""
    windows: tuple[str, ...] = ()
    """Hours in which modules may be reloaded, such as "mon-fri 22:00-06:00"; none: always."""
    quiet_hours: tuple[str, ...] = ()
    """Hours in which they may not; they count before windows."""
    rate_limit: Count | None = None
    """Reloads of one module within `rate_period_s`; more wait. Without a limit when left out."""
    rate_period_s: Seconds = 3600.0
    """Seconds."""
    debounce_s: SecondsOrZero = 0.0
    """Seconds in which requests are gathered; those of tied modules become one transaction."""
    quiet_calls_per_s: SecondsOrZero | None = None
    """Requests wait until their modules get no more calls a second; not at all when left out."""
    quiet_wait_s: Seconds = 600.0
    """Seconds that a request waits for quiet traffic at most."""
    retries: Annotated[int, msgspec.Meta(ge=0)] = 0
    """How often a reload is tried again when busy calls or the disk stopped it."""
    retry_backoff_s: Seconds = 5.0
    """Seconds before the first of these; each next one waits twice as long."""
    retry_backoff_max_s: Seconds = 300.0
    """Seconds that a retry waits at most."""
    max_waiting: Count = 1_000
    """Requests that may wait for their time; one more is refused."""


class WatchConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the sources are watched with `replank run --watch`: `[watch]`."""

    enabled: bool = False
    """Whether `replank run` watches the sources without being told to."""
    settle_s: Seconds = 0.02
    """Seconds without another change after which a change is taken up."""
    settle_max_s: Seconds = 1.0
    """Seconds after which changes are taken up although more arrive."""
    rescan_s: Seconds = 5.0
    """Seconds after which the sources are looked at even when the system told of no change."""
    polling: bool = False
    """Whether to poll, for file systems that tell of no changes (network, some containers)."""


def check_schedule(schedule: ScheduleConfig, location: Callable[[str], str | None]) -> None:
    """Refuse hours and zones that cannot be read.

    Args:
        schedule: The settings of all modules.
        location: Returns where in the file a key stands.

    Raises:
        ConfigError: Something cannot be read.
    """
    try:
        zone_of(schedule.timezone)
    except ValueError as error:
        raise _wrong("schedule.timezone", schedule.timezone, str(error), location) from None
    check_hours("schedule.", schedule.windows, schedule.quiet_hours, location)


def check_mode(
    module: str, mode: str, location: Callable[[str], str | None], *, threads: bool
) -> None:
    """Refuse a window for a module whose calls write while the loop copies.

    Args:
        module: Its name.
        mode: How its state is to travel.
        location: Returns where in the file a key stands.
        threads: Whether its calls run in threads.

    Raises:
        ConfigError: Says where and why.
    """
    if threads and mode in ("windowed", "lazy"):
        raise ConfigError(
            f"{module} cannot be copied in a window while its calls run in threads",
            found=f'mode = "{mode}" and threads = true',
            expected="one of them",
            do='take mode out (or say "eager"), or let the calls run on the event loop',
            location=location(f"modules.{module}.mode"),
        )


def check_hours(
    prefix: str,
    windows: tuple[str, ...],
    quiet_hours: tuple[str, ...],
    location: Callable[[str], str | None],
) -> None:
    """Refuse hours that cannot be read, or in which nothing could ever be done.

    Args:
        prefix: What stands before the keys' names.
        windows: When modules may be reloaded.
        quiet_hours: When not.
        location: Returns where in the file a key stands.

    Raises:
        ConfigError: Says which, where and why.
    """
    for key, texts in (("windows", windows), ("quiet_hours", quiet_hours)):
        for text in texts:
            try:
                parse_span(text)
            except ValueError as error:
                raise _wrong(prefix + key, text, str(error), location) from None
    try:
        Hours.parse(windows, quiet_hours, "UTC")
    except ValueError as error:
        raise _wrong(prefix + "quiet_hours", ", ".join(quiet_hours), str(error), location) from None


def _wrong(key: str, found: str, why: str, location: Callable[[str], str | None]) -> ConfigError:
    what, _, expected = why.partition("expected ")
    return ConfigError(
        f"{key} has a wrong value",
        found=repr(found) + (f": {what.rstrip('; ')}" if what else ""),
        expected=expected or None,
        do="correct the value",
        location=location(key),
    )


__all__ = [
    "ProbationConfig",
    "ScheduleConfig",
    "StorageConfig",
    "TrustConfig",
    "WatchConfig",
    "check_hours",
    "check_mode",
    "check_schedule",
]
