"""A table with an open window, folding or followed is still a dict to its users."""

import copy
import json
import pickle

import pytest

from replank.record import Record
from replank.state.slices import run_all
from replank.state.window import Window
from replank.table import Table


class Old(Record):
    n: int


class New(Record):
    n: int


def up(old):
    return New(old.n) if isinstance(old, Old) else old


def down(new, old):
    return Old(new.n) if isinstance(new, New) else new


class Reload:
    """A table brought into one of its phases by hand."""

    def __init__(self, table, phase, reads=False):
        self.table = table
        hint = list if reads else int
        self.window = Window(table, up, downgrade=down, old_type=hint, new_type=hint)
        self.window.open()
        if phase == "copying":
            return
        run_all(self.window.copy_slices())
        self.window.finish()
        self.window.commit()
        if phase == "folding":
            return
        run_all(self.window.fold_slices())

    def end(self):
        if self.window.state == "open":
            self.window.abandon()
        elif self.window.state == "committed":
            run_all(self.window.fold_slices())
        if self.window.state == "folded" and self.window._follower is not None:
            self.window.follower().stop()
        assert type(self.table) is Table


PHASES = [
    ("copying", False),
    ("copying", True),
    ("folding", False),
    ("folding", True),
    ("followed", False),
    ("followed", True),
]


@pytest.fixture(params=PHASES, ids=lambda p: p[0] + ("_reads" if p[1] else ""))
def enter(request):
    reloads = []

    def enter(table):
        reloads.append(Reload(table, *request.param))
        return table

    yield enter
    for reload in reloads:
        expected = list(reload.table.items())
        reload.end()
        assert list(reload.table.items()) == expected


@pytest.fixture
def table(enter):
    table = enter(Table(a=1, b=2, c=3, d=4))
    del table["b"]
    table["e"] = 5
    table["b"] = 6
    return table


@pytest.fixture
def same():
    return {"a": 1, "c": 3, "d": 4, "e": 5, "b": 6}


def test_a_key_inserted_again_comes_last(table, same):
    assert list(table) == list(same)
    assert list(table.items()) == list(same.items())
    assert list(reversed(table)) == list(reversed(same))
    assert list(reversed(table.items())) == list(reversed(same.items()))
    assert list(reversed(table.values())) == list(reversed(same.values()))
    assert list(reversed(table.keys())) == list(reversed(same.keys()))


def test_it_equals_a_dict_from_either_side(table, same):
    assert table == same
    assert same == table
    assert table != {"a": 1}
    assert not table != same  # noqa: SIM202  # the other operator
    assert table != [1]
    assert repr(table) == repr(same)
    assert bool(table)


def test_views_are_live_and_have_set_operations(table, same):
    keys, items, values = table.keys(), table.items(), table.values()
    table["f"] = same["f"] = 7

    assert keys == same.keys()
    assert keys & {"a", "z"} == {"a"}
    assert items - {("a", 1)} == same.items() - {("a", 1)}
    assert {"a"} <= keys
    assert ("f", 7) in items
    assert ("f", 8) not in items
    assert ("zz", 8) not in items
    assert 7 in values
    assert len(values) == 6
    assert repr(keys) == repr(same.keys())
    assert repr(items) == repr(same.items())
    assert repr(values) == repr(same.values())
    assert keys.mapping == same
    assert keys.isdisjoint({"zz"})


def test_popitem_takes_the_last_until_nothing_is_left(table, same):
    while same:
        assert table.popitem() == same.popitem()
    with pytest.raises(KeyError):
        table.popitem()
    assert len(table) == 0


def test_missing_keys_raise_or_give_the_default(table):
    assert table.get("zz") is None
    assert table.get("zz", 1) == 1
    assert table.pop("zz", 2) == 2
    for action in (lambda: table["zz"], lambda: table.pop("zz"), lambda: table.__delitem__("zz")):
        with pytest.raises(KeyError):
            action()
    with pytest.raises(TypeError):
        table.pop("a", 1, 2)
    with pytest.raises(TypeError):
        table.update({}, {})
    with pytest.raises(TypeError):
        table["zz", []]


