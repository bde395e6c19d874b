"""Keep a second set of values in step with a table's own, until a pause makes them equal.

The window mirrors the old values into the new version, the follower mirrors the new ones back.
Both do the same three things: *walk* over everything once, *catch up* with what was written in
rounds, and *drain* the rest while calls wait.

Rules:
- Marks are taken one by one (`pop`) from the sets that traffic adds to. There is no second set
  that could be assigned over the first, which is how an earlier prototype lost updates.
- A value is noted (its class gets its barrier) before it is read: a write is either in what was
  read or in the marks.
- The same object under two keys becomes one object under both. The mirrored value of another key
  may be reused only if that key carries no mark: else it was made from what lay there before.
- A mark by reading never expires while somebody may still hold what was read. It is drained in the
  pause, or after a grace period: when every call that ran at its beginning has ended.
"""

from __future__ import annotations

import enum
import time
from collections.abc import Callable, Generator, Iterable
from itertools import islice
from typing import Any

from replank.errors import MigrationError, TooManyBadRecords
from replank.state.layers import MISSING, SHARDS, STEP, Layers, Steps
from replank.state.watching import Sink, Watch, quiet

ROUNDS_MAX = 12
MARKS_LEFT = 16
"""Marks that are left for the pause in any case: a tenth of a millisecond, twice that when cold."""
PAUSE_S = 0.001
"""What marks that do not become fewer may take in the pause."""
MARKS_MAX = 2_000
"""Marks from which they are worked off during a walk: a dict of 40,000 stalls as it grows."""
SHRINK_MIN = 0.8
"""A round that leaves more than this part of the marks it began with does not converge."""


class CopyOutcome(enum.StrEnum):
    """How a copy in slices ended."""

    READY = "ready"
    """Few enough keys are left for the pause."""
    NOT_CONVERGING = "not_converging"
    """Traffic writes about as fast as is copied: the pause would hold what `marks` says."""
    NEEDS_READS = "needs_reads"
    """A value was met whose changes cannot be noticed: note reads, wait a grace period, restart."""


Copy = Generator[None, None, CopyOutcome]


class Family:
    """The mirrors of the tables of one module: an object in two tables stays one object."""

    def __init__(self) -> None:
        self.mirrors: list[Mirror] = []
        self.shared: dict[int, tuple[Any, list[tuple[Any, Any]]]] = {}
        """In lazy mode, the objects met under several keys, by id: with their mirrors and keys."""
        self.early: dict[int, tuple[Any, Any]] = {}
        """In lazy mode, the records that are made at the commit, by the old one's id: old, new."""
        self._back: Family | None = None

    def back(self) -> Family:
        """Return the family of the followers that mirror in the other direction."""
        if self._back is None:
            self._back = Family()
        return self._back


def _ignore(_: Any) -> None:
    """Do nothing."""


