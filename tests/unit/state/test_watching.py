"""Barriers are on a class only while somebody watches it."""

import dataclasses

import pytest

from replank.record import Record
from replank.state.watching import Places, Watch, quiet, unwatch_class, watch_class, watched_classes


class Account(Record):
    cents: int = 0


@dataclasses.dataclass(slots=True)
class Slotted:
    cents: int = 0


@dataclasses.dataclass
class Plain:
    cents: int = 0


class Own:
    def __init__(self):
        self.cents = 0

    def __setattr__(self, name, value):
        object.__setattr__(self, name, value * 2)


@pytest.mark.parametrize("cls", [Account, Slotted, Plain, Own])
def test_writes_are_noted_only_while_a_class_is_watched(cls):
    before = dict(vars(cls))
    record, sink = cls(), {}
    record.cents = 1
    watch_class(cls, sink)
    record.cents = 2
    unwatch_class(cls, sink)
    record.cents = 3

    assert sink == {id(record): record}
    assert dict(vars(cls)) == before
    assert record.cents == (6 if cls is Own else 3)
    assert watched_classes() == ()


def test_deleting_an_attribute_is_a_write():
    record, sink = Plain(), {}
    watch_class(Plain, sink)
    del record.cents
    unwatch_class(Plain, sink)

    assert id(record) in sink


def test_two_watchers_share_a_barrier_and_the_last_takes_it_off():
    record, first, second = Account(), {}, {}
    watch_class(Account, first)
    watch_class(Account, second)
    unwatch_class(Account, first)
    record.cents = 1
    assert watched_classes() == (Account,)
    unwatch_class(Account, second)

    assert not first
    assert record in second.values()
    assert watched_classes() == ()


@pytest.mark.parametrize("base_first", [True, False])
def test_a_class_and_its_base_are_watched_and_freed_in_any_order(base_first):
    class Base:
        n = 0

    class Derived(Base):
        pass

    sink = {}
    watch_class(Base, sink)
    watch_class(Derived, sink)
    record = Derived()
    record.n = 1
    assert record in sink.values()
    for cls in (Base, Derived) if base_first else (Derived, Base):
        unwatch_class(cls, sink)
    sink.clear()
    record.n = 2

    assert not sink
    assert record.n == 2
    assert "__setattr__" not in vars(Base)
    assert "__setattr__" not in vars(Derived)


def test_barriers_are_quiet_while_migration_code_runs():
    record, sink = Account(), {}
    watch_class(Account, sink)
    with quiet():
        record.cents = 1
    unwatch_class(Account, sink)

    assert not sink


def test_places_keep_every_key_of_an_object():
    places, thing = Places(), object()

    assert [places.add(thing, key) for key in ("a", "a", "b", "b", "c")] == [
        False,
        False,
        True,
        True,
        True,
    ]
    assert places.keys(thing) == ("a", "b", "c")
    assert places.keys(object()) == ()


def test_a_watch_finds_the_owner_of_a_part_even_in_a_cycle():
    class Node(Record):
        n: int
        next: "Node | None" = None

    watch = Watch()
    first = Node(1)
    first.next = second = Node(2, first)
    watch.start()
    watch.note(first, "key")
    second.n = 3
    watch.stop()

    assert watch.owners(second) == ("key",)


def test_what_cannot_be_watched_makes_the_watch_blind():
    watch = Watch()
    watch.note([1], "key")

    assert watch.blind is not None
