"""A window copies and migrates, and can be abandoned without a trace."""

import dataclasses
import gc
import sys

import pytest

from replank.errors import InternalError, MigrationError, UsageError
from replank.record import Record
from replank.state.layers import SHARDS
from replank.state.mirror import CopyOutcome, Family
from replank.state.residue import PARKED
from replank.state.slices import run_all
from replank.state.watching import watched_classes
from replank.state.window import Window
from replank.table import Table


class Old(Record):
    n: int


class New(Record):
    count: int


@dataclasses.dataclass
class Data:
    n: int


class Own:
    __slots__ = ("n",)

    def __init__(self, n):
        self.n = n


class Part(Record):
    n: int


class Whole(Record):
    part: Part


class Bag(Record):
    items: list[int]


def up(old):
    return New(old.n)


def transfer(window):
    window.finish()
    window.commit()
    run_all(window.fold_slices())


@pytest.mark.parametrize("cls", [Old, Data, Own])
def test_records_of_every_kind_are_migrated_with_writes_made_meanwhile(cls):
    table = Table((f"k{i}", cls(i)) for i in range(100))
    window = Window(table, up)
    window.open()
    copying = window.copy_slices()
    next(copying)
    table["k0"].n = 1000
    table["k99"].n = 2000
    table["late"] = cls(3000)
    del table["k50"]

    assert run_all(copying) is CopyOutcome.READY
    transfer(window)

    assert type(table) is Table
    assert table["k0"] == New(1000)
    assert table["k99"] == New(2000)
    assert list(table)[-1] == "late"
    assert "k50" not in table
    assert all(type(record) is New for record in table.values())
    assert watched_classes() == ()


def test_a_part_of_a_record_that_is_written_brings_its_owner_up_to_date():
    table = Table(a=Whole(Part(1)), b=Whole(Part(2)))
    window = Window(table, lambda old: New(old.part.n), old_type=Whole)
    window.open()
    run_all(window.copy_slices())
    table["b"].part.n = 7
    transfer(window)

    assert table == {"a": New(1), "b": New(7)}


def test_containers_in_records_are_copied_again_after_they_were_read():
    table = Table(a=Bag([1]), b=Bag([2]))
    window = Window(table, lambda old: New(sum(old.items)), old_type=Bag)
    window.open()
    run_all(window.copy_slices())
    table["b"].items.append(5)
    for bag in table.values():
        bag.items.append(10)
    transfer(window)

    assert table == {"a": New(11), "b": New(17)}


def test_an_unexpected_container_asks_for_reads_to_be_noted():
    table = Table(a=Old([1]), b=[2])
    window = Window(table, lambda old: old, old_type=Old)
    window.open()

    assert run_all(window.copy_slices()) is CopyOutcome.NEEDS_READS
    window.note_reads()
    assert run_all(window.copy_slices()) is CopyOutcome.READY
    window.abandon()


def test_the_same_object_under_two_keys_and_in_two_tables_stays_one():
    shared = Old(1)
    first, second = Table(a=shared, b=shared, c=Old(1)), Table(x=shared)
    family = Family()
    windows = [Window(table, up, family=family) for table in (first, second)]
    for window in windows:
        window.open()
    for window in windows:
        run_all(window.copy_slices())
    first["b"].n = 5
    for window in windows:
        window.finish()
    assert windows[0].mirror.twin("a") is windows[1].mirror.twin("x")
    for window in windows:
        window.commit()
        run_all(window.fold_slices())

    assert first["a"] is first["b"] is second["x"]
    assert first["a"] == New(5)
    assert first["c"] is not first["a"]


def test_abandoning_leaves_the_same_records_in_the_same_order_and_no_barrier():
    table = Table((f"k{i}", Old(i)) for i in range(50))
    kept = table["k7"]
    window = Window(table, up)
    window.open()
    next(window.copy_slices())
    del table["k3"]
    table["k3"] = Old(33)
    kept.n = 77
    window.abandon()
    window.abandon()

    assert type(table) is Table
    assert table["k7"] is kept
    assert list(table)[-1] == "k3"
    assert watched_classes() == ()
    assert window.garbage


def test_a_commit_can_be_undone_until_it_is_folded():
    table = Table(a=Old(1), b=Old(2))
    window = Window(table, up)
    window.open()
    run_all(window.copy_slices())
    table["a"].n = 5
    window.finish()
    window.commit()
    table["c"] = New(3)
    del table["a"]
    window.abandon()
    assert table == {"a": Old(5), "b": Old(2)}

    window = Window(table, up)
    window.open()
    window.finish()
    window.commit()
    next(window.fold_slices(), None)
    with pytest.raises(InternalError):
        window.abandon()


