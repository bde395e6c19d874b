"""A record is an ordinary object with declared fields."""

import copy
import pickle
import weakref

import msgspec
import pytest

from replank.record import Record


class Account(Record):
    owner: str
    cents: int = 0
    tags: list[str] = []


def test_a_record_takes_positional_and_keyword_arguments():
    assert Account("ada", 5) == Account(owner="ada", cents=5)


def test_mutable_defaults_are_made_anew_for_each_record():
    first, second = Account("a"), Account("b")
    first.tags.append("x")

    assert second.tags == []


def test_a_record_is_changed_in_place_and_shown():
    account = Account("ada")
    account.cents += 7

    assert repr(account) == "Account(owner='ada', cents=7, tags=[])"


def test_an_undeclared_attribute_is_refused():
    with pytest.raises(AttributeError):
        Account("ada").cent = 1


def test_a_record_can_be_referred_to_weakly_copied_pickled_and_encoded():
    account = Account("ada", 1, ["x"])

    assert weakref.ref(account)() is account
    assert copy.deepcopy(account) == account
    assert pickle.loads(pickle.dumps(account)) == account
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(account), type=Account) == account
