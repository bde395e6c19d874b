"""What records that travel one by one share is found, and nothing else is taken for it."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from replank.record import Record
from replank.state.mirror import Family
from replank.state.sharing import PartsShared, Twins, parts_shared_steps, seeds
from replank.state.slices import run_all
from replank.state.tree import Trees
from replank.state.window import Window
from replank.table import Table


class Part(Record):
    n: int


class Whole(Record):
    part: Part
    items: list[int]


Copied = Callable[..., Family]


@pytest.fixture
def copied() -> Iterator[Copied]:
    windows: list[Window] = []

    def copy(*tables: Table[str, Any]) -> Family:
        family = Family()
        for table in tables:
            window = Window(table, lambda old: old, old_type=Whole, family=family)
            windows.append(window)
            window.open()
            run_all(window.copy_slices())
        return family

    yield copy
    for window in windows:
        window.abandon()


def whole(n: int) -> Whole:
    return Whole(Part(n), [n])


def look(family: Family) -> None:
    run_all(parts_shared_steps("m", family))


def test_records_that_share_nothing_pass(copied: Copied) -> None:
    one = whole(1)
    look(copied(Table(a=one, again=one, b=whole(2)), Table(x=one)))


def test_a_part_in_two_records_is_found_by_its_owners_keys(copied: Copied) -> None:
    one = whole(1)
    with pytest.raises(PartsShared, match="'a' and 'b'"):
        look(copied(Table(a=one, b=Whole(one.part, []))))


def test_a_list_in_records_of_two_tables_is_found(copied: Copied) -> None:
    one = whole(1)
    with pytest.raises(PartsShared) as caught:
        look(copied(Table(a=one), Table(x=Whole(Part(1), one.items))))
    assert caught.value.found == "one list in both"


def test_a_record_that_is_a_part_of_another_tables_record_is_found(copied: Copied) -> None:
    one = whole(1)
    with pytest.raises(PartsShared):
        look(copied(Table(p=one.part), Table(x=one)))


def test_a_part_that_has_moved_to_another_record_is_not_shared(copied: Copied) -> None:
    one, other = whole(1), whole(2)
    table = Table(a=one, b=other)
    family = copied(table)
    one.part, other.part = Part(3), one.part
    mirror = family.mirrors[0]
    mirror.copy_marked(10)
    look(family)


def test_a_small_state_is_built_with_the_new_record_in_the_place_of_the_old(copied: Copied) -> None:
    one, other = whole(1), whole(2)
    table: Table[str, Whole] = Table(a=one)
    family = copied(table)
    trees = Trees({"current": Whole, "all": list[Whole]})
    met: dict[int, Any] = {}
    tree = trees.freeze({"current": one, "all": [one, other]}, met)

    assert Twins("m", lambda: family.mirrors).mark(tree, met)
    values = trees.thaw(tree, seeds(tree))

    assert values["current"] is values["all"][0] is family.mirrors[0].twin("a")
    assert values["all"][1] == other
    assert values["all"][1] is not other


def test_a_small_state_that_holds_a_part_of_a_record_is_found(copied: Copied) -> None:
    one = whole(1)
    family = copied(Table(a=one))
    trees = Trees({"current": Whole, "best": Part})
    met: dict[int, Any] = {}
    tree = trees.freeze({"current": one, "best": one.part}, met)
    with pytest.raises(PartsShared, match="'a' and another field"):
        Twins("m", lambda: family.mirrors).mark(tree, met)
