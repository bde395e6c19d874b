from __future__ import annotations

import pytest

from replank.state.quiet import QuietTable, read_quietly
from replank.state.window import Window
from replank.table import Table


class Ledger(Table):
    def total(self):
        return sum(self.values())


@pytest.fixture(params=[Table, Ledger])
def table(request):
    """A table in an open window, with a deleted, a late and a returned key."""
    table = request.param({key: number for number, key in enumerate("abcdef")})
    Window(table, lambda value: value).open()
    del table["b"]
    del table["c"]
    table["c"] = 20
    table["z"] = 30
    return table


def test_a_quiet_table_shows_what_the_table_shows(table):
    expected = list(table.items())
    with read_quietly([1, table, None]):
        assert isinstance(table, QuietTable)
        assert list(table.items()) == expected
        assert list(table) == list(table.keys()) == [key for key, _ in expected]
        assert list(table.values()) == [value for _, value in expected]
        assert len(table) == len(table.values()) == len(table.items()) == len(expected)
        assert sum(table.values()) == sum(value for _, value in expected)
        assert table["c"] == 20
        assert table.get("b") is None
        assert "z" in table
        assert dict(table) == dict(expected)
        if isinstance(table, Ledger):
            assert table.total() == sum(value for _, value in expected)
    assert list(table.items()) == expected


def test_the_table_is_as_it_was_afterwards_also_when_the_block_fails(table):
    kind = type(table)
    with pytest.raises(ValueError, match="no"), read_quietly([table]):
        raise ValueError("no")
    assert type(table) is kind
    table["y"] = 1
    assert table["y"] == 1


def test_nothing_deleted_is_the_quickest_way():
    table = Table(a=1, b=2)
    Window(table, lambda value: value).open()
    table["c"] = 3
    with read_quietly([table]):
        assert list(table.values()) == [1, 2, 3]
        assert list(table) == ["a", "b", "c"]


def test_a_table_outside_a_window_is_left_alone():
    table = Table(a=1)
    with read_quietly([table]):
        assert type(table) is Table
