"""How a reload goes: `[reload]`."""

from __future__ import annotations

from typing import Annotated

import msgspec

from replank.config_kinds import (
    GIB,
    ByteCount,
    Count,
    ImportEffects,
    Seconds,
    Section,
    TypeChecker,
    WhenBusy,
)


class ReloadConfig(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The deadline of each phase and the limits of the probe: `[reload]`."""

    stream_timeout_s: Seconds = 300.0
    """Seconds that open streams get to finish in the old version; then they are ended."""
    prepare_timeout_s: Seconds = 30.0
    """Seconds; no call waits during Prepare."""
    drain_timeout_s: Seconds = 5.0
    """Seconds; calls wait from here on."""
    snapshot_timeout_s: Seconds = 5.0
    """Seconds."""
    migrate_timeout_s: Seconds = 10.0
    """Seconds."""
    swap_timeout_s: Seconds = 1.0
    """Seconds."""
    restore_timeout_s: Seconds = 5.0
    """Seconds; `on_start` runs within them."""
    verify_timeout_s: Seconds = 5.0
    """Seconds; all checks together."""
    commit_timeout_s: Seconds = 5.0
    """Seconds; the commit record is on the disk within them."""
    when_busy: WhenBusy = "newest"
    """What becomes of a reload whose module is being reloaded: "newest" waits, in the place of
    those that wait already; "queue" waits behind them; "refuse" is rejected."""
    window_timeout_s: Seconds = 600.0
    """Seconds; a large state is copied within them, while the old version serves."""
    windowed_from_records: Count = 2_000
    """Records in tables from which a state travels in a window instead of in the pause."""
    max_memory_bytes: ByteCount | None = None
    """Bytes that a reload may add to the process's memory; without a limit when left out."""
    probation_s: Annotated[float, msgspec.Meta(ge=0)] = 10.0
    """Seconds after a commit in which a large old state is kept in step for a rollback."""
    max_pause_s: Seconds = 1.0
    """Seconds; a reload whose predicted pause is longer is rejected in Prepare."""
    probe: bool = True
    """Whether a candidate is first imported in a child process."""
    probe_timeout_s: Seconds = 10.0
    """Seconds; a child that takes longer is killed and the candidate rejected."""
    probe_memory_bytes: ByteCount = GIB
    """Bytes of address space that the child may add for the candidate."""
    max_retired: Count = 20
    """Old generations that may stay in memory, leaked or called still; one more is rejected."""
    leak_check_s: Annotated[float, msgspec.Meta(ge=0)] = 60.0
    """Seconds after which an old generation that is still in memory is looked for; 0 for never."""
    import_effects: ImportEffects = "report"
    """What becomes of a candidate whose import changes its process (replaces a function of another
    module, starts a thread, sets a variable of the environment): "report" or "reject"."""
    tests_timeout_s: Seconds = 60.0
    """Seconds; a candidate whose own tests take longer is rejected. No call waits meanwhile."""
    type_check: TypeChecker | None = None
    """The type checker that must find no error in a candidate; none when left out."""
    type_check_timeout_s: Seconds = 60.0
    """Seconds that it may take. No call waits meanwhile."""


__all__ = ["ReloadConfig"]
