import sys

from replank.record import Record
from replank.state.sizing import about_bytes, state_size
from replank.table import Table


class Account(Record):
    owner: str
    notes: list[str] = []


def test_a_size_grows_with_what_is_held():
    small, large = (about_bytes(list(range(1000, 1000 + n))) for n in (1_000, 100_000))
    assert 90 < large / small < 110
    assert about_bytes("x" * 10_000) >= 10_000


def test_records_objects_and_nested_containers_are_looked_into():
    class Plain:
        def __init__(self):
            self.text = "x" * 5_000

    assert about_bytes(Plain()) > 5_000
    assert about_bytes(Account("ada", ["x" * 5_000])) > 5_000
    assert about_bytes({"a": [("x" * 5_000,)]}) > 5_000
    assert about_bytes(Plain) < 10_000  # a class is nobody's state


def test_a_state_is_its_tables_records_and_about_its_bytes():
    table = Table({f"k{n}": Account(f"owner {n}") for n in range(5_000)})
    records, size = state_size({"accounts": table, "total": 5})
    assert records == 5_000
    assert size > sys.getsizeof({}) + 5_000 * sys.getsizeof(table["k1"])


def test_a_look_is_bounded_however_deep_and_wide_the_state_is():
    looked = 0

    class Counted:
        def __sizeof__(self):
            nonlocal looked
            looked += 1
            return 10

    deep = Counted()
    for _ in range(6):
        deep = [deep] * 1_000
    assert about_bytes(deep, looks=500) > 0
    assert looked <= 500
    loop = []
    loop.append(loop)
    assert about_bytes(loop) > 0
