"""How changes of a value can be noticed follows from its class."""

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import gc
import weakref
from typing import Annotated, Any, Literal, NamedTuple, NewType

import msgspec
import pytest

from replank.record import Record
from replank.state import kinds
from replank.state.kinds import Tracking, classify, declared_classes, harder, kind_of


class Flat(Record):
    n: int
    text: str | None = None


class Frozen(msgspec.Struct, frozen=True):
    n: int


class FrozenWithList(msgspec.Struct, frozen=True):
    items: list[int]


class WithTags(Record):
    tags: list[str]


class Nested(Record):
    flat: Flat
    others: tuple[Flat, ...] = ()


class Tree(Record):
    child: "Tree | None" = None


@dataclasses.dataclass(frozen=True)
class FrozenData:
    n: int


class Point(NamedTuple):
    x: int


class Bare:
    pass


class Colour(enum.Enum):
    RED = 1


@pytest.mark.parametrize(
    ("hint", "tracking"),
    [
        (int, "frozen"), (str | None, "frozen"), (Literal["a"], "frozen"), (None, "frozen"),
        (dt.datetime, "frozen"), (decimal.Decimal, "frozen"), (Colour, "frozen"),
        (Annotated[int, "x"], "frozen"), (NewType("Cents", int), "frozen"), (Frozen, "frozen"),
        (FrozenData, "frozen"), (tuple[int, ...], "frozen"), (Flat, "writes"), (Nested, "writes"),
        (Tree, "writes"), (Flat | None, "writes"), (Bare, "writes"), (tuple[Flat, int], "writes"),
        (FrozenWithList, "reads"), (WithTags, "reads"), (list[int], "reads"), (dict, "reads"),
        (collections.deque, "reads"), (Any, "reads"), (object, "reads"), (tuple, "reads"),
        (bytearray, "reads"), (Flat | list[int], "reads"), (set, "reads"),
    ],
)  # fmt: skip
def test_a_type_is_tracked_as_cheaply_as_it_can_be(hint, tracking):
    assert classify(hint) == tracking


def test_the_parts_of_a_value_are_those_that_may_change():
    flat = Flat(1)
    nested = Nested(flat, (flat,))

    assert list(kind_of(Nested).parts(nested)) == [flat, (flat,)]
    assert list(kind_of(Flat).parts(flat)) == []
    assert list(kind_of(dict).parts({"a": 1})) == ["a", 1]


def test_attributes_in_slots_and_dict_are_parts_of_an_own_class():
    class Slots:
        __slots__ = ("__dict__", "a")

    value = Slots()
    value.a, value.b = 1, 2

    assert sorted(kind_of(Slots).parts(value)) == [1, 2]


def test_a_record_whose_names_do_not_resolve_is_looked_at_value_by_value():
    @dataclasses.dataclass
    class Odd:
        other: "NoSuchName"  # noqa: F821  # that is the point

    assert list(kind_of(Odd).parts(Odd([1]))) == [[1]]


def test_classes_declared_below_a_type_are_found_once():
    assert declared_classes(Nested | None) == {Nested, Flat}
    assert declared_classes(dict[str, Tree]) == {Tree}
    assert declared_classes(Literal["a"]) == set()
    assert declared_classes(NewType("N", Flat)) == {Flat}


def test_the_hardest_of_several_decides():
    assert harder(Tracking.FROZEN, Tracking.READS, Tracking.WRITES) is Tracking.READS
    assert harder() is Tracking.FROZEN


def test_the_annotations_of_a_class_are_read_once(monkeypatch):
    """Each record that is looked at asks for its class: it held the loop for 20 ms and more."""

    class Fresh(Record):
        flat: Flat
        tags: list[str] = []

    read = []
    read_hints = kinds.typing.get_type_hints
    monkeypatch.setattr(
        kinds.typing, "get_type_hints", lambda cls: (read.append(cls), read_hints(cls))[1]
    )
    asked = [kind_of(Fresh) for _ in range(100)]
    assert read.count(Fresh) == 1
    assert all(one is asked[0] for one in asked)


def test_a_class_is_not_kept_alive_by_what_is_known_of_it():
    cls = type("Short", (), {"__annotations__": {}})
    kind_of(cls)
    alive = weakref.ref(cls)
    del cls
    gc.collect()
    assert alive() is None
