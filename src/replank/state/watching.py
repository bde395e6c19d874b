"""What notes changes of the values themselves: barriers on their classes, and who holds them.

A barrier is a `__setattr__` (and `__delattr__`) put on the class for the window and taken off
again: 9 ns a write before, some 250 ns in the window, 9 ns after. It is shared by all windows that
watch the class and counted. While migration code runs the barriers are quiet, or every record
that a round-trip check builds would count as written by the users.

What a barrier does not see: `object.__setattr__(value, ...)`, `vars(value)[...] = ...` and C code.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from replank.state.kinds import Inside, Kind, Tracking, kind_of
from replank.state.layers import MISSING, SHARDS, shards

Sink = dict[int, Any]
"""Objects written, by id; it holds them, so that no id is given twice."""


class _Gate:
    """How many pieces of migration code run just now: above zero the barriers are quiet."""

    __slots__ = ("depth",)

    def __init__(self) -> None:
        self.depth = 0


_gate: Final = _Gate()


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the barriers from noting what is done inside; never await in it."""
    _gate.depth += 1
    try:
        yield
    finally:
        _gate.depth -= 1


class ClassBarrier:
    """The barrier on one class, for as many sinks as watch it."""

    def __init__(self, cls: type) -> None:
        self.cls = cls
        self.sinks: list[Sink] = []
        self._own = {
            name: cls.__dict__[name]
            for name in ("__setattr__", "__delattr__")
            if name in cls.__dict__
        }

    def install(self) -> None:
        """Put the hooks on the class."""
        # The inherited ones: a msgspec Struct refuses object.__setattr__.
        set_before: Any = self.cls.__setattr__
        delete_before: Any = self.cls.__delattr__
        sinks, gate = self.sinks, _gate

        def note_set(self: Any, name: str, value: Any) -> None:
            if not gate.depth:
                for sink in sinks:
                    sink[id(self)] = self
            set_before(self, name, value)

        def note_delete(self: Any, name: str) -> None:
            if not gate.depth:
                for sink in sinks:
                    sink[id(self)] = self
            delete_before(self, name)

        setattr(self.cls, "__setattr__", note_set)  # noqa: B010  # mypy: assigning a method
        setattr(self.cls, "__delattr__", note_delete)  # noqa: B010

    def remove(self) -> None:
        """Take the hooks off again: the class is as it was."""
        for name in ("__setattr__", "__delattr__"):
            if name in self._own:
                setattr(self.cls, name, self._own[name])
            else:
                delattr(self.cls, name)


_barriers: dict[type, ClassBarrier] = {}
"""Process-wide, for classes are: the barriers that are installed now."""


def watch_class(cls: type, sink: Sink) -> None:
    """Have the writes to objects of a class noted in a sink."""
    barrier = _barriers.get(cls)
    if barrier is None:
        barrier = ClassBarrier(cls)
        barrier.install()
        _barriers[cls] = barrier
    barrier.sinks.append(sink)


def unwatch_class(cls: type, sink: Sink) -> None:
    """End `watch_class`; the last one takes the barrier off the class."""
    barrier = _barriers[cls]
    barrier.sinks[:] = [other for other in barrier.sinks if other is not sink]
    if not barrier.sinks:
        del _barriers[cls]
        barrier.remove()


def watched_classes() -> tuple[type, ...]:
    """Return the classes that carry a barrier now; empty when no reload runs."""
    return tuple(_barriers)


class _Keys(list[Any]):
    """Several keys in the place of one."""


class Places:
    """Under which keys an object is found, in many small dicts by id.

    An entry may be out of date: ask what is under the key now before using it.
    """

    __slots__ = ("_shards",)

    def __init__(self) -> None:
        self._shards = shards()

    def add(self, value: Any, key: Any) -> bool:
        """Note a key; return whether the object was known under another one."""
        number = id(value)
        shard = self._shards[(number >> 4) % SHARDS]
        known = shard.get(number, MISSING)
        if known is MISSING:
            shard[number] = key
            return False
        if known is key:
            return False
        if type(known) is not _Keys:
            if known == key:
                return False
            shard[number] = _Keys((known, key))
            return True
        if key not in known:
            known.append(key)
        return True

    def keys(self, value: Any) -> tuple[Any, ...]:
        """Return the keys noted for an object."""
        return self.keys_at(id(value))

    def keys_at(self, number: int) -> tuple[Any, ...]:
        """Return the keys noted for an object's id; it may be another object's by now."""
        known = self._shards[(number >> 4) % SHARDS].get(number, MISSING)
        if known is MISSING:
            return ()
        return tuple(known) if type(known) is _Keys else (known,)

    def at(self, index: int) -> dict[int, Any]:
        """Return one of the small dicts: keys by ids."""
        return self._shards[index]

    def several(self, index: int) -> list[int]:
        """Return the ids in one of the small dicts that were noted under several keys."""
        return [number for number, known in self._shards[index].items() if type(known) is _Keys]

    def take(self) -> list[Any]:
        """Return the small dicts, to be freed in slices, and begin anew."""
        taken, self._shards = self._shards, shards()
        return taken


