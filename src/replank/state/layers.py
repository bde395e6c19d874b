"""How a table stays a dict while a reload works underneath it.

Theory. No step of a reload may grow with the table, so the big dict inside the table (its *base*)
must neither grow nor be copied in one go. While a window or a fold is under way the table's class
is one of those below, and its content is spread over layers:

    base    the dict storage of the table itself; its set of keys does not change
    dead    base keys that are deleted as far as users can see
    late    keys inserted since, in order; a base key deleted and inserted again is dead *and* late
    fresh   (folding only) values of the other version by key, in many small dicts

    copying  value of k = late[k], else base[k] unless dead          every write marks k dirty
    folding  value of k = fresh[k], else late[k], else base[k] unless dead

The order a user sees is always: base without dead, then late. Folding puts each fresh value where
its key already is (no growth, no change of order); settling then removes the dead from the base and
appends the late, and only that changes the base's keys.

Rules that the simulation (tests/simulation) has seen broken:
1. A key written again after its deletion goes to `late`, never to `fresh`: its small dict may have
   been folded already.
2. A key leaves `dead` in the same step in which it leaves the base.
3. Marks are only ever added to a dirty set that traffic can see, never assigned over.

All of it runs in the thread of the event loop, as the state's users do; there are no locks.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from itertools import chain, filterfalse, islice
from typing import Any

from replank.table import Table

MISSING: Any = object()
SHARDS = 251
"""Small dicts per big one. A prime, so that keys in even steps (ids by hundreds) spread too."""

STEP = 32
"""Keys between two yields: some tens of microseconds, far below a slice."""

Steps = Generator[None, None, None]
AnyTable = Table[Any, Any]


def shards() -> list[dict[Any, Any]]:
    """Return the small dicts that together stand for a big one."""
    return [{} for _ in range(SHARDS)]


class Layers:
    """What is kept beside the base while the table is not in steady state."""

    __slots__ = (
        "bring",
        "closed",
        "dead",
        "dirty",
        "epoch",
        "fresh",
        "late",
        "saved",
        "size",
        "steady",
        "table",
        "tail",
        "touched",
    )

    def __init__(self, table: AnyTable) -> None:
        self.table = table
        self.steady = type(table).__replank_steady__ or type(table)
        self.bring: Callable[[Any, Any], Any] | None = None
        """Makes the new value from a key and its old one, in lazy mode (`lazy.py`)."""
        self.dead: set[Any] = set()
        self.late: dict[Any, Any] = {}
        self.fresh: list[dict[Any, Any]] = []
        self.dirty: set[Any] = set()
        """Keys written since somebody last took the set."""
        self.touched: dict[int, Any] | None = None
        """Values handed out, by id, when they cannot be watched themselves; None when they can.

        Values and not keys: who changes an object may have got it under a key that is gone.
        """
        self.size = dict.__len__(table)
        self.epoch = 0
        """Raised when the base's keys change under running iterations."""
        self.closed = False
        self.saved: tuple[dict[Any, Any], set[Any], int] | None = None
        """`late`, `dead` and `size` as they were at the commit, once something changed them."""
        self.tail: tuple[int, Iterator[Any]] | None = None

    def enter(self, mixin: type[AnyTable]) -> None:
        """Switch the table to the class that works with these layers in the mixin's way."""
        kind = phase_class(self.steady, mixin)
        self.table._layers = self
        self.table.__class__ = kind

    def leave(self) -> None:
        """Switch the table back to its own class: from here on it costs nothing again."""
        assert not self.dead
        assert not self.late
        assert not any(self.fresh)
        self.closed = True
        self.epoch += 1
        self.table.__class__ = self.steady
        del self.table._layers

    def stamp(self) -> tuple[int, int]:
        """What an iteration compares to see that keys changed their place."""
        return self.epoch, len(self.late)

    def current(self, key: Any) -> Any:
        """The value a user of an open window sees, or MISSING; looking here is no reading."""
        value = self.late.get(key, MISSING)
        if value is MISSING and key not in self.dead:
            value = dict.get(self.table, key, MISSING)
        return value

    def length(self) -> int:
        """The number of items a user sees."""
        return len(self.table) if self.closed else self.size

    def sequence(self) -> Iterator[Any]:
        """The keys in the order a user sees, good until the stamp changes."""
        if self.closed:
            return iter(self.table)
        live = filterfalse(self.dead.__contains__, dict.__iter__(self.table))
        return chain(live, iter(self.late))

    def backwards(self) -> Iterator[Any]:
        """The keys from the last to the first."""
        if self.closed:
            return reversed(self.table)
        live = filterfalse(self.dead.__contains__, dict.__reversed__(self.table))
        return chain(reversed(self.late), live)

    def last(self) -> Any:
        """The last key, or MISSING; popping one by one stays cheap however many are dead."""
        if self.late:
            return next(reversed(self.late))
        if self.tail is None or self.tail[0] != self.epoch:
            self.tail = (self.epoch, dict.__reversed__(self.table))
        for key in self.tail[1]:
            if key not in self.dead:
                self.tail = (self.epoch, chain((key,), self.tail[1]))
                return key
        self.tail = None
        return MISSING

    def note(self, value: Any) -> None:
        """Count a value that a caller now holds as written, when values cannot be watched."""
        if self.touched is not None:
            self.touched[id(value)] = value

    def save(self) -> None:
        """Keep what an undo needs before the first change of keys after a commit."""
        if self.saved is None:
            self.saved = (self.late.copy(), self.dead.copy(), self.size)

    def settle_steps(self, step: int = STEP) -> Steps:
        """Bring the base's keys up to date in small steps; traffic may go on between them."""
        while self.dead or self.late:
            self.epoch += 1
            if self.dead:
                for _ in range(min(step, len(self.dead))):
                    dict.pop(self.table, self.dead.pop())  # rule 2
            else:
                for key in tuple(islice(self.late, step)):
                    dict.__setitem__(self.table, key, self.late.pop(key))
            if self.dead or self.late:  # else it is over, before traffic can add to it again
                yield