def test_a_migration_that_raises_names_the_key_and_changes_nothing():
    def bad(old):
        if old.n == 2:
            raise ValueError("no such currency")
        return New(old.n)

    table = Table(a=Old(1), b=Old(2))
    window = Window(table, bad)
    window.open()
    with pytest.raises(
        MigrationError, match=r"record 'b' could not be migrated: ValueError: no such"
    ):
        run_all(window.copy_slices())
    window.abandon()

    assert table == {"a": Old(1), "b": Old(2)}
    assert type(table) is Table


def test_what_a_migration_error_says_is_kept():
    def bad(old):
        raise MigrationError("step 1 -> 2 failed", found="x", do="fix it")

    window = Window(Table(a=Old(1)), bad)
    window.open()
    with pytest.raises(MigrationError, match="record 'a': step 1 -> 2 failed") as caught:
        window.finish()
    window.abandon()

    assert (caught.value.found, caught.value.do) == ("x", "fix it")


def test_traffic_that_writes_as_fast_as_is_copied_ends_in_a_decision():
    table = Table((i, Old(i)) for i in range(1000))
    window = Window(table, up, limit=10, pause_s=0.0)
    window.open()
    copying = window.copy_slices()
    while True:
        for i in range(500):
            table[i].n += 1
        try:
            next(copying)
        except StopIteration as stop:
            outcome = stop.value
            break

    assert outcome is CopyOutcome.NOT_CONVERGING
    assert window.mirror.predicted_pause_s() > 0
    transfer(window)
    assert table[1].count > 1


def test_records_without_room_in_the_new_version_are_left_out():
    table = Table(a=Old(1), b=Old(2))
    window = Window(table, lambda old: PARKED if old.n == 1 else New(old.n))
    window.open()
    run_all(window.copy_slices())
    transfer(window)

    assert table == {"b": New(2)}


def test_a_second_window_on_a_table_is_refused():
    table = Table(a=Old(1))
    window = Window(table, up)
    window.open()
    with pytest.raises(UsageError, match="another reload"):
        Window(table, up).open()
    window.abandon()


def test_steps_out_of_order_are_refused():
    window = Window(Table(), up)
    with pytest.raises(InternalError):
        window.finish()
    with pytest.raises(InternalError):
        run_all(window.fold_slices())
    window.open()
    with pytest.raises(InternalError):
        window.open()
    with pytest.raises(UsageError):
        window.follower()
    window.abandon()


def test_an_empty_table_and_one_of_plain_numbers_go_through():
    for table in (Table(), Table(a=1, b=2)):
        window = Window(table, lambda old: old)
        window.open()
        run_all(window.copy_slices())
        transfer(window)
        assert type(table) is Table


def test_reads_taken_before_a_grace_period_are_copied_after_it():
    table = Table(a=Bag([1]))
    window = Window(table, lambda old: New(sum(old.items)), old_type=Bag)
    window.open()
    run_all(window.copy_slices())
    bag = table["a"]
    taken = window.mirror.take_read()
    bag.items.append(4)  # a call that is still running
    run_all(window.mirror.copy_read_steps(taken))

    assert window.finish() == 0
    window.commit()
    assert table["a"] == New(5)
    run_all(window.fold_slices())


def test_old_records_are_not_kept_alive_when_nobody_follows():
    table = Table((i, Data(i)) for i in range(10))
    window = Window(table, up)
    window.open()
    run_all(window.copy_slices())
    transfer(window)

    assert not [thing for thing in gc.get_objects() if type(thing) is Data]


def test_the_room_of_notes_and_new_records_is_given_back_while_the_fold_goes_on():
    table = Table((i, Old(i)) for i in range(5_000))
    window = Window(table, up, downgrade=lambda new, old: Old(new.count), old_type=Old)
    window.open()
    run_all(window.copy_slices())
    window.finish()
    window.commit()
    run_all(window.fold_slices())

    places = window.mirror.watch.places
    dicts = [*window.mirror.target, *(places.at(index) for index in range(SHARDS))]
    assert sum(map(sys.getsizeof, dicts)) == len(dicts) * sys.getsizeof({})
    window.follower().stop()
