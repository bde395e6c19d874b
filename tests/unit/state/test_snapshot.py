from __future__ import annotations

import datetime as dt
import decimal
import os
import threading
import uuid
import zoneinfo
from collections import Counter, OrderedDict, defaultdict, deque
from pathlib import Path
from typing import Any

import msgspec
import pytest

from replank.errors import MigrationError, SnapshotError
from replank.plain import digest
from replank.schema import Schema, read_schema
from replank.state import format as snapshots
from replank.state.format import FORMAT, Snapshot
from replank.state.names import Namespace
from replank.state.snapshot import read, restore, take, trees_of, write
from replank.state.tree import freeze, thaw
from replank.table import Table
from tests.state_helpers import hints_of, load

V1 = "class Account(Record):\n  owner: str\n  cents: int = 0\n"


def snapshot_of(value: Any, **changes: Any) -> Snapshot:
    schema = read_schema({"value": Any}, {}, version=1, where="m")[0]
    made = take("ledger", {"value": value}, schema, label="1.0", digest="sha256:1")
    return msgspec.structs.replace(made, **changes)


def there_and_back(value: Any, folder: Path) -> Any:
    path = folder / "x.snapshot"
    write(snapshot_of(value), path)
    return thaw(read(path).tree["value"])


def test_a_snapshot_holds_what_the_schema_describes():
    module = load(V1)
    hints = hints_of(module, accounts="Table[str, Account]", total="int", lock="threading.Lock")
    schema, carried = read_schema(hints, {}, version=3, where="ledger")
    values = {"accounts": Table(a=module.Account("ada", 5)), "total": 5, "lock": threading.Lock()}
    made = take("ledger", values, schema, hints=hints, label="2.0", messages=[{"a": (1,)}])
    assert carried == ("lock",)
    assert made.tree == {"accounts": {"a": {"owner": "ada", "cents": 5}}, "total": 5}
    assert (made.records, made.label, made.messages) == (1, "2.0", ({"a": (1,)},))
    assert dt.datetime.fromisoformat(made.taken_at).tzinfo is not None


def test_restore_builds_the_new_generations_values():
    one, two = load(V1), load(V1)
    fields = {"accounts": "Table[str, Account]"}
    old, new = hints_of(one, **fields), hints_of(two, **fields)
    schema = read_schema(old, {}, version=1, where="m")[0]
    tree = take("m", {"accounts": Table(a=one.Account("ada"))}, schema, hints=old).tree
    values = restore(tree, schema, hints=new)
    assert type(values["accounts"]) is Table
    assert values["accounts"]["a"] == two.Account("ada")


def test_restore_leaves_absent_fields_with_defaults_alone_and_refuses_the_rest():
    hints = {"a": int, "b": int}
    schema = read_schema(hints, {"a": 1}, version=1, where="m")[0]
    assert restore({"b": 2}, schema, hints=hints) == {"b": 2}
    with pytest.raises(MigrationError, match="lacks fields that have no default: b"):
        restore({"a": 2}, schema, hints=hints)
    with pytest.raises(MigrationError, match="fields that the new version does not: c"):
        restore({"b": 2, "c": 3}, schema, hints=hints)
    with pytest.raises(MigrationError, match="at b"):
        restore({"b": "x"}, schema, hints=hints)


def test_compiled_functions_live_in_the_generation():
    module = load(V1)
    hints = hints_of(module, accounts="Table[str, Account]")
    assert trees_of(hints) is trees_of(hints)
    assert trees_of(dict(hints)) is not trees_of(hints)
    assert any(trees_of(hints) is one for one in module.__dict__["__replank_trees__"].values())


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        -5,
        2**63,
        -(2**70),
        [2**65],
        {"big": 2**64},
        1.5,
        float("inf"),
        "ü",
        "\udc80",
        {"x": "\udc80"},
        {"\udc80x": 1},
        b"\x00\xff",
        bytearray(b"ab"),
        dt.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=dt.UTC),
        dt.datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=zoneinfo.ZoneInfo("UTC")),
        dt.datetime(2026, 1, 2),  # noqa: DTZ001 - naive ones must survive too
        dt.date(2026, 1, 2),
        dt.time(1, 2, 3),
        dt.timedelta(days=-1, microseconds=5),
        uuid.UUID(int=7),
        decimal.Decimal("1.10"),
        (1, (2, [3])),
        {1, 2},
        frozenset({"a"}),
        deque([1, {"a": [2]}], maxlen=5),
        OrderedDict([("b", [1]), ("a", 2)]),
        Counter("aab"),
        {1: "a", (1, 2): {"b": 1}, None: 2},
        {"$": 1},
        {"$": "ref", "n": 0},
        {"$type": "x"},
        {"a": {"$": {"$": 2}}},
        [],
        {},
        {"a": [], "b": {}},
    ],
)
def test_every_kind_of_value_survives_the_disk(value, tmp_path):
    again = there_and_back(value, tmp_path)
    assert again == value
    assert type(again) is type(value)


