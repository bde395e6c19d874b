from __future__ import annotations

import datetime as dt
import random
import tempfile
from collections import deque
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from replank.errors import SchemaError
from replank.migration.engine import Migration
from replank.migration.graph import StepGraph
from replank.migration.steps import (
    Step,
    add,
    convert,
    flatten,
    merge,
    move,
    nest,
    rekey,
    remove,
    rename,
    split,
    step,
)
from replank.plain import copy_tree, digest
from replank.schema import Schema, read_schema
from replank.state.names import Namespace
from replank.state.record_migration import record_migration
from replank.state.snapshot import read, take, write
from replank.state.tree import Trees, freeze, thaw
from tests.state_helpers import hints_of, load

SOURCE = """
class Color(enum.Enum):
    RED = 1
    GREEN = 2

class Node(Record):
    name: str
    score: float | None = None
    color: Color = Color.RED
    links: list[Node] = []
    any: Any = None
"""
OLD, NEW = load(SOURCE), load(SOURCE)
HINTS = {"nodes": "list[Node]", "extra": "Any"}
OLD_TREES = Trees(hints_of(OLD, **HINTS), Namespace(OLD.__name__))
NEW_TREES = Trees(hints_of(NEW, **HINTS), Namespace(NEW.__name__))

keys = st.one_of(
    st.text(max_size=5),
    st.integers(),
    st.booleans(),
    st.none(),
    st.sampled_from(["$", "$type", "$map", "$enum"]),
)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(max_size=8),
    st.binary(max_size=8),
    st.datetimes(),
    st.dates(),
    st.timedeltas(),
    st.decimals(allow_nan=False),
    st.uuids(),
    st.sampled_from(["$", "$type", "$tuple", "$code"]),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(keys, inner, max_size=4),
        st.sets(keys, max_size=3),
        st.frozensets(keys, max_size=3),
        st.lists(inner, max_size=3).map(deque),
        st.dictionaries(st.tuples(keys, keys), inner, max_size=2),
    ),
    max_leaves=15,
)


@given(values)
@settings(deadline=None)
def test_untyped_values_survive_freeze_and_thaw(value):
    again = thaw(freeze(value))
    assert again == value
    assert repr(type(again)) == repr(type(value))


@given(values)
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_untyped_values_survive_the_disk(value):
    schema = read_schema({"v": Any}, {}, version=1, where="m")[0]
    taken = take("m", {"v": value}, schema, messages=[value])
    with tempfile.TemporaryDirectory() as folder:
        write(taken, Path(folder) / "x")
        again = read(Path(folder) / "x")
    assert again == taken
    assert digest(again.tree) == digest(taken.tree)
    assert thaw(again.tree["v"]) == value


@st.composite
def graphs(draw: Any) -> tuple[list[Any], Any]:
    """Nodes that refer to one another in any way, and something that refers to them."""
    count = draw(st.integers(1, 6))
    some = st.integers(0, count - 1)
    nodes = [
        OLD.Node(
            draw(st.text(max_size=3)),
            draw(st.none() | st.floats(allow_nan=False)),
            draw(st.sampled_from(list(OLD.Color))),
        )
        for _ in range(count)
    ]
    for node in nodes:
        node.links = [nodes[n] for n in draw(st.lists(some, max_size=3))]
        kind = draw(st.sampled_from(["none", "node", "list", "dict", "tuple", "links"]))
        other = nodes[draw(some)]
        node.any = {
            "none": None,
            "node": other,
            "list": [other, node],
            "dict": {1: other},
            "tuple": (other,),
            "links": other.links,
        }[kind]
    return nodes, draw(st.sampled_from([nodes, nodes[0], {"n": tuple(nodes)}]))


def same_graph(one: Any, other: Any, pairs: dict[int, int]) -> None:
    """Walk two graphs side by side: equal, and shared in the same places."""
    if isinstance(one, str | float | type(None) | int):
        assert one == other
        return
    if isinstance(one, OLD.Color):
        assert other is NEW.Color[one.name]
        return
    if not isinstance(one, tuple):
        assert pairs.setdefault(id(one), id(other)) == id(other)
        if pairs.get(-id(one)):
            return
        pairs[-id(one)] = 1
    if isinstance(one, OLD.Node):
        assert type(other) is NEW.Node
        for name in one.__struct_fields__:
            same_graph(getattr(one, name), getattr(other, name), pairs)
        return
    assert type(one) is type(other)
    assert len(one) == len(other)
    if isinstance(one, dict):
        assert list(one) == list(other)
        one, other = one.values(), other.values()
    for left, right in zip(one, other, strict=True):
        same_graph(left, right, pairs)