class Watch:
    """All that is noticed about the values of one table, and where they are in it."""

    def __init__(self) -> None:
        self.written: Sink = {}
        self.places = Places()
        self.parts = Places()
        self.blind: Kind | None = None
        """A kind met that cannot be watched by its writes; the table's reads must be noted."""
        self.has_parts = False
        """Whether any record holds something that may change on its own."""
        self.on = False
        self.strays: list[dict[int, Any]] | None = None
        """Objects written before all their keys were known; `note` says when it meets one."""
        self.met_stray = False
        self._kinds: dict[type, Kind] = {}
        self._classes: list[type] = []

    def start(self) -> None:
        """Note writes from now on."""
        self.on = True
        for cls in self._classes:
            watch_class(cls, self.written)

    def stop(self) -> None:
        """Take this watch off all classes; it can be started again."""
        if self.on:
            self.on = False
            for cls in self._classes:
                unwatch_class(cls, self.written)
        self.written.clear()

    def knows(self, cls: type) -> bool:
        """Whether a class was looked at already."""
        return cls in self._kinds

    def learn(self, cls: type) -> Kind:
        """Look at a class for the first time, and put the barrier on it."""
        kind = self._kinds[cls] = kind_of(cls)
        if kind.own is Tracking.READS:
            self.blind = kind
        elif kind.own is Tracking.WRITES:
            self._classes.append(cls)
            if self.on:
                watch_class(cls, self.written)
        return kind

    def note(self, value: Any, key: Any) -> bool:
        """Remember that a value is under a key; called before it is read for copying.

        Returns:
            Whether the same object was seen under another key. Values that cannot change have no
            identity worth keeping and are never the same.
        """
        cls = type(value)
        kind = self._kinds.get(cls) or self.learn(cls)
        if self.strays is not None:
            self._meet(value)
        if kind.inside is not Inside.NOTHING:
            self._note_parts(value, key, kind)
        if kind.own is not Tracking.FROZEN:
            return self.places.add(value, key)
        if kind.inside is not Inside.NOTHING:
            self.places.add(value, key)  # only to find it by what it holds
        return False

    def _meet(self, thing: Any) -> None:
        number = id(thing)
        if self.strays is not None and number in self.strays[(number >> 4) % SHARDS]:
            self.met_stray = True

    def _note_parts(self, value: Any, key: Any, kind: Kind) -> None:
        """Remember whose parts the objects inside a value are; cycles end at the second visit."""
        seen = {id(value)}
        waiting = [(value, kind)]
        while waiting:
            owner, owner_kind = waiting.pop()
            for part in owner_kind.parts(owner):
                cls = type(part)
                part_kind = self._kinds.get(cls) or self.learn(cls)
                if part_kind.atom or id(part) in seen:
                    continue
                seen.add(id(part))
                self._meet(part)
                if part_kind.own is not Tracking.FROZEN:
                    self.has_parts = True
                    self.parts.add(part, key)
                if part_kind.inside is not Inside.NOTHING:
                    waiting.append((part, part_kind))

    def part(self, value: Any, number: int) -> Any:
        """Return what a value holds inside under an id, or None."""
        seen = {id(value)}
        waiting = [value]
        while waiting:
            owner = waiting.pop()
            for part in self._kind(type(owner)).parts(owner):
                if id(part) == number:
                    return part
                if id(part) not in seen and not self._kind(type(part)).atom:
                    seen.add(id(part))
                    waiting.append(part)
        return None

    def _kind(self, cls: type) -> Kind:
        return self._kinds.get(cls) or self.learn(cls)

    def owners(self, part: Any) -> tuple[Any, ...]:
        """Return the keys whose values hold a written object inside."""
        return self.parts.keys(part)
