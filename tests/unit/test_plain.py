"""Two trees are compared by value, also when they hold circles."""

import collections
import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replank.plain import DefaultNode, _same_graph, copy_tree, same

LEAVES = st.none() | st.integers() | st.text(max_size=3) | st.floats(allow_nan=False)
TREES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.integers(0, 3), inner, max_size=3)
        | st.tuples(inner, inner)
        | st.builds(lambda items: DefaultNode(items, int), st.dictionaries(st.text(), inner))
        | st.builds(lambda items: collections.deque(items, 4), st.lists(inner, max_size=4))
    ),
    max_leaves=8,
)


@given(TREES, TREES)
def test_by_hand_the_same_trees_are_equal_as_by_python(one, other):
    assert _same_graph(one, copy_tree(one))
    if type(one) is type(other) and not isinstance(one, float | int):
        assert _same_graph(one, other) <= (one == other)


def ring(last):
    first = {"name": "a", "friend": None, "turns": [dt.date(2026, 1, 1)]}
    first["friend"] = {"name": last, "friend": first, "turns": first["turns"]}
    return {"a": first}


def test_circles_are_compared_once_round():
    assert same(ring("b"), ring("b"))
    assert not same(ring("b"), ring("c"))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (collections.OrderedDict(a=1, b=2), collections.OrderedDict(b=2, a=1)),
        (DefaultNode({}, int), DefaultNode({}, list)),
        (collections.deque([1], 2), collections.deque([1], 3)),
        ([1], [1, 2]),
        ([1], (1,)),
        ({1}, {2}),
    ],
)
def test_what_differs_in_a_circle_is_seen(one, other):
    first, second = [one], [other]
    first.append(first)
    second.append(second)
    assert not same(first, second)
    again = [copy_tree(one)]
    again.append(again)
    assert same(first, again)
