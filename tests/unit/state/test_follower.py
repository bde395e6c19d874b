"""After a commit the old state stays in step; what it has no room for comes back."""

import pytest

from replank.errors import InternalError, UsageError
from replank.record import Record
from replank.state.residue import PARKED, Residue
from replank.state.slices import run_all
from replank.state.watching import watched_classes
from replank.state.window import Window
from replank.table import Table


class Old(Record):
    euros: float
    note: str = ""


class New(Record):
    cents: int
    tier: str = "basic"
    tags: tuple[str, ...] = ()


class Bag(Record):
    items: list[int]


def up(old):
    return New(round(old.euros * 100))


def down(new, old):
    return Old(new.cents / 100, old.note if old is not None else "")


def committed(table, upgrade=up, downgrade=down, **options):
    window = Window(table, upgrade, downgrade=downgrade, **options)
    window.open()
    run_all(window.copy_slices())
    window.finish()
    window.commit()
    return window


def followed(table, *args, **options):
    window = committed(table, *args, **options)
    run_all(window.fold_slices())
    return window.follower()


def roll_back(follower):
    follower.drain()
    follower.rollback()
    run_all(follower.fold_slices())


def test_a_rollback_keeps_every_write_and_what_only_the_old_records_know():
    table = Table(a=Old(1, "x"), b=Old(2, "y"), c=Old(3))
    follower = followed(table)
    table["a"].cents = 500
    table["d"] = New(700)
    del table["c"]
    roll_back(follower)

    assert type(table) is Table
    assert list(table.items()) == [("a", Old(5, "x")), ("b", Old(2, "y")), ("d", Old(7))]
    assert watched_classes() == ()


def test_a_rollback_has_little_to_do_however_much_was_written():
    table = Table((i, Old(i)) for i in range(2000))
    follower = followed(table)
    for record in table.values():
        record.cents += 1
    assert follower.marks() == 2000
    run_all(follower.follow_slices())

    assert follower.marks() <= 64
    roll_back(follower)
    assert table[7] == Old(7.01)


def test_writes_made_while_the_fold_runs_are_not_lost():
    table = Table((i, Old(i)) for i in range(300))
    window = committed(table)
    follower = window.follower()
    follower.mirror.marks_max = 0
    table[0].cents = 11
    table[299].cents = 22
    folding = window.fold_slices()
    for number, _ in enumerate(folding):
        table[number % 50].tier = "gold"
        table[298].cents = number
        table.pop(number + 100)
    last = number
    roll_back(follower)

    assert table[0].euros == 0.11
    assert table[299].euros == 0.22
    assert table[298].euros == last / 100
    assert len(table) == 300 - last - 1


class Part(Record):
    n: int


class Whole(Record):
    part: Part


def test_a_part_written_before_its_owner_is_folded_is_not_lost():
    table = Table((i, Old(i)) for i in range(100))
    window = committed(
        table, lambda old: Whole(Part(int(old.euros))), lambda new, old: Old(new.part.n)
    )
    follower = window.follower()
    follower.mirror.marks_max = 0
    for key in table:
        table[key].part.n += 1000
    while follower.marks():
        follower.mirror.ease()
    run_all(window.fold_slices())
    roll_back(follower)

    assert table == {i: Old(i + 1000) for i in range(100)}


def test_an_object_shared_before_its_first_key_is_folded_is_not_lost():
    table = Table((i, Old(i)) for i in range(10))
    window = committed(table)
    follower = window.follower()
    follower.mirror.marks_max = 0
    table["other"] = table[3]
    follower.mirror.ease()
    table[3].cents = 77
    while follower.marks():
        follower.mirror.ease()
    run_all(window.fold_slices())
    roll_back(follower)

    assert table[3] == table["other"] == Old(0.77)
    assert table[3] is table["other"]


def test_parked_fields_come_back_with_the_next_upgrade():
    table = Table(a=Old(1), b=Old(2), c=Old(3))
    follower = followed(table)
    table["a"].tier = "gold"
    table["b"].tags = ("x", "y")
    table["b"].cents = 250
    roll_back(follower)
    assert len(follower.residue) == 2
    table["b"].euros = 4.0  # the old version writes on

    again = followed(table, residue=follower.residue)
    assert table == {"a": New(100, "gold"), "b": New(400, "basic", ("x", "y")), "c": New(300)}
    again.stop()


