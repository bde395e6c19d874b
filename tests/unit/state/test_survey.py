"""What a reload costs is estimated from a sample, before anything is done."""

import threading
import time

import pytest

from replank.errors import MigrationError
from replank.record import Record
from replank.state.survey import survey
from replank.table import Table


class Old(Record):
    n: int
    name: str


class Bag(Record):
    items: list[int]


def test_a_table_of_records_is_sized_and_timed():
    table = Table((f"key-{i}", Old(i, f"a name of some length {i}")) for i in range(1000))
    seen = []

    found = survey(table, Old, seen.append, sample=50)

    assert (found.records, found.sampled, found.kinds) == (1000, 50, ("Old",))
    assert found.tracking == "writes"
    assert found.trackable
    assert 100_000 < found.bytes_estimate < 400_000
    assert found.window_bytes_estimate > 100_000
    assert found.copy_s > 0
    assert {record.n for record in seen} == {*range(25), *range(975, 1000)}
    assert found.notes == ()


def test_what_others_compute_meanwhile_does_not_count():
    others_s = []

    def compute():
        while time.thread_time() < 0.05:
            pass
        others_s.append(time.thread_time())

    def interrupted(_):
        other = threading.Thread(target=compute)
        other.start()
        other.join()

    found = survey(Table(a=Old(1, "x")), Old, interrupted, sample=1)

    assert 0 < found.copy_s < others_s[0]


def test_containers_in_records_are_said_to_lengthen_the_pause():
    found = survey(Table(a=Bag([1])), Bag)

    assert found.tracking == "reads"
    assert found.trackable
    assert "what was read" in found.notes[0]


def test_bare_containers_are_named_as_not_trackable():
    found = survey(Table(a=[1, 2], b={"x": 1}))

    assert not found.trackable
    assert "dict, list" in found.notes[0]


def test_an_empty_table_is_known_by_its_annotation():
    assert survey(Table(), list[int]).tracking == "reads"
    assert survey(Table(), int).tracking == "frozen"


def test_a_sampled_record_that_cannot_be_migrated_is_named():
    def bad(old):
        raise KeyError("currency")

    with pytest.raises(MigrationError, match="record 'a' could not be migrated: KeyError"):
        survey(Table(a=Old(1, "x")), Old, bad)
