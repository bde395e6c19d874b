"""The state manager: chooses how a module's state reaches its candidate."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable

from replank.errors import SchemaError
from replank.migration.engine import Migration
from replank.state.bad_policy import BadRecords
from replank.state.eager import Down, EagerTransfer, Up
from replank.state.followed import FollowedTransfer
from replank.state.forecast import forecast
from replank.state.holder import Holder, Transfer
from replank.state.items import all_interpreted
from replank.state.limits import Mode, StateLimits
from replank.state.meter import Forecast, Meter
from replank.state.parking import Parked, park_steps
from replank.state.residue import Residue as TableResidue
from replank.state.routes import TableRoute, table_routes
from replank.state.slices import Slices
from replank.state.transfer import Grace
from replank.state.tree import Trees
from replank.state.windowed import WindowedTransfer

EAGER_PAUSE_MAX_S = 0.01
"""A state whose copy takes longer gets a window, also with fewer records."""
RECORDS_MIN = 200
"""Records below which the pause is copied in anyway: what a window takes to set up is no less."""


async def make_transfer(
    module: str,
    old: Holder,
    new: Holder,
    migration: Migration,
    *,
    limits: StateLimits,
    grace: Grace,
    parked: Parked | None = None,
    going_back: bool = False,
) -> Transfer:
    """Choose how a module's state travels; calls get their turn now and then.

    Args:
        module: The module's name.
        old: The generation that serves.
        new: The candidate.
        migration: The way between their schemas.
        limits: What the reload may take, and the mode when the author has chosen one.
        grace: Waits until every call that runs now in the old generation has ended.
        parked: What an earlier return from this candidate's schema had no room for.
        going_back: Whether the candidate is an older version.

    Raises:
        SchemaError: The chosen mode is not possible.
    """
    up = Up(migration, parked.small_for(migration) if parked else None)
    tables = parked.tables if parked else {}
    bad = BadRecords(module, limits)
    items = all_interpreted(
        migration, Trees(old.definition.hints, old.own), Trees(new.definition.hints, new.own)
    )
    await asyncio.sleep(0)
    routes = table_routes(old, new, migration)
    await asyncio.sleep(0)
    transfer: EagerTransfer | WindowedTransfer
    mode = _mode(module, old, routes, limits)

    def foreseen() -> Awaitable[Forecast]:
        measured = () if mode is Mode.EAGER else routes
        return forecast(old, measured, items, lazy=mode is Mode.LAZY)

    seen = await foreseen()
    if mode is Mode.EAGER is not limits.mode and _is_slow(seen, old, routes):
        mode = Mode.WINDOWED
        seen = await foreseen()
    if mode is Mode.WINDOWED is not limits.mode and _above(seen, limits.memory_max_bytes):
        mode = Mode.LAZY
        seen = await foreseen()
    if mode is not Mode.EAGER:
        transfer = WindowedTransfer(
            module,
            old,
            new,
            up,
            routes,
            limits,
            grace,
            tables,
            items,
            bad,
            going_back=going_back,
            lazy=mode is Mode.LAZY,
        )
    else:
        transfer = EagerTransfer(module, old, new, up, items, bad, tables)
        transfer.routes = routes if going_back else ()
    transfer.meter = Meter(seen, lambda: transfer.predicted_pause_s)
    return transfer


def make_return(
    module: str, new: Holder, old: Holder, came: Transfer, *, limits: StateLimits, grace: Grace
) -> Transfer:
    """Return the way back to a generation whose state was kept.

    Args:
        module: The module's name.
        new: The generation that serves.
        old: The one that is to serve again.
        came: The transfer by which the state came up.
        limits: What the reload may take.
        grace: Waits until every call that runs now in the serving generation has ended.
    """
    assert isinstance(came, EagerTransfer | WindowedTransfer), "a return is not taken back"
    down = Down(came.up, came.bad.set_aside())
    if isinstance(came, WindowedTransfer):
        return FollowedTransfer(module, new, old, down, came, limits, grace)
    return EagerTransfer(module, new, old, down)


async def parked_by(back: Transfer) -> Parked:
    """Return what a way back had no room for: it comes back with the version that wrote it.

    Args:
        back: A transfer to an older version, committed and not yet settled.
    """
    assert isinstance(back, EagerTransfer | FollowedTransfer | WindowedTransfer), "no transfer"
    parked = back.parked
    if not isinstance(back, EagerTransfer):
        return parked
    tables: dict[str, TableResidue] = {}
    for route in back.routes:
        tables[route.old_field] = TableResidue()
        steps = park_steps(route, back.left(route.old_field), tables[route.old_field])
        await Slices().run(steps)
    return dataclasses.replace(parked, tables=tables)


def _above(seen: Forecast, memory_max_bytes: int | None) -> bool:
    return memory_max_bytes is not None and seen.cost.memory_bytes > memory_max_bytes


def _is_slow(seen: Forecast, old: Holder, routes: tuple[TableRoute, ...]) -> bool:
    """Tell whether few records, but large ones, would take long in the pause."""
    return seen.cost.pause_s > EAGER_PAUSE_MAX_S and _records(old, routes) >= RECORDS_MIN


def _records(old: Holder, routes: tuple[TableRoute, ...]) -> int:
    values = old.values()
    return sum(len(values[route.old_field]) for route in routes)


def _mode(module: str, old: Holder, routes: tuple[TableRoute, ...], limits: StateLimits) -> Mode:
    """Return what was chosen, or what suits the number of records; not AUTO."""
    if limits.mode is Mode.AUTO:
        many = bool(routes) and _records(old, routes) >= limits.windowed_from_records
        return Mode.WINDOWED if many else Mode.EAGER
    if limits.mode is not Mode.EAGER and not routes:
        raise SchemaError(
            f"the state cannot travel as {limits.mode}",
            module=module,
            found="no Table whose records are migrated one by one",
            expected="a Table, and steps that stay within its records",
            do='keep the records in a Table, or set mode = "auto"',
        )
    return limits.mode


__all__ = ["Grace", "Parked", "make_return", "make_transfer", "parked_by"]
