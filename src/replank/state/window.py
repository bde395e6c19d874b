r"""The window of one table: its records are copied and migrated while the old version serves.

    open -> copy_slices (may be repeated) -> finish -> commit -> fold_slices -> folded
      \______________ abandon ______________/   \__ undo __/

`finish` and `commit` are all that happens while calls wait: the records written last, and one class
switch. Everything before them can be abandoned without a trace, `commit` can be undone until the
fold begins; after that the way back is the follower's rollback.

The caller waits one grace period between `open` and `copy_slices`: until every call that ran when
the window opened has ended. Such a call may hold records that it got when nothing was noted.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any, ClassVar

from replank.errors import InternalError, UsageError
from replank.state.bad_policy import BadTable
from replank.state.collector import release_in_slices
from replank.state.follower import PARKED, Follower, Residue
from replank.state.kinds import Tracking, classify
from replank.state.layers import MISSING, Layers, Steps, shards
from replank.state.mirror import MARKS_LEFT, PAUSE_S, Copy, CopyOutcome, Family, Mirror
from replank.state.rehearsed import RehearsedTable
from replank.state.switch import Switch
from replank.state.tables import CopyingTable, FoldingTable, LayeredTable
from replank.table import Table

Upgrade = Callable[[Any], Any]
Downgrade = Callable[[Any, Any], Any]


class WindowState(enum.StrEnum):
    """Where a window stands."""

    NEW = "new"
    OPEN = "open"
    COMMITTED = "committed"
    FOLDING = "folding"
    FOLDED = "folded"
    ABANDONED = "abandoned"


class Window:
    """Copy one table into the other version's values, and switch it to them.

    Args:
        table: The table; it stays the same object before, during and after.
        upgrade: Make the new record from an old one, without touching the old; or return `PARKED`
            to leave it out (it returns in a rollback). It runs for each record, and again for
            those written meanwhile.
        downgrade: Make the old record from a new one and the old one kept, or None; return
            `PARKED` when the old version has no room for it. Without it there is no follower.
        old_type: Annotated type of the old values; unknown types are looked at as they come.
        new_type: The same of the new values.
        residue: What an earlier rollback parked; merged into the new records.
        family: Windows among which objects keep their identity: those of one module.
        limit: Marks that may be left for the pause in any case.
        pause_s: What the marks that are left may take in the pause, in seconds.
        parking: Where to park what the new version has no room for: it is an older one.
        bad: Decides about records that do not migrate; without it the first one raises.
        bad_down: The same for the follower.
    """

    mirror_class: ClassVar[type[Mirror]] = Mirror
    follower_class: ClassVar[type[Follower]] = Follower
    shown_class: ClassVar[type[LayeredTable]] = FoldingTable
    """The class of the table from the commit on."""

    def __init__(
        self,
        table: Table[Any, Any],
        upgrade: Upgrade,
        *,
        downgrade: Downgrade | None = None,
        old_type: Any = None,
        new_type: Any = None,
        residue: Residue | None = None,
        family: Family | None = None,
        limit: int = MARKS_LEFT,
        pause_s: float = PAUSE_S,
        parking: Residue | None = None,
        bad: BadTable | None = None,
        bad_down: BadTable | None = None,
    ) -> None:
        self.table = table
        self.state = WindowState.NEW
        self.residue = Residue() if residue is None else residue
        self._follower: Follower | None = None
        self._new_reads: bool | None = None
        self.garbage: list[Any] = []
        """What is left to free, in slices (`collector.release_in_slices`)."""
        self._upgrade = upgrade
        self._downgrade = downgrade
        self._old_type = old_type
        self._new_type = new_type
        self._family = family
        self._limit = limit
        self._pause_s = pause_s
        self.parking = None if downgrade is None else parking
        self._bad = bad
        self._bad_down = bad_down
        self._made: set[type] = set()
        self._learned: set[type] = set()
        self._walked = False
        self._reads = False
        self._merging = bool(self.residue)

    def open(self) -> None:
        """Put up the barriers: from here on every write is noted.

        Raises:
            UsageError: Another window or a follower is at work on the table.
        """
        self._require(WindowState.NEW)
        if hasattr(self.table, "_layers"):
            raise UsageError(
                "the table is still part of another reload",
                do="end that reload's probation first",
            )
        self.layers = Layers(self.table)
        if self._old_type is not None and classify(self._old_type) is Tracking.READS:
            self.layers.touched = {}
        self.mirror = self.mirror_class(
            self.layers,
            self.layers.current,
            self._convert,
            shards(),
            family=self._family,
            dropped=self._forget,
        )
        if self._bad is not None:
            self._bad.left_out = self.mirror.absent
        self.switch = Switch(self.layers, self.shown_class)
        self.layers.enter(CopyingTable)
        self._walked = False
        self.mirror.watch.start()
        for key in self.table:  # one value teaches the most common class before the grace period
            self.mirror.watch.note(self.layers.current(key), key)
            break
        self.state = WindowState.OPEN

    def copy_slices(self) -> Copy:
        """Copy and migrate in small steps; the first time everything, then what was written.

        Returns:
            Whether the pause can begin, as the generator's value. `finish` is allowed in any case;
            `predicted_pause_s` tells what it takes.
        """
        self._require(WindowState.OPEN)
        if not self._walked:
            outcome = yield from self.mirror.walk_steps(dict.items(self.table))
            if outcome is not CopyOutcome.READY:
                return outcome
            self._walked = True
        self._prepare_follower()
        return (yield from self.mirror.catch_up_steps(self._limit, self._pause_s))

    def note_reads(self) -> None:
        """Count what is read as written from now on; wait a grace period, then copy again."""
        self._require(WindowState.OPEN)
        if self.layers.touched is None:
            self.layers.touched = {}
        self._walked = False

    def finish(self) -> int:
        """Copy what is still marked; calls wait. Return how many keys that were."""
        self._require(WindowState.OPEN)
        if not self._walked:
            for _ in self.mirror.walk_steps(dict.items(self.table)):
                pass
            self._walked = True
        drained = self.mirror.drain()
        self._prepare_follower()
        return drained

    def commit(self) -> None:
        """Let the table show the new records; calls wait, and the journal decides."""
        self._require(WindowState.OPEN)
        assert self._walked, "finish() comes before commit()"
        assert not self.mirror.marks(), "nothing may be written between finish() and commit()"
        self.mirror.watch.stop()
        self._reads = self.layers.touched is not None
        self.layers.touched = None
        extra = {
            key: value
            for key, value in self.residue.new_records(self._made)
            if self.layers.current(key) is MISSING
        }
        left_out = {key: self.layers.current(key) for key in self.mirror.absent}
        self.switch.commit(self.mirror.target, left_out, extra)
        self.layers.dirty.update(extra)  # the follower has no old record for them
        if self._follower is not None:
            self._follower.start(left_out, reads=bool(self._new_reads))
        self.state = WindowState.COMMITTED

    def undo(self) -> None:
        """Take the commit back: the old records show again, with every write up to it.

        The window is open again; a second commit copies everything anew.
        """
        self._require(WindowState.COMMITTED)
        if self._follower is not None:
            self._follower.stop()
            self._follower = None
            self._learned.clear()
        self.switch.undo()
        self._walked = False  # the candidate may have written to its records: copy them again
        self.layers.dirty.update(self.layers.late)  # which the walk over the base does not meet
        self.layers.touched = {} if self._reads else None
        self.mirror.watch.start()
        self.state = WindowState.OPEN

    def fold_slices(self) -> Steps:
        """Bring the new records to their places in small steps, while the new version serves.

        Afterwards the table is a plain one again, or the follower's when there is one.
        """
        if self.state is not WindowState.FOLDING:
            self._require(WindowState.COMMITTED)
        self.state = WindowState.FOLDING
        # There is no undo any more: make room before the follower takes its own notes.
        yield from release_in_slices(self.mirror.notes())
        follower = self._follower
        if follower is None:
            for _ in self.switch.fold_steps():
                self.layers.dirty.clear()  # nobody follows
                yield
            self.layers.leave()
        else:
            for _ in self.switch.fold_steps(follower.keep):
                follower.mirror.ease()
                yield
            follower.begin()
        self.garbage += self.mirror.target
        self.state = WindowState.FOLDED

    def end_slices(self) -> Steps:
        """End probation, in small steps: there is no way back any more."""
        if self._follower is not None:
            self._follower.stop()
        yield from ()

    def rehearsed(self) -> RehearsedTable:
        """Return what a candidate sees of the table before it serves: to be read only."""
        return RehearsedTable(self.mirror)

    def abandon(self) -> None:
        """Put everything back as it was before the window, at any point before the fold.

        The copy made so far is left in `garbage`, to be freed in slices.

        Raises:
            InternalError: Folding has begun: the way back is the follower's rollback.
        """
        if self.state in (WindowState.NEW, WindowState.ABANDONED):
            return
        if self.state is WindowState.COMMITTED:
            self.undo()
        self._require(WindowState.OPEN)
        self.mirror.watch.stop()
        self._follower = None
        for _ in self.layers.settle_steps():
            pass
        self.layers.leave()
        self.garbage += self.mirror.containers()
        self.state = WindowState.ABANDONED

    def follower(self) -> Follower:
        """Return what keeps the old state in step after the commit.

        Raises:
            UsageError: There is none: not committed yet, or the migration has no downgrade.
        """
        if self._follower is None or self.state is WindowState.OPEN:
            raise UsageError(
                "this table has no follower",
                found="no downgrade" if self._downgrade is None else f"the window is {self.state}",
                do="declare the downgrade of each migration step to make a rollback possible",
            )
        return self._follower

    def _convert(self, key: Any, old: Any) -> Any:
        try:
            new = self._upgrade(old)
        except Exception as error:
            if self._bad is None:
                raise
            new = self._bad.handle(key, old, error)
        else:
            if self._bad:
                self._bad.forget(key)
        if new is PARKED:
            return MISSING
        if self._merging:
            new = self.residue.merge(key, new)
        self._made.add(type(new))
        if self.parking is not None and self._downgrade is not None:
            self.parking.park(key, old, self._downgrade(new, None))
        return new

    def _forget(self, key: Any) -> None:
        if self._bad:
            self._bad.forget(key)
        if self.parking is not None:
            self.parking.forget(key)

    def _prepare_follower(self) -> None:
        """Do what the follower needs before the pause: looking at classes takes a while."""
        if self._downgrade is None:
            return
        if self._follower is None:
            self._follower = self.follower_class(
                self.layers,
                self._upgrade,
                self._downgrade,
                residue=self.residue,
                bad=self._bad_down,
                family=None if self._family is None else self._family.back(),
            )
            if self._new_type is not None:
                self._new_reads = classify(self._new_type) is Tracking.READS
        classes = self._made - self._learned
        self._learned |= classes
        self._follower.learn(classes)
        if self._new_type is None:
            needed = any(Follower.needs_reads(cls) for cls in classes)
            self._new_reads = needed or bool(self._new_reads)

    def _require(self, state: WindowState) -> None:
        if self.state is not state:
            raise InternalError(
                "a step of a table's window came out of order",
                found=f"the window is {self.state}",
                expected=f"it is {state}",
            )
