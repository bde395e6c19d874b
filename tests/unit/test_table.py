"""A table in steady state is a dict."""

import copy
import pickle

import pytest

from replank.table import Table


def test_a_table_overrides_no_method_on_the_path_of_reads_and_writes():
    overridden = {name for name in vars(Table) if name in vars(dict)}

    assert overridden <= {"__doc__", "__reduce_ex__"}


def test_a_table_is_built_and_compared_like_a_dict():
    assert Table({"a": 1}, b=2) == {"a": 1, "b": 2}
    assert Table([("a", 1)]) == Table(a=1)
    assert Table.fromkeys("ab", 0) == {"a": 0, "b": 0}
    assert type(Table.fromkeys("ab")) is Table


def test_copy_and_union_return_a_plain_dict_as_a_dict_subclass_does():
    table = Table(a=1)

    assert type(table.copy()) is dict
    assert type(table | {"b": 2}) is dict


@pytest.mark.parametrize(
    "again", [copy.copy, copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t))]
)
def test_a_table_is_copied_and_pickled_as_a_table_in_order(again):
    table = Table({"b": [1], "a": [2]})

    other = again(table)

    assert type(other) is Table
    assert list(other.items()) == [("b", [1]), ("a", [2])]


def test_attributes_of_a_subclass_are_copied_too():
    class Named(Table):
        pass

    table = Named(a=1)
    table.name = "x"

    assert copy.copy(table).name == "x"
    assert type(copy.copy(table)) is Named


def test_a_table_is_generic():
    assert Table[str, int].__origin__ is Table
