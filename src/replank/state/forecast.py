"""What taking a module's state over will cost, said before any of it is done.

It looks at some items of each field and scales up; nothing in it grows with the state. What counts
is the time on the processor: a sample that another process interrupts for some milliseconds would
be scaled up to seconds, and the reload refused for them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from replank.hints import MAPPINGS, SEQUENCES, SETS, read_form
from replank.report_state import StateCost
from replank.state.holder import Holder
from replank.state.items import Interpreted
from replank.state.memo import new_memo
from replank.state.meter import Forecast
from replank.state.mirror import MARKS_LEFT
from replank.state.routes import TableRoute
from replank.state.snapshot import trees_of
from replank.state.survey import size_of, survey
from replank.state.watching import quiet
from replank.threads import undisturbed

SAMPLE = 50
"""Items of a field that is copied in the pause that are timed."""
EAGER_COPIES = 2.5
"""A copy without classes and the new values, in sizes of the state: both live in the pause."""
NOTED_BYTES = 130
"""What a window notes for each record when it keeps no copy of it."""
TOLD_FROM_S = 0.001
"""A field that takes so long in the pause is named."""


@dataclass(slots=True)
class _Sum:
    """What the fields that were looked at have come to."""

    size: int = 0
    memory: int = 0
    window_s: float = 0.0
    pause_s: float = 0.0
    notes: list[str] = field(default_factory=list)


async def forecast(
    old: Holder,
    routes: Iterable[TableRoute],
    items: Mapping[str, Interpreted],
    *,
    lazy: bool = False,
) -> Forecast:
    """Look at a state, serving, and estimate; calls get their turn after each field.

    Args:
        old: The generation that serves.
        routes: The tables that travel in a window.
        items: By field, the way of the items of tables and dicts that can be taken one by one.
        lazy: Whether these tables' records are migrated as they are used.
    """
    in_window = {route.old_field: route for route in routes}
    carried = set(old.definition.carried)
    total = _Sum()
    for name, value in old.values().items():
        if name in carried:
            continue
        if name in in_window:
            _add_table(total, in_window[name], value, lazy=lazy)
        else:
            _add_copied(total, old, name, value, items.get(name))
        await asyncio.sleep(0)
    cost = StateCost(pause_s=total.pause_s, window_s=total.window_s, memory_bytes=total.memory)
    return Forecast(total.size, cost, tuple(total.notes))


def _add_table(total: _Sum, route: TableRoute, table: Any, *, lazy: bool) -> None:
    upgrade = _harmless(route.upgrade)
    found = undisturbed(lambda: survey(table, route.old_type, upgrade))
    total.size += found.bytes_estimate
    total.memory += found.records * NOTED_BYTES if lazy else found.window_bytes_estimate
    total.window_s += found.copy_s
    total.pause_s += found.copy_s * min(1.0, MARKS_LEFT / max(1, found.records))
    total.notes += [f"{route.old_field}: {note}" for note in found.notes]


def _add_copied(total: _Sum, old: Holder, name: str, value: Any, way: Interpreted | None) -> None:
    seconds, count = undisturbed(lambda: _copy_s(old, name, value, way))
    bytes_estimate = undisturbed(lambda: _sampled_size(value))
    total.size += bytes_estimate
    total.memory += int(bytes_estimate * EAGER_COPIES)
    total.pause_s += seconds
    if seconds >= TOLD_FROM_S:
        total.notes.append(f"{name}: its {count:,} items are copied in the pause, {seconds:.4f} s")


def _harmless(upgrade: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return the upgrade without its complaints: the window makes them, with the key."""

    def attempt(record: Any) -> Any:
        try:
            return upgrade(record)
        except Exception:
            return None

    return attempt


def _copy_s(old: Holder, name: str, value: Any, way: Interpreted | None) -> tuple[float, int]:
    """Estimate how long a field takes in the pause, in seconds, and count its items."""
    form = read_form(old.definition.hints.get(name, Any))
    if form.kind not in MAPPINGS | SEQUENCES | SETS or not isinstance(
        value, dict | list | set | frozenset | tuple
    ):
        return 0.0, 0
    trees = trees_of(old.definition.hints, old.own)
    source = value.values() if isinstance(value, dict) else value
    sample = list(islice(source, SAMPLE))
    hint = form.args[-1] if form.args else Any
    if form.kind == "tuple" and not form.variable:
        hint = Any
    begin = time.thread_time()
    with quiet():
        for item in sample:
            try:
                node = trees.freezer.walk(hint)(item, new_memo())
                if way is None:
                    trees.thawer.walk(hint)(node, new_memo())
                else:
                    way.thaw(way.up_node(node))
            except Exception:  # noqa: S112 - the rehearsal says what is wrong with it
                continue
    took = time.thread_time() - begin
    return took * len(value) / max(1, len(sample)), len(value)


def _sampled_size(value: Any) -> int:
    if not isinstance(value, dict | list | set | frozenset | tuple) or len(value) <= SAMPLE:
        return size_of(value)
    sample = list(islice(value.items() if isinstance(value, dict) else value, SAMPLE))
    return int(sum(size_of(item) for item in sample) * len(value) / len(sample))


__all__ = ["forecast"]