class Mirror:
    """One table's values, and what they are in the other version.

    Args:
        layers: The layers of the table.
        look: Return the value under a key now, or MISSING.
        convert: Make the other version's value from a key and a value; `MISSING` leaves it out.
        target: The other version's values by key, in `SHARDS` small dicts.
        family: The mirrors among which objects are shared.
        dropped: Called with each key that is no longer there.
        rewritten: Called with each written object, which may have keys that are not noted yet.
    """

    def __init__(
        self,
        layers: Layers,
        look: Callable[[Any], Any],
        convert: Callable[[Any, Any], Any],
        target: list[dict[Any, Any]],
        *,
        family: Family | None = None,
        dropped: Callable[[Any], None] = _ignore,
        rewritten: Callable[[Any], None] = _ignore,
    ) -> None:
        self.layers = layers
        self.look = look
        self.convert = convert
        self.target = target
        self.dropped = dropped
        self.rewritten = rewritten
        self.watch = Watch()
        self.absent: set[Any] = set()
        """Keys whose values the other version has no room for."""
        self.marks_max = MARKS_MAX
        self.converted = 0
        self.seconds = 0.0
        """Time spent converting and storing, without the traffic in between."""
        self.rounds: list[int] = []
        """The marks at the beginning of each round of catching up."""
        self._family = family or Family()
        self._family.mirrors.append(self)

    # The pieces: one key, one value.

    def copy_key(self, key: Any) -> None:
        """Bring the mirrored value of a key up to date after another value was put there."""
        value = self.look(key)
        if value is MISSING:
            self._drop(key)
            return
        mirrored = MISSING
        if self.watch.note(value, key) or len(self._family.mirrors) > 1:
            mirrored = self._known(value, key)
        if mirrored is MISSING:
            mirrored = self._make(key, value)
        self._put(key, mirrored)

    def copy_value(self, value: Any, key: Any) -> None:
        """Bring the mirrored value up to date under every key after an object was changed."""
        self.watch.note(value, key)  # its parts may be others now
        mirrored = self._make(key, value)
        self._put(key, mirrored)
        for mirror in self._family.mirrors:
            for other in mirror.watch.places.keys(value):
                if other is key and mirror is self:
                    continue
                if mirror.look(other) is value:
                    # Left out under one key, it is asked under each: every key counts.
                    other_made = mirror._make(other, value) if mirrored is MISSING else mirrored
                    mirror._put(other, other_made)

    def twin(self, key: Any) -> Any:
        """Return what a key's value is in the other version, or MISSING."""
        return self.target[hash(key) % SHARDS].get(key, MISSING)

    def _known(self, value: Any, key: Any) -> Any:
        """Return what the same object became under another key, when that is up to date."""
        for mirror in self._family.mirrors:
            if mirror.layers.touched is not None and id(value) in mirror.layers.touched:
                return MISSING
            for other in mirror.watch.places.keys(value):
                if mirror is self and other == key:
                    continue
                if other in mirror.layers.dirty or mirror.look(other) is not value:
                    continue
                found = mirror.target[hash(other) % SHARDS].get(other, MISSING)
                if found is not MISSING:
                    return found
        return MISSING

    def _make(self, key: Any, value: Any) -> Any:
        try:
            mirrored = self.convert(key, value)
        except Exception as error:
            raise self._explain(error, key, value) from error
        self.converted += 1
        return mirrored

    @staticmethod
    def _explain(error: Exception, key: Any, value: Any) -> MigrationError:
        """Return an error that names the key; what the migration itself said is kept."""
        if isinstance(error, TooManyBadRecords):
            return error  # it names several
        if isinstance(error, MigrationError):
            said = MigrationError(
                error.what if f"record {key!r}" in error.what else f"record {key!r}: {error.what}"
            )
            for fact in ("module", "phase", "found", "expected", "serves", "do", "location"):
                setattr(said, fact, getattr(error, fact))
            return said
        return MigrationError(
            f"record {key!r} could not be migrated: {type(error).__name__}: {error}",
            found=_short(value),
            do="correct the migration step, then reload again",
        )

    def _put(self, key: Any, mirrored: Any) -> None:
        shard = self.target[hash(key) % SHARDS]
        if mirrored is MISSING:
            shard.pop(key, None)
            self.absent.add(key)
        else:
            shard[key] = mirrored
            if self.absent:
                self.absent.discard(key)

    def _drop(self, key: Any) -> None:
        self.target[hash(key) % SHARDS].pop(key, None)
        self.absent.discard(key)
        self.dropped(key)

    # The three things.

    def marks(self) -> int:
        """How many keys and objects are known to be out of date."""
        layers = self.layers
        return len(layers.dirty) + len(self.watch.written) + len(layers.touched or ())

    def walk_steps(self, items: Iterable[tuple[Any, Any]], step: int = STEP) -> Copy:
        """Mirror the base once; the iterator must bear the traffic between two steps."""
        source = iter(items)
        while True:
            with quiet(), _Stopwatch(self):
                count = self._walk_batch(islice(source, step))
            if self._is_blind():
                return CopyOutcome.NEEDS_READS
            if count < step:
                return CopyOutcome.READY
            self.ease(step)
            yield

    def _walk_batch(self, items: Iterable[tuple[Any, Any]]) -> int:
        """As `copy_key` for items as they lie in the base, without its questions."""
        dead, target, note, convert = self.layers.dead, self.target, self.watch.note, self.convert
        several = len(self._family.mirrors) > 1
        key = value = None
        count = 0
        try:
            for key, value in items:
                count += 1
                if key in dead:
                    continue
                if note(value, key) or several:
                    self.copy_key(key)
                    continue
                mirrored = convert(key, value)
                if mirrored is MISSING:
                    self._put(key, mirrored)
                else:
                    target[hash(key) % SHARDS][key] = mirrored
        except Exception as error:
            raise self._explain(error, key, value) from error
        self.converted += count
        return count

    def catch_up_steps(self, limit: int, pause_s: float, step: int = STEP) -> Copy:
        """Mirror what was written, in rounds, until few marks are left or they stay many.

        Args:
            limit: Marks that may be left for the pause in any case.
            pause_s: Marks that do not become fewer may be left when they take no longer, in
                seconds.
            step: Marks between two yields.
        """
        previous = 0.0
        for _ in range(ROUNDS_MAX):
            marked = self._unread_marks()
            self.rounds.append(marked)
            if marked <= limit:
                return CopyOutcome.READY
            if previous and marked > previous * SHRINK_MIN:
                break
            previous = marked
            for begin in range(0, marked, step):
                self.copy_marked(min(step, marked - begin))
                if self._is_blind():
                    return CopyOutcome.NEEDS_READS
                yield
        short = self.predicted_pause_s() <= pause_s
        return CopyOutcome.READY if short else CopyOutcome.NOT_CONVERGING

    def ease(self, step: int = STEP) -> None:
        """Work off some marks during other work when there are many."""
        if self._unread_marks() > self.marks_max:
            self.copy_marked(2 * step)

    def copy_marked(self, count: int) -> int:
        """Mirror at most so many marked keys and objects; return how many there were."""
        dirty, written = self.layers.dirty, self.watch.written
        done = 0
        with quiet(), _Stopwatch(self):
            while done < count and dirty:
                self.copy_key(dirty.pop())
                done += 1
            while done < count and written:
                self._copy_written(written.popitem()[1])
                done += 1
        return done

    def take_read(self) -> Sink:
        """Return the values read so far and begin anew.

        Wait a grace period, then give them to `copy_read_steps`: nobody holds them any more,
        unless they were read again.
        """
        touched = self.layers.touched
        if touched is None:
            return {}
        self.layers.touched = {}
        return touched

    def copy_read_steps(self, values: Sink, step: int = STEP) -> Steps:
        """Mirror values that were only read, and may have changed unseen; empties the dict."""
        while values:
            with quiet(), _Stopwatch(self):
                for _ in range(min(step, len(values))):
                    self._copy_written(values.popitem()[1])
            yield

    def drain(self) -> int:
        """Mirror everything that is still marked, in one go: calls wait; return how many."""
        done = self.copy_marked(self.marks())
        touched = self.layers.touched
        with quiet(), _Stopwatch(self):
            while touched:
                self._copy_written(touched.popitem()[1])
                done += 1
        return done

    def notes(self) -> list[Any]:
        """Return the containers that say what is where, to be freed in slices; they are gone."""
        return [*self.watch.places.take(), *self.watch.parts.take()]

    def containers(self) -> list[Any]:
        """Return everything of this mirror that is as large as the table, to be freed in slices."""
        return [*self.target, *self.notes()]

    def predicted_pause_s(self) -> float:
        """What `drain` would take now, by what a record has cost so far, in seconds."""
        return self.marks() * self.seconds / max(1, self.converted)

    def _copy_written(self, value: Any) -> None:
        self.rewritten(value)
        for key in self.watch.places.keys(value):
            if self.look(key) is value:
                self.copy_value(value, key)  # under its other keys, too
                break
        for key in self.watch.owners(value):
            owner = self.look(key)
            if owner is not MISSING:
                self.copy_value(owner, key)

    def _unread_marks(self) -> int:
        return len(self.layers.dirty) + len(self.watch.written)

    def _is_blind(self) -> bool:
        return self.watch.blind is not None and self.layers.touched is None


class _Stopwatch:
    """Add the time inside to what the mirror has spent."""

    __slots__ = ("_begin", "_mirror")

    def __init__(self, mirror: Mirror) -> None:
        self._mirror = mirror
        self._begin = 0.0

    def __enter__(self) -> None:
        self._begin = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._mirror.seconds += time.perf_counter() - self._begin


def _short(value: Any, limit: int = 200) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."
