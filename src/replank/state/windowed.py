"""Large tables travel in a window: copied and upgraded in slices while the old version serves.

The small rest of the state travels as in the eager mode. What is left for the pause is the records
written last, one class switch for each table, and the small rest.

In the order of time:

    snapshot(None)    the window opens; every record is copied, upgraded and checked, in slices
    restore(None)     the candidate is shown the copy, to be read only
    align()           the copy is brought to one moment, without a turn of the loop: for the checks
    approach()        what was written meanwhile is copied, until little is left
    snapshot(proof)   calls wait: the rest is copied
    restore(proof)    each table shows the new records; the small rest is assigned
    settle()          calls enter again: the new records are brought to their places, in slices
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

from replank.errors import MigrationError
from replank.state.bad_policy import BadRecord, BadRecords
from replank.state.collector import CollectorGuard
from replank.state.eager import EagerTransfer, Up
from replank.state.holder import Holder, Without
from replank.state.items import Interpreted
from replank.state.lazy import LazyTransfer
from replank.state.limits import StateLimits
from replank.state.meter import Meter, metered
from replank.state.mirror import CopyOutcome, Family, Mirror
from replank.state.parking import Parked
from replank.state.residue import Residue
from replank.state.routes import TableRoute
from replank.state.sharing import Twins, parts_shared_steps
from replank.state.slices import Slices
from replank.state.transfer import Grace, TableTransfer
from replank.state.window import WindowState
from replank.table import Table
from replank.traffic.drain import Drained


class WindowedTransfer:
    """Take the tables of a module over in a window, and its small state eagerly.

    Args:
        module: The module's name.
        old: The generation that serves.
        new: The candidate.
        up: The way of the small state.
        routes: The way of each table's records.
        limits: What the reload may take.
        grace: Waits until every call that runs now has ended.
        parked: By the candidate's field, what an earlier return to the old version had no room
            for.
        items: The way of the items of the small state's dicts.
        bad: Decides about records that do not migrate.
        going_back: Whether the candidate is an older version: what it has no room for is parked.
        lazy: Whether records are only checked in the window, and migrated as they are used.
    """

    def __init__(
        self,
        module: str,
        old: Holder,
        new: Holder,
        up: Up,
        routes: tuple[TableRoute, ...],
        limits: StateLimits,
        grace: Grace,
        parked: Mapping[str, Residue],
        items: Mapping[str, Interpreted],
        bad: BadRecords,
        *,
        going_back: bool = False,
        lazy: bool = False,
    ) -> None:
        self.mode = "lazy" if lazy else "windowed"
        self.bad = bad
        self.meter: Meter | None = None
        self.module = module
        self.routes = routes
        self.up = up
        self._new = new
        self._limits = limits
        self._grace = grace
        self._guard = CollectorGuard(limits.memory_max_bytes)
        self._slices = Slices(limits.slice_s, between=self._guard.breathe)
        large = {route.old_field for route in routes}
        self._small = EagerTransfer(
            module,
            Without(old, large),
            Without(new, {route.new_field for route in routes}),
            up,
            {name: way for name, way in items.items() if name not in large},
            bad,
            twins=Twins(module, self._mirrors),
        )
        family = self._family = Family()
        self._tables: dict[str, Table[Any, Any]] = {}
        self._transfers: dict[str, TableTransfer] = {}
        for route in routes:
            table = old.values()[route.old_field]
            self._tables[route.new_field] = table
            self._transfers[route.new_field] = (LazyTransfer if lazy else TableTransfer)(
                table,
                route.upgrade,
                downgrade=route.downgrade,
                old_type=route.old_type,
                new_type=route.new_type,
                residue=parked.get(route.new_field),
                family=family,
                pause_s=limits.pause_max_s / 4,
                parking=Residue() if going_back else None,
                bad=bad.table(route.way),
                bad_down=None if route.downgrade is None else bad.table(route.way, down=True),
            )

    @property
    def records(self) -> int:
        """How many records were copied, the small state's included."""
        return self._small.records + sum(len(table) for table in self._tables.values())

    @property
    def predicted_pause_s(self) -> float:
        """What the pause would take now, in seconds, by what was measured in the window."""
        waiting = sum(one.statistics().predicted_pause_s for one in self._transfers.values())
        return self._small.predicted_pause_s + waiting

    @property
    def parked(self) -> Parked:
        """What this way back had no room for, by the fields of the version that was left."""
        tables = {}
        for route in self.routes:
            parking = self._transfers[route.new_field].parking
            if parking is not None:
                tables[route.old_field] = parking
        return dataclasses.replace(self._small.parked, tables=tables)

    @property
    def moved(self) -> frozenset[str]:
        """The tables of the old generation, which stay the objects that they are."""
        return frozenset(route.old_field for route in self.routes)

    @property
    def followed(self) -> bool:
        """Whether every table can go back with what is written after the commit."""
        return all(route.downgrade is not None for route in self.routes)

    def bad_records(self) -> list[BadRecord]:
        """Return the records that did not migrate."""
        return self.bad.all()

    @metered
    async def snapshot(self, drained: Drained | None) -> None:
        """Open the window and copy; in the pause copy what was written last."""
        if drained is not None:
            for transfer in self._transfers.values():
                transfer.finish()
        else:
            self._guard.__enter__()
            for transfer in self._transfers.values():
                transfer.open()
            await self._grace()
            for name, transfer in self._transfers.items():
                self._decide(name, transfer, await transfer.copy(self._slices, self._grace))
            await self._slices.run(parts_shared_steps(self.module, self._family))
        await self._small.snapshot(drained)

    @metered
    async def migrate(self, drained: Drained | None) -> None:
        """Upgrade the small rest; records were upgraded as they were copied."""
        await self._small.migrate(drained)

    @metered
    async def restore(self, drained: Drained | None) -> None:
        """Show the candidate its copy; in the pause, give it the tables themselves."""
        await self._small.restore(drained)
        if drained is None:
            shown = {name: one.rehearsed() for name, one in self._transfers.items()}
            self._new.assign(shown)
            return
        for transfer in self._transfers.values():
            transfer.commit()
        self._new.assign(self._tables)

    def align(self) -> None:
        """Bring the whole copy to this moment, without giving the loop back in between."""
        for transfer in self._transfers.values():
            transfer.mirror.drain()
        self._small.align()

    @metered
    async def approach(self) -> None:
        """Copy what was written since, until little is left for the pause."""
        for name, transfer in self._transfers.items():
            self._decide(name, transfer, await transfer.copy(self._slices, self._grace))

    def digests(self) -> tuple[str, str]:
        """Digest the small rest; records are checked one by one as they are copied."""
        return self._small.digests()

    def abandon(self) -> None:
        """Put every table back as it was; what was copied is freed later, in slices."""
        try:
            for transfer in self._transfers.values():
                transfer.abandon()
            self._small.abandon()
        finally:
            self._guard.close()

    def committed(self) -> None:
        """Do nothing: the tables show the new records already."""

    async def settle(self) -> None:
        """Bring the new records to their places, and free what is left over, in slices."""
        self._guard.growth_max_bytes = None  # it is too late to refuse
        try:
            for transfer in self._transfers.values():
                if transfer.state is WindowState.COMMITTED:
                    await transfer.fold(self._slices)
                else:
                    await transfer.release(self._slices)
        finally:
            self._guard.close()

    async def follow(self, grace: Grace) -> None:
        """Keep the old records in step with what was written, in slices.

        Args:
            grace: Waits until every call that runs now in the new generation has ended.
        """
        for transfer in self._transfers.values():
            await transfer.follow(self._slices, grace)

    async def forget(self) -> None:
        """End the following: the old state is freed, in slices; in lazy mode, migrated first."""
        with CollectorGuard() if self.mode == "lazy" else nullcontext() as guard:
            slices = self._slices
            if guard is not None:
                slices = Slices(self._limits.slice_s, between=guard.breathe)
            for transfer in self._transfers.values():
                await slices.run(transfer.end_slices())
                await transfer.release(slices)

    @property
    def transfers(self) -> Mapping[str, TableTransfer]:
        """The transfer of each table, by the candidate's field."""
        return self._transfers

    def _mirrors(self) -> list[Mirror]:
        return self._family.mirrors

    def _decide(self, field: str, transfer: TableTransfer, outcome: CopyOutcome) -> None:
        """Go on when the pause stays within its budget; else say why not."""
        if outcome is CopyOutcome.READY:
            return
        statistics = transfer.statistics()
        if statistics.predicted_pause_s <= self._limits.pause_max_s:
            return
        raise MigrationError(
            f"{field} is written about as fast as it can be copied",
            module=self.module,
            found=f"{statistics.marks} records left, {statistics.predicted_pause_s:.3f} s to copy; "
            f"{', '.join(map(str, statistics.rounds))} in each round",
            expected=f"at most max_pause_s = {self._limits.pause_max_s:g}",
            do="reload when there is less traffic, or raise reload.max_pause_s",
        )
