r"""Lazy mode: nothing is kept of the copy, and each record becomes a new one when it is first used.

For a state that there is no memory for twice. The window is the same as ever: every record is
migrated and checked while the old version serves, and what was written since is checked again in
the pause; only that what was made is dropped. After the commit the old records lie where they
always were, and the table makes the new one of each as somebody asks for it:

    bringing  value of k = fresh[k], else the new one of late[k] or base[k]; it is kept in `fresh`

Rules:
1. Whatever is in `fresh` is new, whatever is in the base or in `late` is old. A key that the new
   version inserts has its value in `fresh`, and None in `late`, which then only holds its place.
2. The same old object under several keys becomes one new object under all of them, and under all
   of them at once: in a rollback they must not part.

    commit -> fold_slices -> (probation) -> end_slices -> done
                                  |
                                rollback -> fold_slices

In probation only what is used is migrated, and its old record is kept beside it: the way back is
the follower's. After it `end_slices` brings the rest, in slices, and frees each old record as it
does; then the new ones are folded into the base.
"""

# the classes of one table's reload know each other

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from replank.errors import MigrationError
from replank.state.collector import release_in_slices
from replank.state.follower import Follower
from replank.state.layers import MISSING, SHARDS, STEP, Steps, shards
from replank.state.mirror import Mirror
from replank.state.rehearsed import RehearsedTable
from replank.state.switch import Switch
from replank.state.tables import FoldingTable, LayeredTable
from replank.state.transfer import TableTransfer
from replank.state.views import ItemsView, KeysView, ValuesView
from replank.state.watching import quiet
from replank.state.window import Window, WindowState


class LazyTable(LayeredTable):
    """A table after a commit whose new records are made when they are asked for."""

    __slots__ = ()

    def _look(self, key: Any) -> Any:
        layers = self._layers
        value = layers.fresh[hash(key) % SHARDS].get(key, MISSING)
        if value is MISSING:
            old = layers.current(key)
            if old is MISSING or layers.bring is None:
                return old
            value = layers.bring(key, old)
        if layers.touched is not None:
            layers.touched[id(value)] = value
        return value

    def __contains__(self, key: Any) -> bool:
        return self._layers.current(key) is not MISSING

    def _write(self, key: Any, value: Any) -> None:
        layers = self._layers
        layers.dirty.add(key)
        if layers.touched is not None:
            layers.touched[id(value)] = value
        if layers.current(key) is MISSING:
            layers.save()
            layers.late[key] = None  # rule 1
            layers.size += 1
        layers.fresh[hash(key) % SHARDS][key] = value

    def _remove(self, key: Any) -> Any:
        if self._layers.current(key) is MISSING:
            return MISSING
        value = self._look(key)
        layers = self._layers
        layers.save()
        layers.dirty.add(key)
        layers.fresh[hash(key) % SHARDS].pop(key, None)
        if key in layers.late:
            del layers.late[key]
        else:
            layers.dead.add(key)
        layers.size -= 1
        return value


class LazyMirror(Mirror):
    """Migrates every record, and keeps nothing but who stands under several keys."""

    place: Callable[[Any, Any, Any], None]
    """Puts a new record where an old one is shown still."""

    def _walk_batch(self, items: Iterable[tuple[Any, Any]]) -> int:
        count, dead = 0, self.layers.dead
        for key, _ in items:
            count += 1
            if key not in dead:
                self.copy_key(key)
        return count

    def _put(self, key: Any, mirrored: Any) -> None:
        if mirrored is MISSING:
            self.absent.add(key)
        else:
            self.absent.discard(key)

    def _known(self, value: Any, key: Any) -> Any:
        del key
        family = self._family
        places = [
            (mirror, other)
            for mirror in family.mirrors
            for other in mirror.watch.places.keys(value)
        ]
        if len(places) > 1:
            family.shared[id(value)] = (value, places)
        return MISSING

    def twin(self, key: Any) -> Any:
        """Return what a key's record becomes: it is made now, and shown from the commit on."""
        old = self.look(key)
        made = self._family.early.get(id(old))
        if made is None:
            with quiet():
                made = self._family.early[id(old)] = (old, self._make(key, old))
        return made[1]

    def early(self) -> list[tuple[Any, Any]]:
        """Return what `twin` has made for all tables, as old and new records."""
        return list(self._family.early.values())

    def forget_early(self) -> None:
        """Forget what `twin` has made: the old records may have changed since."""
        self._family.early.clear()

    def take_twins(self, old: Any) -> list[tuple[Any, Any]]:
        """Return where an old object stands, as mirrors and keys, when that is more than once.

        It is asked once: the new object comes to all of these places.
        """
        return self._family.shared.pop(id(old), (None, []))[1]


class LazyFollower(Follower):
    """Keeps the old records of those that were used; of all others they never went away."""

    def begin(self) -> None:
        """Start following, with the table as it is."""
        self.garbage += self.mirror.watch.strays or ()
        self.mirror.watch.strays = None
        self.ready = True

    def rollback(self) -> None:
        """Let the table show the old records again, with every write since; calls wait."""
        self._require_ready()
        layers = self.layers
        assert not self.mirror.marks(), "drain() comes before rollback()"
        self.mirror.watch.stop()
        layers.touched = layers.bring = None
        layers.epoch += 1
        self.garbage += layers.fresh
        back = {key: old for key, old in self._left_out.items() if layers.current(key) is MISSING}
        self._switch = Switch(layers)
        self._switch.commit(self.kept, self.mirror.absent, back)
        layers.saved = ({}, set(), 0)  # nobody takes a rollback back: there is nothing to save
        self.ready = False

    def stop(self) -> None:
        """End the following; the window brings the rest."""
        if self._switch is None:
            self.ready = False
        super().stop()

    def _look(self, key: Any) -> Any:
        value = self.layers.fresh[hash(key) % SHARDS].get(key, MISSING)
        return self.layers.current(key) if value is MISSING else value


