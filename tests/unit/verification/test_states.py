import collections
import datetime as dt
import decimal
import enum
import uuid
from typing import Annotated, Any, Literal, NotRequired, TypedDict

import msgspec
import pytest

from replank.plain import digest
from replank.schema import read_schema
from replank.state.names import Namespace
from replank.state.snapshot import restore, take
from replank.table import Table
from replank.verification.states import CannotGenerate, StateGenerator


class Tier(enum.Enum):
    BASIC = 1
    GOLD = 2


class Right(enum.Flag):
    READ = 1
    WRITE = 2


class Leaf(msgspec.Struct):
    cents: int = 0


class Other(msgspec.Struct):
    text: str = ""


class Node(msgspec.Struct):
    name: str
    children: list["Node"] = []
    parent: "Node | None" = None


class Loose(TypedDict):
    a: int
    b: NotRequired[str]


SCALARS = {
    "n": None, "yes": bool, "i": int, "f": float, "s": str, "raw": bytes, "at": dt.datetime,
    "day": dt.date, "t": dt.time, "d": dt.timedelta, "u": uuid.UUID, "price": decimal.Decimal,
    "buffer": bytearray, "anything": Any,
}  # fmt: skip
CONTAINERS = {
    "table": Table[str, Leaf],
    "numbers": dict[int, float],
    "by_pair": dict[tuple[int, str], int],
    "ordered": collections.OrderedDict[str, int],
    "counter": collections.Counter[str],
    "queue": collections.deque[int],
    "many": set[int],
    "fixed": frozenset[str],
    "pair": tuple[int, str],
    "some": tuple[int, ...],
    "rows": list[Leaf],
}
OTHERS = {
    "tier": Tier,
    "right": Right,
    "word": Literal["a", "b"],
    "maybe": int | None,
    "either": Leaf | Other,
    "tier_or_text": Tier | str,
    "root": Node,
    "loose": Loose,
}
LIMITED = {
    "positive": Annotated[int, msgspec.Meta(gt=0)],
    "huge": Annotated[int, msgspec.Meta(ge=1 << 60)],
    "even": Annotated[int, msgspec.Meta(multiple_of=2, ge=3, le=9)],
    "share": Annotated[float, msgspec.Meta(ge=0, le=1)],
    "code": Annotated[str, msgspec.Meta(min_length=3, max_length=5)],
    "few": Annotated[list[int], msgspec.Meta(min_length=1, max_length=2)],
}


@pytest.mark.parametrize("hints", [SCALARS, CONTAINERS, OTHERS, LIMITED])
def test_what_is_made_up_fits_its_types_and_is_a_tree_as_a_freeze_makes_it(hints):
    schema, _ = read_schema(hints, {}, version=1, where="x")
    for tree in StateGenerator(schema).states(60):
        values = restore(tree, schema, hints=hints, own=Namespace(__name__))
        again = take("x", values, schema, hints=hints, own=Namespace(__name__)).tree
        assert digest(again) == digest(tree)


def test_the_same_seed_makes_the_same_states():
    schema, _ = read_schema(CONTAINERS, {}, version=1, where="x")
    one, two, other = (list(StateGenerator(schema, seed).states(20)) for seed in (1, 1, 2))
    assert one == two
    assert one != other


def test_the_values_at_which_functions_break_are_among_them():
    schema, _ = read_schema({"i": int, "s": str, "rows": list[int]}, {}, version=1, where="x")
    states = list(StateGenerator(schema).states(100))
    assert {0, 1, -1} <= {state["i"] for state in states}
    assert "" in {state["s"] for state in states}
    assert any(state["rows"] == [] for state in states)
    assert any(len(state["rows"]) > 2 for state in states)


def test_a_field_that_cannot_be_made_up_keeps_its_default_and_is_named():
    hint = Annotated[str, msgspec.Meta(pattern="^a+$")]
    schema, _ = read_schema({"code": hint, "n": int}, {"code": "a"}, version=1, where="x")
    generator = StateGenerator(schema)
    assert all("code" not in tree for tree in generator.states(3))
    assert generator.left_out == {"code"}


def test_a_required_field_that_cannot_be_made_up_is_an_error():
    hint = Annotated[int, msgspec.Meta(gt=3, lt=4)]
    schema, _ = read_schema({"n": hint}, {}, version=1, where="x")
    with pytest.raises(CannotGenerate):
        list(StateGenerator(schema).states(1))