def test_a_field_that_the_old_version_wrote_is_newer_than_the_parked_one():
    class Half(Record):
        n: int

    table = Table(a=Half(10))
    follower = followed(
        table, lambda old: New(old.n * 100), lambda new, old: Half(new.cents // 100)
    )
    table["a"].cents = 1050  # half a unit more than the old version can say
    roll_back(follower)
    assert table["a"] == Half(10)
    residue = follower.residue

    again = followed(
        table,
        lambda old: New(old.n * 100),
        lambda new, old: Half(new.cents // 100),
        residue=residue,
    )
    assert table["a"].cents == 1050
    roll_back(again)
    table["a"].n = 20
    last = followed(
        table,
        lambda old: New(old.n * 100),
        lambda new, old: Half(new.cents // 100),
        residue=residue,
    )
    assert table["a"].cents == 2000
    last.stop()


def test_records_that_cannot_go_down_are_parked_and_return():
    def strict(new, old):
        return PARKED if new.tier == "platinum" else down(new, old)

    table = Table(a=Old(1))
    follower = followed(table, up, strict)
    table["p"] = New(9, "platinum", ("t",))
    roll_back(follower)
    assert table == {"a": Old(1)}

    again = followed(table, up, strict, residue=follower.residue)
    assert table == {"a": New(100), "p": New(9, "platinum", ("t",))}
    roll_back(again)
    assert table == {"a": Old(1)}
    assert "p" in again.residue.records


def test_old_records_left_out_of_an_upgrade_return_in_a_rollback():
    table = Table(a=Old(1), bad=Old(-1), b=Old(2))
    follower = followed(table, lambda old: PARKED if old.euros < 0 else up(old))
    assert "bad" not in table
    roll_back(follower)

    assert table == {"a": Old(1), "b": Old(2), "bad": Old(-1)}


def test_deleting_a_record_drops_what_was_parked_for_it():
    table = Table(a=Old(1))
    follower = followed(table)
    table["a"].tier = "gold"
    follower.drain()
    assert len(follower.residue) == 1
    del table["a"]
    roll_back(follower)

    assert len(follower.residue) == 0


def test_containers_in_new_records_are_followed_by_their_reads():
    table = Table(a=Old(1), b=Old(2))
    follower = followed(
        table, lambda old: Bag([int(old.euros)]), lambda new, old: Old(float(sum(new.items)))
    )
    table["a"].items.append(5)
    bag = table["b"]
    taken = follower.mirror.take_read()
    bag.items.append(7)
    run_all(follower.mirror.copy_read_steps(taken))
    roll_back(follower)

    assert table == {"a": Old(6), "b": Old(9)}


def test_probation_ends_without_a_cost_and_leaves_the_old_records_to_be_freed():
    table = Table(a=Old(1))
    follower = followed(table)
    follower.stop()
    follower.stop()

    assert type(table) is Table
    assert watched_classes() == ()
    assert any(follower.garbage)
    with pytest.raises(InternalError):
        follower.drain()


def test_a_rollback_before_the_fold_is_refused():
    table = Table(a=Old(1))
    window = committed(table)
    with pytest.raises(InternalError):
        window.follower().rollback()
    with pytest.raises(InternalError):
        run_all(window.follower().fold_slices())
    run_all(window.fold_slices())
    window.follower().stop()


def test_without_a_downgrade_there_is_no_follower():
    window = committed(Table(a=Old(1)), up, None)
    with pytest.raises(UsageError, match="no follower"):
        window.follower()
    run_all(window.fold_slices())


def test_a_residue_holds_no_object_of_the_generation_that_left():
    class Inner(Record):
        n: int

    class Outer(Record):
        inner: Inner

    residue = Residue()
    residue.park("k", Outer(Inner(5)), Outer(Inner(0)))
    merged = residue.merge("k", Outer(Inner(0)))

    assert residue.fields["k"]["inner"].parked == {"n": 5}
    assert merged == Outer(Inner(5))
