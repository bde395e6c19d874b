"""The way back after a commit: the old tables, kept in step by followers, serve again.

snapshot(None)    what the new version wrote is followed, in slices
snapshot(proof)   calls wait: the last writes are followed
committed()       the record is on the disk: each table shows its old records again
settle()          calls enter again: the old records are brought to their places, in slices
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from replank.state.bad_policy import BadRecord
from replank.state.eager import Down, EagerTransfer
from replank.state.follower import Follower
from replank.state.holder import Holder, Without
from replank.state.limits import StateLimits
from replank.state.meter import Meter, metered
from replank.state.parking import Parked
from replank.state.sharing import Twins
from replank.state.slices import Slices
from replank.state.transfer import Grace, TableTransfer
from replank.state.windowed import WindowedTransfer
from replank.traffic.drain import Drained


class FollowedTransfer:
    """Take a module back to its old generation, with every write since.

    Args:
        module: The module's name.
        new: The generation that serves, and is to go.
        old: The generation that is to serve again.
        down: The way of the small state.
        window: The transfer by which the state came up.
        limits: What the reload may take.
        grace: Waits until every call that runs now in the new generation has ended.
    """

    mode = "followed"

    def __init__(
        self,
        module: str,
        new: Holder,
        old: Holder,
        down: Down,
        window: WindowedTransfer,
        limits: StateLimits,
        grace: Grace,
    ) -> None:
        self._grace = grace
        self._window = window
        self.meter: Meter | None = None
        self._slices = Slices(limits.slice_s)
        self._small = EagerTransfer(
            module,
            Without(new, {route.new_field for route in window.routes}),
            Without(old, {route.old_field for route in window.routes}),
            down,
            twins=Twins(module, lambda: [one.mirror for one in self._followers().values()]),
        )

    @property
    def records(self) -> int:
        """How many records the tables and the small state hold."""
        return self._window.records

    @property
    def predicted_pause_s(self) -> float:
        """What the pause would take now, in seconds."""
        return self._small.predicted_pause_s

    @property
    def parked(self) -> Parked:
        """What the small state and the tables had no room for."""
        tables = {name: one.residue for name, one in self._window.transfers.items()}
        return dataclasses.replace(self._small.parked, tables=tables)

    @property
    def moved(self) -> frozenset[str]:
        """The tables of the generation that goes, which stay the objects that they are."""
        return frozenset(route.new_field for route in self._window.routes)

    @property
    def followed(self) -> bool:
        """Whether the version that goes is kept in step: it is not."""
        return False

    def bad_records(self) -> list[BadRecord]:
        """Return the records that did not go down; those that had not come up are back."""
        return [one for one in self._window.bad.all() if one.down]

    @metered
    async def snapshot(self, drained: Drained | None) -> None:
        """Follow what was written; in the pause, the rest of it."""
        if drained is None:
            await self.approach()
        else:
            for follower in self._followers().values():
                follower.drain()
        await self._small.snapshot(drained)

    @metered
    async def migrate(self, drained: Drained | None) -> None:
        """Take the small rest down."""
        await self._small.migrate(drained)

    @metered
    async def restore(self, drained: Drained | None) -> None:
        """Give the old generation its small state; its tables are its own still."""
        if drained is not None:
            await self._small.restore(drained)

    def align(self) -> None:
        """Do nothing: the old version is known, and is not rehearsed."""

    async def approach(self) -> None:
        """Follow what was written since, until little is left for the pause."""
        for transfer in self._window.transfers.values():
            await transfer.follow(self._slices, self._grace)

    def digests(self) -> tuple[str, str]:
        """Return nothing: records were followed one by one."""
        return "", ""

    def abandon(self) -> None:
        """Leave the new version serving, and its followers at work."""
        self._small.abandon()

    def committed(self) -> None:
        """Let every table show its old records again."""
        for follower in self._followers().values():
            follower.rollback()

    async def settle(self) -> None:
        """Bring the old records to their places, and free the new ones, in slices."""
        for transfer in self._window.transfers.values():
            await self._slices.run(transfer.follower().fold_slices())
            await transfer.release(self._slices)

    def _followers(self) -> Mapping[TableTransfer, Follower]:
        return {one: one.follower() for one in self._window.transfers.values()}