@given(graphs(), st.booleans())
@settings(deadline=None)
def test_graphs_of_records_keep_their_shape_in_the_new_generation(graph, reverse):
    nodes, extra = graph
    state = {"nodes": nodes, "extra": extra}
    tree = copy_tree(OLD_TREES.freeze(state))
    if reverse:
        tree = dict(reversed(tree.items()))
    moved = NEW_TREES.thaw(tree)
    pairs: dict[int, int] = {}
    same_graph(nodes, moved["nodes"], pairs)
    same_graph(extra, moved["extra"], pairs)


@given(graphs())
@settings(deadline=None, max_examples=50)
def test_graphs_of_records_keep_their_shape_on_disk(graph):
    nodes, extra = graph
    hints = OLD_TREES.hints
    schema = read_schema(hints, {}, version=1, where="m")[0]
    taken = take("m", {"nodes": nodes, "extra": extra}, schema, hints=hints, own=OLD_TREES.own)
    with tempfile.TemporaryDirectory() as folder:
        write(taken, Path(folder) / "x")
        tree = read(Path(folder) / "x").tree
    moved = NEW_TREES.thaw(tree)
    pairs: dict[int, int] = {}
    same_graph(nodes, moved["nodes"], pairs)
    same_graph(extra, moved["extra"], pairs)


texts = st.text("abc ", max_size=6)
records = st.fixed_dictionaries(
    {
        "name": texts,
        "cents": st.integers(),
        "ratio": st.floats(-1e6, 1e6),
        "at": st.dates(dt.date(2000, 1, 1)).map(str),
        "in": st.fixed_dictionaries({"x": st.integers(), "y": texts}),
    }
)
states = st.fixed_dictionaries(
    {
        "total": st.integers(),
        "t": st.dictionaries(texts, records, max_size=4),
        "l": st.lists(records, max_size=3),
    }
)


def parts_for(where: str) -> list[Any]:
    """Operations that may follow one another in any order on the same record."""
    return [
        rename(f"{where}.cents", "amount"),
        add(f"{where}.tier", default="basic"),
        remove(f"{where}.at"),
        convert(f"{where}.ratio", round, float, lossy=True),
        split(f"{where}.name", ("n", "s"), lambda s: (len(s), s), lambda _n, s: s),
        move(f"{where}.in.x", f"{where}.x"),
        merge(f"{where}.in", ("y",), "z", lambda y: [y], lambda z: z),
    ]


@given(states, st.data())
@settings(deadline=None)
def test_old_to_new_to_old_gives_the_old_state_back(state, data):
    where = data.draw(st.sampled_from(["t.*", "l.*"]))
    parts = data.draw(st.permutations(parts_for(where)))[: data.draw(st.integers(0, 7))]
    if data.draw(st.booleans()):
        parts.append(rekey("t", lambda k: k + "!", lambda k: k[:-1]))
    if data.draw(st.booleans()):
        parts += [
            nest("", ("total",), "sums"),
            flatten("sums", ("total",)),
            nest("", ("total",), "s"),
        ]
    migration = as_migration(step(1, 2, *parts))
    before = copy_tree(state)
    new = migration.upgrade(state)
    assert migration.downgrade(new, state) == state == before
    lossless = not any(op.lossy for _, op in migration.forward)
    if lossless:
        assert migration.downgrade(new) == state


@given(states, st.data())
@settings(deadline=None)
def test_what_the_new_version_wrote_survives_down_and_up_again(state, data):
    parts = data.draw(st.permutations(parts_for("t.*")))[: data.draw(st.integers(0, 7))]
    migration = as_migration(step(1, 2, *parts))
    new, lost = migration.upgrade_and_park(state)
    for record in new["t"].values():
        for name in ("tier", "ratio", "s", "amount"):
            if name in record and data.draw(st.booleans()):
                record[name] = {"tier": "gold", "ratio": 3.5, "s": "new", "amount": 9}[name]
                if name == "s":
                    record["n"] = 3
    old, residue = migration.downgrade_and_park(new, lost)
    assert migration.upgrade(old, residue) == new


RECORD = """
class In(Record):
    x: int = 0
    y: str = ""

class A(Record):
    name: str
    cents: int = 0
    ratio: float = 0.0
    at: str = "now"
    inside: In = msgspec.field(default_factory=In)
    tags: list[int] = []
"""