def test_update_takes_all_that_a_dict_takes(table, same):
    for change in ({"a": 9, "x": 1}, [("y", 2), ("a", 3)], Table(z=1)):
        table.update(change)
        same.update(change)
    table.update(k=1)
    same.update(k=1)
    table |= {"l": 2}
    same |= {"l": 2}
    table |= [("m", 2)]
    same |= [("m", 2)]

    assert list(table.items()) == list(same.items())


def test_unions_are_plain_dicts(table, same):
    assert table | {"q": 1} == same | {"q": 1}
    assert {"q": 1} | table == {"q": 1} | same
    assert type(table | {}) is dict
    assert type({} | table) is dict
    with pytest.raises(TypeError):
        table | [1]


def test_setdefault_and_clear(table, same):
    assert table.setdefault("a", 5) == 1
    assert table.setdefault("new", 5) == 5
    table.clear()
    assert len(table) == 0
    assert list(table) == []
    table["a"] = 1
    table["zz"] = 2
    assert list(table.items()) == [("a", 1), ("zz", 2)]


def test_copies_are_those_of_a_dict_and_pickles_are_tables(table, same):
    assert type(table.copy()) is dict
    assert table.copy() == dict(table) == {**table} == same
    assert type(copy.copy(table)) is Table
    assert copy.deepcopy(table) == same
    assert pickle.loads(pickle.dumps(table)) == same
    assert json.loads(json.dumps(table)) == same
    assert type(table.fromkeys("ab")) is Table


def test_changing_the_size_while_iterating_is_an_error(table):
    keys = iter(table)
    table[next(keys) + "x"] = 1

    with pytest.raises(RuntimeError, match="changed size"):
        next(keys)


def test_overwriting_while_iterating_is_fine(table, same):
    for key in table:
        table[key] = table[key] + 1

    assert list(table.items()) == [(key, value + 1) for key, value in same.items()]


def test_a_subclass_with_missing_keeps_its_own_methods(enter):
    class Counting(Table):
        def __missing__(self, key):
            return 0

        def __setitem__(self, key, value):
            super().__setitem__(key, value * 10)

    table = Counting(a=1)
    window = Window(table, up, old_type=int)
    window.open()
    table["b"] = 2

    assert table["zz"] == 0
    assert dict(table.items()) == {"a": 1, "b": 20}
    run_all(window.copy_slices())
    window.finish()
    window.commit()
    table["b"] = 3
    run_all(window.fold_slices())
    assert type(table) is Counting
    assert dict(table) == {"a": 1, "b": 30}


@pytest.mark.parametrize("end", ["abandon", "commit"])
def test_an_iteration_goes_on_when_its_window_ends_under_it(end):
    table = Table((f"k{i}", i) for i in range(100))
    window = Window(table, up, old_type=int)
    window.open()
    for i in range(0, 100, 3):
        del table[f"k{i}"]
    for i in range(0, 100, 6):
        table[f"k{i}"] = i
    expected = list(table)
    iteration = iter(table)
    got = [next(iteration) for _ in range(10)]

    if end == "abandon":
        window.abandon()
        got += iteration
    else:
        window.finish()
        window.commit()
        fold = window.fold_slices()
        for key in iteration:
            got.append(key)
            next(fold, None)
        run_all(fold)

    assert got == expected
    assert list(table) == expected


def test_an_iteration_whose_place_is_gone_says_so():
    table = Table((f"k{i}", i) for i in range(10))
    window = Window(table, up, old_type=int)
    window.open()
    iteration = iter(table)
    key = next(iteration)
    del table[key]
    table["other"] = 1
    window.abandon()

    with pytest.raises(RuntimeError, match="keys changed"):
        next(iteration)