_phase_classes: dict[tuple[type[AnyTable], type[AnyTable]], type[AnyTable]] = {}
"""Process-wide: two windows of one kind on one class of table share the class they switch to."""


def phase_class(steady: type[AnyTable], mixin: type[AnyTable]) -> type[AnyTable]:
    """Return the class of an open window for tables of a class.

    A user's own subclass comes first in the method order: what it overrides still runs, and its
    `super()` reaches the layers.
    """
    if steady is Table:
        return mixin
    found = _phase_classes.get((steady, mixin))
    if found is None:
        namespace = {"__slots__": (), "__module__": mixin.__module__, "__replank_steady__": steady}
        found = type(f"{mixin.__name__}[{steady.__name__}]", (steady, mixin), namespace)
        _phase_classes[steady, mixin] = found
    return found


def walk(layers: Layers, pick: Callable[[Any], Any], *, backwards: bool = False) -> Iterator[Any]:
    """Iterate over what a user sees, as a dict would, through every change of layers.

    When the base's keys moved under it (a window was abandoned or a fold settled between two
    items) the iteration finds its place again behind the item it gave last.
    """
    size = layers.length()
    start = layers.backwards if backwards else layers.sequence
    source, stamp, last = start(), layers.stamp(), MISSING
    while True:
        if layers.length() != size:
            raise RuntimeError("dictionary changed size during iteration")
        if layers.stamp() != stamp:
            source, stamp = start(), layers.stamp()
            if last is not MISSING and not any(key is last or key == last for key in source):
                raise RuntimeError("dictionary keys changed during iteration")
        key = next(source, MISSING)
        if key is MISSING:
            return
        last = key
        yield pick(key)
