"""What is parked comes back as objects of the classes that serve then."""

import dataclasses

import msgspec
import pytest

from replank.record import Record
from replank.state.residue import PARKED, Residue, fields_of


class Struct(Record):
    a: int
    b: list[int] = []


class FrozenStruct(msgspec.Struct, frozen=True):
    a: int
    b: list[int] = []


@dataclasses.dataclass
class Data:
    a: int
    b: list[int] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class FrozenData:
    a: int
    b: list[int] = dataclasses.field(default_factory=list)


class Own:
    def __init__(self, a, b=()):
        self.a, self.b = a, list(b)

    def __eq__(self, other):
        return type(other) is Own and vars(self) == vars(other)

    __hash__ = None


KINDS = [Struct, FrozenStruct, Data, FrozenData, Own]


@pytest.mark.parametrize("cls", KINDS)
def test_fields_are_parked_and_merged_for_every_kind_of_record(cls):
    residue = Residue()
    residue.park("k", cls(1, [2]), cls(1, []))

    assert residue.merge("k", cls(5, [])) == cls(5, [2])
    assert residue.merge("k", cls(5, [9])) == cls(5, [9])
    assert residue.merge("other", cls(5, [])) == cls(5, [])


@pytest.mark.parametrize("cls", KINDS)
def test_whole_records_are_parked_and_built_again(cls):
    residue = Residue()
    residue.park_record("k", cls(1, [2]))

    assert list(residue.new_records([cls])) == [("k", cls(1, [2]))]
    assert list(residue.new_records([])) == []
    assert len(residue) == 1


def test_nothing_is_parked_for_what_comes_back_by_itself():
    residue = Residue()
    residue.park("k", Struct(1, [2]), Struct(1, []))
    residue.park("k", Struct(1), Struct(1))
    residue.park("n", 5, 5)

    assert not residue


def test_what_cannot_be_made_plain_is_copied():
    thing = Own(1)
    residue = Residue()
    residue.park("k", Struct(thing), Struct(0))

    assert residue.merge("k", Struct(0)).a == thing
    assert residue.merge("k", Struct(0)).a is not thing


def test_a_value_of_another_type_than_declared_is_given_back_as_it_was():
    residue = Residue()
    residue.park("k", Struct(1, {"x": 1}), Struct(1, []))

    assert residue.merge("k", Struct(1, [])).b == {"x": 1}


def test_numbers_have_no_fields_and_parked_is_named():
    assert fields_of(5) == {}
    assert repr(PARKED) == "PARKED"