class LazyWindow(Window):
    """The window of one table whose records become new ones as they are used."""

    mirror_class = LazyMirror
    follower_class = LazyFollower
    shown_class = LazyTable

    mirror: LazyMirror

    def open(self) -> None:
        """Put up the barriers: from here on every write is noted."""
        super().open()
        self.mirror.place = self._place

    def finish(self) -> int:
        """Check what is still marked; calls wait. Return how many keys that were."""
        self.mirror.forget_early()
        return super().finish()

    def commit(self) -> None:
        """Let the table show new records; calls wait, and the journal decides."""
        super().commit()
        self.layers.bring = self._bring
        for old, new in self.mirror.early():
            for key in self.mirror.watch.places.keys(old):
                if self.layers.current(key) is old:
                    self._place(key, new, old)

    def undo(self) -> None:
        """Take the commit back: the old records show again, with every write up to it."""
        self._require(WindowState.COMMITTED)
        self.layers.bring = None
        super().undo()
        self.garbage += self.mirror.target
        self.mirror.target = shards()

    def fold_slices(self) -> Steps:
        """Free what the window has noted; without a follower, bring everything at once."""
        self._require(WindowState.COMMITTED)
        self.state = WindowState.FOLDING
        self.layers.saved = ({}, set(), 0)  # there is no undo any more, and nothing to save for it
        yield from release_in_slices(self.mirror.notes())
        if self._follower is None:
            yield from self._bring_rest()
        else:
            self._follower.begin()
        self.state = WindowState.FOLDED

    def end_slices(self) -> Steps:
        """End probation: the records that nobody has used yet are migrated, and all are folded."""
        yield from super().end_slices()
        if self.state is WindowState.FOLDED and isinstance(self.table, LazyTable):
            yield from self._bring_rest()

    def rehearsed(self) -> RehearsedTable:
        """Return what a candidate sees of the table before it serves."""
        return LazyRehearsedTable(self.mirror)

    def _bring(self, key: Any, old: Any) -> Any:
        with quiet():
            new = self.mirror._make(key, old)
            if new is MISSING:
                raise MigrationError(
                    f"record {key!r} migrated in the rehearsal and does not any more",
                    found="nothing in its place",
                    expected="the same new record each time",
                    do="write the step so that it depends on the record only",
                )
            self._place(key, new, old)
            for mirror, other in self.mirror.take_twins(old):  # rule 2
                if mirror.layers.current(other) is old:
                    mirror.place(other, new, old)
        return new

    def _place(self, key: Any, new: Any, old: Any) -> None:
        shard = self.layers.fresh[hash(key) % SHARDS]
        if key in shard:
            return
        shard[key] = new
        if self._follower is not None and not self._follower.stopped:
            self._follower.keep(key, new, old)

    def _bring_rest(self, step: int = STEP) -> Steps:
        """Migrate what was not used, freeing the old records; then fold the new ones in."""
        layers = self.layers
        for count, key in enumerate(self._unused()):
            self._bring(key, layers.current(key))
            if not count % step:
                layers.dirty.clear()  # nobody follows
                yield
        layers.touched = layers.bring = None
        layers.enter(FoldingTable)
        for _ in self.switch.fold_steps():
            layers.dirty.clear()
            yield
        layers.leave()

    def _unused(self) -> Iterator[Any]:
        """Yield the keys whose new records nobody has asked for; free the old ones of the others.

        Traffic goes on between two of them: no key leaves the base meanwhile, nor comes to it.
        """
        layers, table = self.layers, self.table
        for key in dict.__iter__(table):
            if key not in layers.dead and key not in layers.fresh[hash(key) % SHARDS]:
                yield key
            dict.__setitem__(table, key, None)
        for key in tuple(layers.late):
            if key in layers.late and key not in layers.fresh[hash(key) % SHARDS]:
                yield key


class LazyTransfer(LazyWindow, TableTransfer):
    """A `LazyWindow` with its work done in slices on the event loop."""


class LazyRehearsedTable(RehearsedTable):
    """As `RehearsedTable`, of which nothing was kept: each record is made when it is looked at."""

    __slots__ = ()

    def __getitem__(self, key: Any) -> Any:
        old = MISSING if key in self._mirror.absent else self._mirror.look(key)
        if old is MISSING:
            raise KeyError(key)
        with quiet():
            return self._mirror._make(key, old)

    def get(self, key: Any, default: Any = None) -> Any:
        """Return the record under a key, or the default."""
        try:
            return self[key]
        except KeyError:
            return default

    def __contains__(self, key: object) -> bool:
        return key not in self._mirror.absent and self._mirror.look(key) is not MISSING

    def __len__(self) -> int:
        return self._mirror.layers.length() - len(self._mirror.absent)

    def __bool__(self) -> bool:
        return len(self) > 0

    def __iter__(self) -> Iterator[Any]:
        absent = self._mirror.absent
        return (key for key in self._mirror.layers.sequence() if key not in absent)

    def keys(self) -> Any:
        """Return the keys."""
        return KeysView(self)

    def values(self) -> Any:
        """Return the records."""
        return ValuesView(self)

    def items(self) -> Any:
        """Return pairs of key and record."""
        return ItemsView(self)


__all__ = ["LazyTable", "LazyTransfer", "LazyWindow"]
