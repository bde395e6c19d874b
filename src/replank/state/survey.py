"""What a reload of a table will cost, before anything is done: measured on a sample of it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from itertools import chain, islice
from typing import Any

import msgspec

from replank.errors import MigrationError
from replank.state.kinds import Kind, Tracking, classify, harder, kind_of
from replank.state.watching import quiet
from replank.table import Table

SAMPLE = 200
BOOKKEEPING_S = 1.2e-6
"""What the window adds to each record's migration: notes, places, storing."""
BOOKKEEPING_BYTES = 170
"""What the window keeps for each record beside the new record itself."""


class Survey(msgspec.Struct, frozen=True, kw_only=True):
    """What is known about a table's values before its window opens."""

    records: int
    sampled: int
    bytes_estimate: int
    """The table with its records, in bytes."""
    window_bytes_estimate: int
    """What the window and probation add to it, in bytes."""
    kinds: tuple[str, ...]
    """Names of the classes met or declared."""
    tracking: Tracking
    """How changes are noticed: "reads" makes the pause hold what was read, not only written."""
    trackable: bool
    """False when a change can be missed: values that are reached other than through the table."""
    copy_s: float
    """Estimated time to copy and migrate all of it, in seconds."""
    notes: tuple[str, ...] = ()
    """What an operator should know, one sentence each."""


def survey(
    table: Table[Any, Any],
    value_type: Any = None,
    migrate: Callable[[Any], Any] | None = None,
    *,
    sample: int = SAMPLE,
) -> Survey:
    """Look at some values from both ends of a table, and time their migration.

    Args:
        table: The table, serving.
        value_type: Annotated type of its values, when known.
        migrate: Make the new record from an old one; it must not touch the old.
        sample: Number of records looked at.

    Returns:
        Estimates, and how changes of the values are noticed.

    Raises:
        MigrationError: A sampled record cannot be migrated.
    """
    records = len(table)
    keys = list(_ends(table, min(sample, records)))
    values = [table[key] for key in keys]
    met = {type(value): kind_of(type(value)) for value in values}
    tracking = harder(*(kind.declared for kind in met.values()))
    if value_type is not None:
        tracking = harder(tracking, classify(value_type))
    size = sum(size_of(value) for value in values) / max(1, len(values))
    key_size = sum(sys.getsizeof(key) for key in keys) / max(1, len(keys))
    seconds = _time(migrate, keys, values)
    bare = [kind for kind in met.values() if kind.own is Tracking.READS]
    return Survey(
        records=records,
        sampled=len(values),
        bytes_estimate=int(dict.__sizeof__(table) + records * (size + key_size)),
        window_bytes_estimate=int(records * (size + BOOKKEEPING_BYTES)),
        kinds=tuple(sorted(cls.__qualname__ for cls in met)),
        tracking=tracking,
        trackable=not bare,
        copy_s=records * (seconds + BOOKKEEPING_S),
        notes=tuple(_notes(tracking, bare, met)),
    )


def _ends(table: Table[Any, Any], count: int) -> Iterable[Any]:
    """Return keys from both ends: no step of a plan may grow with the state."""
    last = islice(reversed(table), count // 2)
    return dict.fromkeys(chain(islice(table, count - count // 2), last))


def _time(migrate: Callable[[Any], Any] | None, keys: list[Any], values: list[Any]) -> float:
    if migrate is None or not values:
        return 0.0
    with quiet():
        begin = time.thread_time()
        for key, value in zip(keys, values, strict=True):
            try:
                migrate(value)
            except Exception as error:
                raise MigrationError(
                    f"record {key!r} could not be migrated: {type(error).__name__}: {error}",
                    found=repr(value)[:200],
                    do="correct the migration step, then reload again",
                ) from error
        return (time.thread_time() - begin) / len(values)


def size_of(value: Any, depth: int = 3) -> int:
    """Estimate the memory of a value with what it holds, in bytes.

    Args:
        value: The value.
        depth: How deep to look.
    """
    size = sys.getsizeof(value)
    if depth:
        kind = kind_of(type(value))
        names = getattr(type(value), "__struct_fields__", None)
        if names is not None:
            parts: Iterable[Any] = (getattr(value, name, None) for name in names)
        elif hasattr(value, "__dict__") and not kind.atom:
            size += sys.getsizeof(value.__dict__)
            parts = value.__dict__.values()
        else:
            parts = kind.parts(value)
        size += sum(size_of(part, depth - 1) for part in islice(parts, 64) if _counts(part))
    return size


def _counts(part: Any) -> bool:
    """Whether a part has memory of its own; small numbers and the like are shared."""
    return part is not None and not isinstance(part, bool | type) and part not in (0, 1, "")


def _notes(tracking: Tracking, bare: list[Kind], met: dict[type, Kind]) -> Iterable[str]:
    if bare:
        names = ", ".join(sorted(cls.__qualname__ for cls, kind in met.items() if kind in bare))
        yield (
            f"values of type {names} change without any hook: changes through a reference kept "
            "outside the table are not noticed while the window is open"
        )
    if tracking is Tracking.READS:
        yield "records hold plain containers: the pause copies what was read, not only written"
