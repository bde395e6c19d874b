"""A state written piece by piece is what would have been written whole."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest

from replank.errors import MigrationError, SnapshotError
from replank.schema import read_schema
from replank.state import format as snapshots
from replank.state import loading, streaming
from replank.state.memo import Conflict
from replank.state.slices import run_all
from replank.state.snapshot import frames, read, restore, take, trees_of, write_frames
from replank.state.streaming import piecewise, stream
from replank.table import Table
from tests.state_helpers import hints_of, load

SOURCE = """
class Tag(Record):
    text: str
class Account(Record):
    owner: str
    cents: int = 0
    tags: list[Tag] = []
    friend: Account | None = None
class Pair(Record):
    both: tuple[Account, Account] | None = None
"""


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "CHUNK_ITEMS", 3)


class State:
    """Values with their schema, written in both ways."""

    def __init__(self, module: Any, values: dict[str, Any], **fields: str) -> None:
        self.hints = hints_of(module, **fields)
        self.schema = read_schema(self.hints, {}, version=1, where="m")[0]
        self.values = values

    def streamed(self, path: Path, **more: Any) -> dict[str, Any]:
        head = take("m", {}, self.schema, hints=self.hints, **more)
        write_frames(stream(head, self.values, trees_of(self.hints)), path)
        self.read = read(path)
        return restore(self.read.tree, self.schema, hints=self.hints)

    def whole(self, path: Path) -> dict[str, Any]:
        taken = take("m", self.values, self.schema, hints=self.hints)
        write_frames(frames(taken), path)
        return restore(read(path).tree, self.schema, hints=self.hints)


def accounts(module: Any, count: int = 20) -> Any:
    return Table({f"a{n}": module.Account(f"o{n}", n, [module.Tag(f"t{n}")]) for n in range(count)})


def test_what_is_written_in_pieces_is_what_is_written_whole(tmp_path: Path) -> None:
    module = load(SOURCE)
    state = State(
        module,
        {
            "accounts": accounts(module),
            "plain": {n: [n, {"x": n}] for n in range(10)},
            "few": {"a": 1},
            "total": 7,
        },
        accounts="Table[str, Account]",
        plain="dict",
        few="dict[str, int]",
        total="int",
    )
    made = state.streamed(tmp_path / "a", messages=[{"call": "x"}], inbox_position=9)
    assert made == state.whole(tmp_path / "b")
    assert list(made["accounts"]) == list(state.values["accounts"])
    assert type(made["accounts"]) is Table
    assert state.read.records == 31
    assert state.read.messages == ({"call": "x"},)
    assert state.read.inbox_position == 9
    assert (tmp_path / "a").read_bytes().count(b"items") >= 7 + 4


def test_what_is_shared_between_pieces_fields_and_itself_stays_shared(tmp_path: Path) -> None:
    module = load(SOURCE)
    table = accounts(module)
    tag = module.Tag("shared")
    table["a1"].tags.append(tag)
    table["a19"].tags.append(tag)
    table["a2"].friend = table["a18"]  # met before its own key
    table["a17"].friend = table["a3"]  # and after it
    table["a4"].friend = table["a4"]
    table["twice"] = table["a0"]
    state = State(
        module,
        {"best": table["a9"], "accounts": table, "again": table, "late": [table["a10"]]},
        best="Account",
        accounts="Table[str, Account]",
        again="Table[str, Account]",
        late="list[Account]",
    )
    alone = dict(state.values)
    del alone["again"]
    for values in (state.values, alone):
        state.values = values
        made = state.streamed(tmp_path / f"{len(values)}")
        new = made["accounts"]
        assert new["a1"].tags[1] is new["a19"].tags[1]
        assert new["a2"].friend is new["a18"]
        assert new["a17"].friend is new["a3"]
        assert new["a4"].friend is new["a4"]
        assert new["twice"] is new["a0"]
        assert made["best"] is new["a9"]
        assert made["late"][0] is new["a10"]
        assert new["a5"].tags[0] is not new["a6"].tags[0]
    assert "again" not in made


def test_a_container_that_refers_to_itself_is_written_once(tmp_path: Path) -> None:
    nest: dict[Any, Any] = {n: [n] for n in range(10)}
    nest[5].append(nest)
    state = State(load(SOURCE), {"nest": nest}, nest="Any")
    made = state.streamed(tmp_path / "a")["nest"]
    assert made[5][1] is made
    assert made[6] == [6]


def test_only_what_something_else_refers_to_is_remembered(tmp_path: Path) -> None:
    module = load(SOURCE)
    state = State(module, {"accounts": accounts(module, 60)}, accounts="Table[str, Account]")
    held = [state.values["accounts"]["a30"]]
    sizes: list[int] = []
    met: list[Any] = []
    original = streaming._Met.remember

    def remember(self: Any, **how: Any) -> None:
        original(self, **how)
        met[:] = [self]
        sizes.append(len(self.memo))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streaming._Met, "remember", remember)
        state.streamed(tmp_path / "a")
    assert held
    assert len(sizes) == 20
    # the container, the one that is held, and the last of each piece, which the iterator holds
    assert max(sizes) <= 2 + 1 + 1 + 20
    assert len(met[0].shared) <= 1 + 1 + 20


def test_a_type_with_tuples_that_may_share_is_copied_whole(tmp_path: Path) -> None:
    module = load(SOURCE)
    freezer = trees_of(hints_of(module, accounts="Table[str, Account]")).freezer
    hints = hints_of(
        module,
        pairs="Table[str, Pair]",
        flat="dict[str, tuple[int, str]]",
        accounts="Table[str, Account]",
    )
    many = {str(n): None for n in range(10)}
    assert piecewise(Table(many), hints["pairs"], freezer) is None
    assert piecewise(many, hints["flat"], freezer) is not None
    assert piecewise(Table(many), hints["accounts"], freezer) is not None
    assert piecewise(many, hints["accounts"], freezer) is None  # not what its type says
    assert piecewise({(1, n): n for n in range(9)}, hints["flat"], freezer) is None
    a = module.Account("x")
    both = (a, a)
    pairs = Table({str(n): module.Pair(both) for n in range(9)})
    state = State(module, {"pairs": pairs}, pairs="Table[str, Pair]")
    made = state.streamed(tmp_path / "a")["pairs"]
    assert made["0"].both[0] is made["8"].both[1]


def test_what_cannot_be_written_is_named_with_its_place(tmp_path: Path) -> None:
    module = load(SOURCE)
    table = accounts(module)
    table["a11"].owner = open  # a builtin: it exists in this process only
    state = State(module, {"accounts": table}, accounts="Table[str, Account]")
    with pytest.raises(SnapshotError, match=r"accounts\['a11'\]\.owner is carried by identity"):
        state.streamed(tmp_path / "a")
    table["a11"].owner = "x"
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    state = State(module, {"nest": {n: [] if n else deep for n in range(9)}}, nest="Any")
    with pytest.raises(MigrationError, match="nested too deeply"):
        state.streamed(tmp_path / "b")
    while deep:
        deep = deep.pop()


def test_two_types_for_one_list_are_a_conflict_that_the_caller_settles(tmp_path: Path) -> None:
    module = load(SOURCE)
    tags = [module.Tag("x")]
    table = accounts(module)
    table["a1"].tags = tags
    other = {str(n): tags for n in range(9)}
    fields = {"accounts": "Table[str, Account]", "other": "Any"}
    with pytest.raises(Conflict):
        State(module, {"accounts": table, "other": other}, **fields).streamed(tmp_path / "a")
    made = State(module, {"other": other, "accounts": table}, **fields).streamed(tmp_path / "b")
    assert made["other"]["0"] is made["other"]["8"] is made["accounts"]["a1"].tags


def load_back(state: State, path: Path) -> dict[str, Any]:
    """Build the values from a file piece by piece, as a start does."""
    own = trees_of(state.hints).own
    head, values = run_all(loading.load_steps(path, state.schema, state.hints, own))
    assert head.tree == {}
    return values


@pytest.mark.parametrize("written", ["streamed", "whole"])
def test_what_is_read_in_pieces_is_what_is_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str
) -> None:
    module = load(SOURCE)
    table = accounts(module)
    table["a2"].friend = table["a18"]
    table["a17"].friend = table["a3"]
    table["twice"] = table["a0"]
    state = State(
        module,
        {
            "loose": {n: [n, table["a4"]] for n in range(9)},
            "accounts": table,
            "maybe": {str(n): n for n in range(9)},
            "days": {dt.date(2026, 1, n + 1): n for n in range(9)},
            "list": [table["a9"], table["a9"]],
            "total": 3,
        },
        loose="Any",
        accounts="Table[str, Account]",
        maybe="dict[str, int] | None",
        days="dict[datetime.date, int]",
        list="list[Account]",
        total="int",
    )
    monkeypatch.setattr(snapshots, "CHUNK_ITEMS", 3)
    expected = getattr(state, written)(tmp_path / "a")
    made = load_back(state, tmp_path / "a")
    assert made == expected
    assert list(made["accounts"]) == list(table)
    new = made["accounts"]
    assert new["a2"].friend is new["a18"]
    assert new["a17"].friend is new["a3"]
    assert new["twice"] is new["a0"]
    assert made["loose"][8][1] is made["loose"][0][1] is new["a4"]
    assert made["list"][0] is made["list"][1] is new["a9"]
    assert type(new) is Table


def test_a_value_that_does_not_fit_is_named_and_a_torn_end_is_found(tmp_path: Path) -> None:
    module = load(SOURCE)
    table = accounts(module)
    table["a11"].cents = "many"
    state = State(module, {"accounts": table}, accounts="Table[str, Account]")
    head = take("m", {}, state.schema, hints=state.hints)
    write_frames(stream(head, state.values, trees_of(state.hints)), tmp_path / "a")
    with pytest.raises(MigrationError, match=r"accounts\['a11'\]\.cents"):
        load_back(state, tmp_path / "a")
    table["a11"].cents = 1
    state.streamed(tmp_path / "b")
    whole = (tmp_path / "b").read_bytes()
    for end in (0, 10, len(whole) // 2, len(whole) - 1):
        (tmp_path / "b").write_bytes(whole[:end])
        with pytest.raises(SnapshotError):
            load_back(state, tmp_path / "b")
    with pytest.raises(SnapshotError, match="cannot be opened"):
        load_back(state, tmp_path / "none")


def test_a_file_without_a_needed_field_is_refused(tmp_path: Path) -> None:
    module = load(SOURCE)
    state = State(module, {"a": 1}, a="int")
    state.streamed(tmp_path / "a")
    other = State(module, {}, a="int", b="int")
    own = trees_of(other.hints).own
    with pytest.raises(MigrationError, match="lacks fields that have no default: b"):
        run_all(loading.load_steps(tmp_path / "a", other.schema, other.hints, own))


def test_while_reading_only_what_has_a_number_is_remembered(tmp_path: Path) -> None:
    module = load(SOURCE)
    state = State(module, {"accounts": accounts(module, 90)}, accounts="Table[str, Account]")
    state.streamed(tmp_path / "a")
    sizes: list[int] = []
    original = loading._Loading._forget

    def forget(self: Any) -> None:
        original(self)
        sizes.append(len(self.memo))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loading._Loading, "_forget", forget)
        load_back(state, tmp_path / "a")
    assert len(sizes) == 31
    # those with a number: the container and the last record of each piece, with its list
    assert max(sizes) <= 2 + 1 + 30 * 3