def test_a_default_dict_keeps_its_factory(tmp_path):
    again = there_and_back(defaultdict(set, {"a": {1}}), tmp_path)
    assert again.default_factory is set
    again = there_and_back(defaultdict(None, {"a": {1}}), tmp_path)
    assert again.default_factory is None


def test_a_zone_keeps_its_name_and_its_fold(tmp_path):
    try:
        zone = zoneinfo.ZoneInfo("Europe/Berlin")
    except zoneinfo.ZoneInfoNotFoundError:
        pytest.skip("no time zone data on this machine")
    again = there_and_back(dt.datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=zone), tmp_path)
    assert again.tzinfo is zone
    assert again.fold == 1


def test_aliases_and_cycles_survive_the_disk(tmp_path):
    shared = {"n": 1}
    value: dict[str, Any] = {"a": shared, "b": [shared], "t": (shared,)}
    value["self"] = value
    value["deque"] = deque([value])
    again = there_and_back(value, tmp_path)
    assert again["a"] is again["b"][0] is again["t"][0]
    assert again["self"] is again
    assert again["deque"][0] is again


def test_a_cycle_through_a_tuple_survives_the_disk(tmp_path):
    items: list[Any] = []
    pair = (items, 1)
    items.append(pair)
    again = there_and_back({"p": pair, "q": pair}, tmp_path)
    assert again["p"][0][0] is again["p"] is again["q"]


def test_a_cycle_that_only_tuples_hold_is_refused(tmp_path):
    items: list[Any] = []
    pair = (items, 1)
    items.append((pair,))
    with pytest.raises(SnapshotError, match="cycle through a tuple"):
        there_and_back({"p": pair}, tmp_path)


def test_a_large_table_is_written_in_frames(tmp_path, monkeypatch):
    monkeypatch.setattr(snapshots, "CHUNK_ITEMS", 10)
    shared = [1]
    value = {n: {"k": n, "s": shared} for n in range(95)}
    schema = read_schema({"t": Any}, {}, version=1, where="m")[0]
    taken = take("m", {"t": value}, schema, messages=[shared])
    write(taken, tmp_path / "x")
    again = read(tmp_path / "x")
    assert again.tree["t"] == value
    assert list(again.tree["t"]) == list(value)
    assert again.tree["t"][0]["s"] is again.tree["t"][94]["s"]
    assert len(list(snapshots.frames(taken))) == 1 + 1 + 1 + 10 + 1 + 1


def test_everything_about_a_snapshot_survives(tmp_path):
    one = snapshot_of({"a": 1}, messages=({"to": "x"}, (1, 2)))
    write(one, tmp_path / "x")
    assert read(tmp_path / "x", module="ledger") == one
    assert digest(read(tmp_path / "x").tree) == digest(one.tree)


def test_own_objects_come_back_from_disk_on_the_new_classes(tmp_path):
    source = "class Book:\n  def __init__(self): self.me = self; self.kind = Kind.A\nclass Kind(enum.Enum):\n  A = 1"
    one, two = load(source), load(source)
    schema = read_schema({"b": Any}, {}, version=1, where="m")[0]
    own = Namespace(one.__name__)
    write(take("m", {"b": [one.Book()]}, schema, own=own), tmp_path / "x")
    values = restore(
        read(tmp_path / "x").tree, schema, hints={"b": Any}, own=Namespace(two.__name__)
    )
    (book,) = values["b"]
    assert type(book) is two.Book
    assert book.me is book
    assert book.kind is two.Kind.A