def target_of(chosen: set[int]) -> str:
    """Write the record class that the chosen operations lead to."""
    inner = {"x: int = 0", "y: str = ''"} - ({"x: int = 0"} if 5 in chosen else set())
    fields = {
        "name: str" if 4 not in chosen else "n: int = 0\n    s: str = ''",
        "amount: int = 0" if 0 in chosen else "cents: int = 0",
        "ratio: int = 0" if 3 in chosen else "ratio: float = 0.0",
        "inside: In = msgspec.field(default_factory=In)",
        "tags: list[str] = []" if 6 in chosen else "tags: list[int] = []",
    }
    fields |= {"tier: str = 'basic'"} if 1 in chosen else set()
    fields |= {"at: str = 'now'"} if 2 not in chosen else set()
    fields |= {"x: int = 0"} if 5 in chosen else set()
    body = sorted(fields, key=lambda text: "=" in text)
    lines = ["class In(Record):", *(f"    {one}" for one in sorted(inner)), "class A(Record):"]
    return "\n".join([*lines, *(f"    {one}" for one in body)]) + "\n"


def record_settings() -> list[tuple[int, ...]]:
    """Choose operations and their order, by a seed: each needs classes of its own."""
    chance = random.Random(5)
    return [(), *(tuple(chance.sample(range(7), chance.randint(1, 7))) for _ in range(14))]


@pytest.mark.parametrize("order", record_settings())
def test_compiled_records_are_what_the_tree_engine_makes(order):
    parts = [
        rename("t.*.cents", "amount"),
        add("t.*.tier", default="basic"),
        remove("t.*.at"),
        convert("t.*.ratio", round, float, lossy=True),
        split("t.*.name", ("n", "s"), lambda s: (len(s), s), lambda _n, s: s),
        move("t.*.inside.x", "t.*.x"),
        convert("t.*.tags.*", str, int),
    ]
    migration = as_migration(step(1, 2, *(parts[n] for n in order)))
    one, two = load(RECORD), load(target_of(set(order)))
    trees = [Trees(hints_of(m, t="Table[str, A]"), Namespace(m.__name__)) for m in (one, two)]
    made = record_migration(migration, "t", *trees)
    assert made is not None and made.down is not None and made.check is not None
    up, down, check = made.up, made.down, made.check
    make = st.builds(
        one.A,
        texts,
        st.integers(),
        st.floats(-1e3, 1e3),
        texts,
        st.builds(one.In, st.integers(), texts),
        st.lists(st.integers(), max_size=3),
    )

    @given(make, make)
    @settings(deadline=None, max_examples=15)
    def laws(old, other):
        new, written = up(old), up(other)
        # the tree engine does the same
        tree = trees[0].freeze({"t": {"k": old}})
        assert trees[1].thaw(migration.upgrade(tree))["t"]["k"] == new
        back = migration.downgrade(trees[1].freeze({"t": {"k": written}}), tree)
        assert trees[0].thaw(back)["t"]["k"] == down(written, old)
        # GetPut, and what the check says of it
        assert down(new, old) == old
        assert check(old, new)
        assert check(old, written) == (down(written, old) == old)
        # PutGet and Create: what the old schema has room for survives
        assert up(down(written, old)) == written
        assert up(down(written, None)) == written

    laws()


def as_migration(made: Step) -> Migration:
    forward = tuple((made.name, op) for op in made.operations)
    return Migration("m", Schema.EMPTY, Schema.EMPTY, (), forward)


edges = st.sets(
    st.tuples(st.integers(1, 8), st.integers(1, 8)).filter(lambda e: e[0] < e[1]), max_size=16
)


@given(edges, st.data())
@settings(deadline=None)
def test_the_path_search_ends_and_finds_the_best_way(pairs, data):
    lossy = {edge for edge in sorted(pairs) if data.draw(st.booleans())}
    graph = StepGraph(step(*e, remove("x")) if e in lossy else step(*e) for e in pairs)
    start, end = 1, data.draw(st.integers(1, 8))
    ways = every_way(pairs, start, end)
    costs = sorted((sum(e in lossy for e in way), len(way)) for way in ways)
    try:
        path = [(s.start, s.end) for s in graph.path(start, end)]
    except SchemaError as error:
        assert not ways or ("equally good" in error.what and costs[0] == costs[1])  # noqa: PT017 - an error is one of two right answers
        return
    assert path in ways
    assert (sum(e in lossy for e in path), len(path)) == costs[0]
    assert len(costs) == 1 or costs[0] != costs[1]


def every_way(pairs: set[tuple[int, int]], start: int, end: int) -> list[list[tuple[int, int]]]:
    if start == end:
        return [[]]
    return [
        [e, *rest] for e in sorted(pairs) if e[0] == start for rest in every_way(pairs, e[1], end)
    ]
