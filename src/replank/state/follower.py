r"""After a commit: the old state is kept in step with every write that the new version accepts.

So a rollback in probation needs no migration of its own: it drains the few marks that are left and
switches the table to the old records, in a time that does not grow with what was written. What
the old version has no room for is parked in a residue and comes back with a later upgrade.

    start -> (the window folds) -> begin -> follow_slices, again and again
                                              |-> drain -> rollback -> fold_slices
                                              `-> stop (probation is over)

The old record of a key lies in the table's own layers until the window has folded it, and in `kept`
from then on, or from when the follower made another. New records are known by key from their
fold on; what is written before that waits among the strays, by which the fold knows it again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from replank.errors import InternalError
from replank.state.bad_policy import BadTable
from replank.state.kinds import Inside, Tracking, declared_classes, kind_of
from replank.state.layers import MISSING, SHARDS, Layers, Steps, shards
from replank.state.mirror import MARKS_LEFT, PAUSE_S, Copy, Family, Mirror
from replank.state.residue import PARKED, Residue, reader_of
from replank.state.switch import Switch
from replank.state.tables import FollowedTable, ReadFollowedTable


class Follower:
    """Mirror a table's new records back into old ones.

    Args:
        layers: The layers of the table, from the window that committed.
        upgrade: Make a new record from an old one: shows what does not come back.
        downgrade: Make the old record from a new one and the old one kept, or None.
        residue: Where to park what the old version has no room for.
        family: The followers among which objects keep their identity.
        bad: Decides about records that do not go down; without it the first one raises.
    """

    def __init__(
        self,
        layers: Layers,
        upgrade: Callable[[Any], Any],
        downgrade: Callable[[Any, Any], Any],
        *,
        residue: Residue,
        family: Family | None = None,
        bad: BadTable | None = None,
    ) -> None:
        self.layers = layers
        self.residue = residue
        self.kept = shards()
        """The old records by key."""
        self.ready = False
        """Whether the fold is done, so that following and rolling back are possible."""
        self.stopped = False
        self.garbage: list[Any] = []
        self._upgrade = upgrade
        self._downgrade = downgrade
        self._bad = bad
        self._left_out: dict[Any, Any] = {}
        self._readers: dict[type, Callable[[Any], Any]] = {}
        self._table = layers.table
        self._switch: Switch | None = None
        self.mirror = Mirror(
            layers,
            self._look,
            self._down,
            self.kept,
            family=family,
            dropped=self._forget,
            rewritten=self._stray,
        )

    @staticmethod
    def needs_reads(value_class: type) -> bool:
        """Whether changes of new values of a class can be missed when only writes are noted."""
        kind = kind_of(value_class)
        return kind.declared is Tracking.READS or kind.inside is Inside.ATTRIBUTES

    def learn(self, classes: Iterable[type]) -> None:
        """Look at the classes of the new records and what they hold, before the pause."""
        for cls in classes:
            for inner in (cls, *declared_classes(cls)):
                if not self.mirror.watch.knows(inner):
                    self.mirror.watch.learn(inner)

    def start(self, left_out: Mapping[Any, Any], *, reads: bool) -> None:
        """Note what is written from the commit on.

        Args:
            left_out: Old records that the new version has no room for; they return in a rollback.
            reads: Whether what is read counts as written.
        """
        self._left_out = dict(left_out)
        self.layers.touched = {} if reads else None
        self.mirror.watch.strays = shards()
        self.mirror.watch.start()

    def keep(self, key: Any, new: Any, old: Any) -> None:
        """Take over an old record that the fold displaced."""
        self.kept[hash(key) % SHARDS].setdefault(key, old)
        watch = self.mirror.watch
        watch.met_stray = False
        if watch.note(new, key) or watch.met_stray:
            self.layers.dirty.add(key)  # written, as itself or by a part or under another key

    def begin(self) -> None:
        """Start following: the fold is done and the base is a plain dict of new records again."""
        layers = self.layers
        layers.size = dict.__len__(self._table)
        layers.epoch += 1
        if layers.touched is None:
            layers.closed = True  # running iterations go on with the table itself
            layers.enter(FollowedTable)
        else:
            layers.enter(ReadFollowedTable)
        self.garbage += self.mirror.watch.strays or ()
        self.mirror.watch.strays = None
        self.ready = True

    def follow_slices(self) -> Copy:
        """Bring the old records up to date in small steps; call it again while probation lasts."""
        self._require_ready()
        return self.mirror.catch_up_steps(MARKS_LEFT, PAUSE_S)

    def marks(self) -> int:
        """How many writes are not followed yet."""
        return self.mirror.marks()

    def drain(self) -> int:
        """Follow what is still marked; calls wait. Return how many keys that were."""
        self._require_ready()
        return self.mirror.drain()

    def rollback(self) -> None:
        """Let the table show the old records again, with every write since; calls wait.

        What could not go down stays in `residue`.
        """
        self._require_ready()
        assert not self.mirror.marks(), "drain() comes before rollback()"
        self.mirror.watch.stop()
        self.layers.closed = True
        self.layers.epoch += 1
        self._switch = Switch(Layers(self._table))
        back = {key: old for key, old in self._left_out.items() if key not in self._table}
        self._switch.commit(self.kept, self.mirror.absent, back)
        self.ready = False

    def fold_slices(self) -> Steps:
        """Bring the old records to their places after a rollback, in small steps."""
        if self._switch is None:
            raise InternalError("a fold follows a rollback, and there was none")
        for _ in self._switch.fold_steps():
            self._switch.layers.dirty.clear()  # nobody follows
            yield
        self._switch.layers.leave()
        self.stopped = True
        self.garbage += self.mirror.containers()

    def stop(self) -> None:
        """End probation: the table costs nothing again; the old records are left to be freed."""
        if self.stopped or self._switch is not None:
            return
        self.mirror.watch.stop()
        self.stopped = True
        if self.ready:
            self.layers.leave()
        self.ready = False
        self.garbage += self.mirror.containers()

    def _look(self, key: Any) -> Any:
        if self.ready:
            return dict.get(self._table, key, MISSING)
        value = self.layers.fresh[hash(key) % SHARDS].get(key, MISSING)
        return self.layers.current(key) if value is MISSING else value

    def _stray(self, new: Any) -> None:
        strays = self.mirror.watch.strays
        if strays is not None:
            number = id(new)
            strays[(number >> 4) % SHARDS][number] = new

    def _down(self, key: Any, new: Any) -> Any:
        old = self.kept[hash(key) % SHARDS].get(key)
        if old is None and key in self.layers.fresh[hash(key) % SHARDS]:
            old = self.layers.current(key)  # not folded yet
        try:
            made = self._downgrade(new, old)
            again = new if made is PARKED else self._upgrade(made)
        except Exception as error:
            if self._bad is None:
                raise
            made = self._bad.handle(key, new, error)
            again = self._upgraded(made)
        else:
            if self._bad:
                self._bad.forget(key)
        if made is PARKED:
            self.residue.park_record(key, new)
            return MISSING
        if self._comes_back(new, again):
            self.residue.forget(key)
        else:
            self.residue.park(key, new, again)
        return made

    def _comes_back(self, new: Any, again: Any) -> bool:
        """Whether going down and up again gives a record as it is: of most, nothing is parked."""
        cls = type(new)
        if type(again) is not cls:
            return False
        read = self._readers.get(cls)
        if read is None:
            read = self._readers[cls] = reader_of(cls)
        try:
            return bool(read(new) == read(again))
        except AttributeError:  # a field that nobody has set
            return False

    def _upgraded(self, mended: Any) -> Any:
        """Return what comes up again of a record that was mended, or None."""
        try:
            return self._upgrade(mended)
        except Exception:  # then nothing of it comes back with the new version
            return None

    def _forget(self, key: Any) -> None:
        self.residue.forget(key)
        if self._bad:
            self._bad.forget(key)

    def _require_ready(self) -> None:
        if not self.ready:
            raise InternalError(
                "the follower cannot follow now",
                found="the fold is not done, or probation is over",
                do="finish fold_slices() first",
            )


__all__ = ["PARKED", "Follower", "Residue"]