def test_what_exists_in_this_process_only_is_refused_with_its_path(tmp_path):
    lock = threading.Lock()
    with pytest.raises(SnapshotError) as caught:
        write(snapshot_of({"a": [{"lock": lock}]}), tmp_path / "x")
    assert "value.a[0].lock is carried by identity" in caught.value.what
    assert "Carry" in (caught.value.do or "")
    assert caught.value.module == "ledger"
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_last_snapshot(tmp_path):
    path = tmp_path / "x"
    write(snapshot_of(1), path)
    before = path.read_bytes()
    with pytest.raises(SnapshotError):
        write(snapshot_of(threading.Lock()), path)
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["x"]


def test_a_full_disk_is_a_clear_error(tmp_path, monkeypatch):
    def refuse(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(SnapshotError, match="cannot be written") as caught:
        write(snapshot_of(1), tmp_path / "x")
    assert "No space left" in (caught.value.found or "")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_or_file_is_a_clear_error(tmp_path):
    with pytest.raises(SnapshotError, match="cannot be written"):
        write(snapshot_of(1), tmp_path / "no" / "x")
    with pytest.raises(SnapshotError, match="cannot be opened"):
        read(tmp_path / "x")


def test_a_file_cut_anywhere_is_refused(tmp_path):
    path = tmp_path / "x"
    write(snapshot_of({"a": [1, 2, {"b": 3}]}), path)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(SnapshotError, match="truncated"):
            read(path)


def test_a_changed_byte_anywhere_is_refused(tmp_path):
    path = tmp_path / "x"
    write(snapshot_of({"a": [1, 2, {"b": 3}]}), path)
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
        with pytest.raises(SnapshotError):
            read(path)


def test_each_kind_of_damage_has_its_own_error(tmp_path):
    path = tmp_path / "x"
    write(snapshot_of({"a": 1}), path)
    whole = path.read_bytes()
    newer = whole[:16] + (FORMAT + 1).to_bytes(2, "big") + whole[18:]
    cases = {
        b"": "is empty",
        b"SQLite format 3\0" + bytes(100): "no snapshot of Replank",
        newer: "newer Replank",
        whole[:16] + bytes(2) + whole[18:]: "torn",
        whole[:18] + bytes(len(whole) - 18): "torn",
        whole[:40] + b"\xff" + whole[41:]: "corrupt",
        whole + b"x": "corrupt",
        whole[:18] + b"\xff\xff\xff\xff" + whole[22:]: "impossible length",
    }
    for content, words in cases.items():
        path.write_bytes(content)
        with pytest.raises(SnapshotError, match=words) as caught:
            read(path)
        assert caught.value.do


def test_another_modules_snapshot_is_refused(tmp_path):
    write(snapshot_of(1), tmp_path / "x")
    with pytest.raises(SnapshotError, match="another module's"):
        read(tmp_path / "x", module="api")


def test_a_well_formed_file_with_nonsense_inside_is_refused(tmp_path):
    def file(*wires: Any) -> bytes:
        head = snapshots.MAGIC + snapshots._VERSION.pack(FORMAT)
        return head + b"".join(snapshots._frame(wire) for wire in wires)

    header = ["header", {"module": "m"}]
    for wires in (
        [["field", "a", 1], ["close", 1]],
        [header, ["close", 1]],
        [header, ["what", 1], ["close", 2]],
        [header, ["field", "a", {"$": "nothing"}], ["close", 2]],
        [header, ["field", "a", {"$": "ref", "n": 7}], ["close", 2]],
        [header, {"a": 1}],
    ):
        path = tmp_path / "x"
        path.write_bytes(file(*wires))
        with pytest.raises(SnapshotError):
            read(path)


def test_messages_that_cannot_be_written_are_named(tmp_path):
    one = snapshot_of(1, messages=(freeze({"a": 1}), freeze([threading.Lock()])))
    with pytest.raises(SnapshotError, match=r"message 1\[0\]"):
        write(one, tmp_path / "x")


def test_the_schema_of_a_snapshot_is_read_back(tmp_path):
    one = snapshot_of(1)
    write(one, tmp_path / "x")
    assert isinstance(read(tmp_path / "x").schema, Schema)
    assert read(tmp_path / "x").schema.fingerprint == one.schema.fingerprint
