"""One table through a whole reload: what the state manager drives.

The table stays the *same object* for both versions: its module fields refer to it before and after.
`commit` changes what it shows. That keeps promise 2 (before the fold the old records are where they
always were, and taking the commit back is one class switch), lets a rollback be the same switch in
the other direction, and needs no second big dict, whose growth alone would stall requests for more
than 20 ms at 1 M records. One consequence: a call detached from the old generation that still
holds the table sees the new records; give it no table.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from replank.state.collector import release_in_slices
from replank.state.mirror import CopyOutcome, Mirror
from replank.state.slices import Slices
from replank.state.window import Window, WindowState

Grace = Callable[[], Awaitable[object]]
"""Return when every call that runs at its beginning has ended."""


class TransferStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """How far the transfer of one table is, and what it cost."""

    state: str
    records: int
    converted: int = 0
    """Records migrated, those written in the window more than once."""
    left_out: int = 0
    marks: int = 0
    """Writes that are not copied yet."""
    rounds: tuple[int, ...] = ()
    """Marks at the beginning of each round."""
    convert_s: float = 0.0
    """Time spent migrating and storing, without the traffic between slices."""
    predicted_pause_s: float = 0.0
    reads_count: bool = False
    """Whether what is read counts as written."""
    parked: int = 0
    """Keys with data in the residue."""


class TableTransfer(Window):
    """The window of one table with its work done in slices on the event loop.

    See `Window` for the arguments and for `open`, `finish`, `commit`, `undo` and `abandon`, which
    are plain functions: the first and the last are quick, the others run while calls wait.
    """

    async def copy(self, slices: Slices, grace: Grace | None = None) -> CopyOutcome:
        """Copy everything, then what was written meanwhile; again to catch up before the pause.

        Args:
            slices: Runs the steps between traffic.
            grace: Waits for the calls that run now; needed for values whose changes cannot be
                noticed, which are otherwise left for the pause or refused.

        Returns:
            READY, NOT_CONVERGING (the caller decides by `statistics().predicted_pause_s`) or
            NEEDS_READS (only without `grace`).

        Raises:
            MigrationError: A record cannot be migrated; `abandon` what was begun.
        """
        outcome = await slices.run(self.copy_slices())
        if outcome is CopyOutcome.NEEDS_READS and grace is not None:
            self.note_reads()
            await grace()
            outcome = await slices.run(self.copy_slices())
        if grace is not None:
            await self._copy_read(slices, grace, self.mirror)
        return outcome

    async def follow(self, slices: Slices, grace: Grace) -> None:
        """Bring the old records in step with what was written since the commit.

        Args:
            slices: Runs the steps between traffic.
            grace: Waits for the calls that run now: what they have read may change until then.

        Raises:
            MigrationError: A new record does not go down.
        """
        follower = self.follower()
        await slices.run(follower.follow_slices())
        await self._copy_read(slices, grace, follower.mirror)

    async def _copy_read(self, slices: Slices, grace: Grace, mirror: Mirror) -> None:
        """Mirror again what was read before, once nobody can hold it any more."""
        if not self.layers.touched:
            return
        values = mirror.take_read()
        try:
            await grace()
            await slices.run(mirror.copy_read_steps(values))
        except BaseException:
            if self.layers.touched is not None:
                self.layers.touched |= values  # they may still change: left for the pause
            raise

    async def fold(self, slices: Slices) -> None:
        """Bring the new records to their places while the new version serves, then free."""
        await slices.run(self.fold_slices())
        await self.release(slices)

    async def release(self, slices: Slices) -> None:
        """Free what the transfer has left over; after `abandon`, `fold` or the end of probation."""
        garbage, self.garbage = self.garbage, []
        if self._follower is not None and self._follower.stopped:
            garbage += self._follower.garbage
            self._follower.garbage = []
        await slices.run(release_in_slices(garbage))

    def statistics(self) -> TransferStatistics:
        """Return how far the transfer is."""
        if self.state is WindowState.NEW:
            return TransferStatistics(state=str(self.state), records=len(self.table))
        mirror = self.mirror
        return TransferStatistics(
            state=str(self.state),
            records=len(self.table),
            converted=mirror.converted,
            left_out=len(mirror.absent),
            marks=mirror.marks() if self.state is WindowState.OPEN else 0,
            rounds=tuple(mirror.rounds),
            convert_s=mirror.seconds,
            predicted_pause_s=mirror.predicted_pause_s(),
            reads_count=self.layers.touched is not None,
            parked=len(self.residue),
        )
