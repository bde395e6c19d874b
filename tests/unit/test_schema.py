from __future__ import annotations

import json
import threading

import pytest

from replank.difference import Change
from replank.errors import DefinitionError, SchemaError
from replank.schema import Schema, difference, read_schema
from tests.state_helpers import hints_of, load

ACCOUNT = """
class Color(enum.Enum):
    RED = 1
    GREEN = 2

class Account(Record):
    owner: str
    cents: int = 0
    tags: list[str] = []
    parent: Account | None = None
    color: Color = Color.RED
"""


def schema_of(source: str, version: int = 1, **fields: str) -> Schema:
    module = load(source)
    defaults = {name: getattr(module, name) for name in fields if hasattr(module, name)}
    return read_schema(hints_of(module, **fields), defaults, version=version, where="ledger")[0]


def carried_of(source: str, **fields: str) -> tuple[str, ...]:
    module = load(source)
    return read_schema(hints_of(module, **fields), {}, version=1, where="ledger")[1]


def lines(old: Schema, new: Schema) -> list[str]:
    return [("" if d.safe else "! ") + d.text for d in difference(old, new)]


@pytest.mark.parametrize(
    ("hint", "text"),
    [
        ("None", "None"),
        ("bool", "bool"),
        ("bytes", "bytes"),
        ("bytearray", "bytearray"),
        ("datetime.datetime", "datetime"),
        ("datetime.timedelta", "timedelta"),
        ("uuid.UUID", "UUID"),
        ("decimal.Decimal", "Decimal"),
        ("list[int]", "list[int]"),
        ("list", "list[Any]"),
        ("dict", "dict[Any, Any]"),
        ("tuple[int, str]", "tuple[int, str]"),
        ("tuple[int, ...]", "tuple[int, ...]"),
        ("deque[int]", "deque[int]"),
        ("Counter[str]", "Counter[str]"),
        ("defaultdict[str, set[int]]", "defaultdict[str, set[int]]"),
        ("OrderedDict[str, int]", "OrderedDict[str, int]"),
        ("Optional[int]", "int | None"),
        ("Union[str, int, None]", "int | str | None"),
        ("Literal['b', 'a']", "Literal['a', 'b']"),
        ("Table[str, Account]", "Table[str, Account]"),
        ("Annotated[int, msgspec.Meta(ge=0)]", "int"),
        ("NewType('Cents', int)", "int"),
        ("Final[int]", "int"),
        ("State[int]", "int"),
        ("Any", "Any"),
        ("object", "Any"),
        ("Color", "Color"),
    ],
)
def test_each_kind_of_annotation_has_a_shape(hint, text):
    schema = schema_of(ACCOUNT, value=hint)
    assert str(schema.fields[0].shape) == text


def test_what_has_no_schema_is_carried():
    carried = carried_of(
        ACCOUNT,
        lock="threading.Lock",
        feed="Carry[int]",
        locks="dict[str, threading.Lock]",
        n="int",
    )
    assert carried == ("lock", "feed", "locks")


def test_uses_and_class_variables_are_no_state():
    module = load("limit = 3\nledger = uses('ledger')")
    hints = hints_of(module, limit="ClassVar[int]", ledger="Any", api="Uses[int]")
    schema, carried = read_schema(hints, {"ledger": module.ledger}, version=1, where="api")
    assert schema.fields == ()
    assert carried == ()


def test_an_own_class_without_a_schema_is_moved_not_carried():
    schema = schema_of("class Book: pass", book="Book")
    assert schema.fields[0].shape.kind == "object"


def test_a_foreign_class_becomes_own_when_the_caller_says_so():
    schema, carried = read_schema(
        {"event": threading.Event}, {}, version=1, where="m", own=lambda cls: True
    )
    assert carried == ()
    assert schema.fields[0].shape.name == "Event"


def test_records_of_every_flavour_have_the_same_shape():
    flavours = [
        "class A(Record):\n  x: int\n  y: str = 'a'",
        "class A(msgspec.Struct):\n  x: int\n  y: str = 'a'",
        "@dataclass\nclass A:\n  x: int\n  y: str = 'a'",
        "class A(NamedTuple):\n  x: int\n  y: str = 'a'",
        "@dataclass(slots=True, frozen=True)\nclass A:\n  y: str = dataclasses.field(default='a', kw_only=True)\n  x: int = dataclasses.field(kw_only=True)",
    ]
    prints = {schema_of(source, a="A").fingerprint for source in flavours}
    assert len(prints) == 1


def test_typed_dict_keys_may_be_absent():
    schema = schema_of("class A(TypedDict):\n  x: int\n  y: NotRequired[str]", a="A")
    x, y = schema.records["A"].fields
    assert (x.required, y.optional) == (True, True)


def test_two_generations_of_the_same_source_have_the_same_fingerprint():
    one = schema_of(ACCOUNT, accounts="Table[str, Account]")
    two = schema_of(ACCOUNT, accounts="Table[str, Account]")
    assert one.fingerprint == two.fingerprint
    assert one == two


def test_the_order_of_fields_does_not_change_the_fingerprint():
    one = schema_of("class A(Record):\n  x: int = 0\n  y: int = 1", a="A", b="int")
    two = schema_of("class A(Record):\n  y: int = 1\n  x: int = 0", b="int", a="A")
    assert one.fingerprint == two.fingerprint
    assert difference(one, two) == ()


def test_the_version_number_does_not_change_the_fingerprint():
    assert schema_of("", a="int").fingerprint == schema_of("", version=2, a="int").fingerprint


def test_a_schema_survives_json():
    schema = schema_of(
        ACCOUNT, accounts="Table[str, Account]", n="Literal['a', 2]", t="tuple[int, ...]"
    )
    again = Schema.from_dict(json.loads(json.dumps(schema.to_dict())))
    assert again == schema
    assert again.fingerprint == schema.fingerprint


def test_a_stored_schema_that_is_none_is_refused():
    with pytest.raises(SchemaError, match="stored schema"):
        Schema.from_dict({"version": "x"})


def test_an_unknown_name_in_an_annotation_is_a_definition_error():
    with pytest.raises(DefinitionError, match="class Broken"):
        schema_of("class Broken(Record):\n  x: Missing", a="Broken")


def test_two_record_types_of_one_name_are_refused():
    source = "class A:\n  class B(Record):\n    x: int\nB1 = A.B\nclass A:\n  class B(Record):\n    x: str\nB2 = A.B"
    with pytest.raises(SchemaError, match=r"both called A\.B"):
        schema_of(source, a="B1", b="B2")


BASE = "class Account(Record):\n  owner: str\n  cents: int = 0\n"


@pytest.mark.parametrize(
    ("new", "expected"),
    [
        (
            "class Account(Record):\n  owner: str\n  cents: str = ''\n",
            ["! accounts.*.cents: int -> str", "accounts.*.cents: default 0 -> ''"],
        ),
        (BASE + "  tier: str = 'basic'\n", ["accounts.*.tier added (str = 'basic')"]),
        (BASE + "  tags: list[str] = []\n", ["accounts.*.tags added (list[str] = ...)"]),
        (
            "class Account(Record):\n  owner: str\n  level: int\n  cents: int = 0\n",
            ["! accounts.*.level added (int, no default)"],
        ),
        ("class Account(Record):\n  owner: str\n", ["! accounts.*.cents removed (was int)"]),
        (
            "class Account(Record):\n  owner: str\n  cents: float = 0\n",
            ["accounts.*.cents: int -> float"],
        ),
        (
            "class Account(Record):\n  owner: str\n  cents: int | None = 0\n",
            ["accounts.*.cents: int -> int | None"],
        ),
        (
            "class Account(Record):\n  owner: str\n  cents: Annotated[int, msgspec.Meta(ge=0)] = 0\n",
            ["accounts.*.cents: constraints {} -> {'ge': 0} (values are checked)"],
        ),
    ],
)
def test_a_difference_reads_like_a_sentence(new, expected):
    old = schema_of(BASE, accounts="Table[str, Account]")
    assert lines(old, schema_of(new, accounts="Table[str, Account]")) == expected


@pytest.mark.parametrize(
    ("old", "new", "safe"),
    [
        ("int", "float", True),
        ("float", "int", False),
        ("bool", "int", True),
        ("int", "Any", True),
        ("Any", "int", False),
        ("int | None", "int", False),
        ("int | str", "str | int | None", True),
        ("Literal['a']", "Literal['a', 'b']", True),
        ("Literal['a', 'b']", "Literal['a']", False),
        ("Literal['a']", "str", True),
        ("dict[str, int]", "Table[str, int]", True),
        ("list[int]", "deque[int]", True),
        ("set[int]", "frozenset[int]", True),
        ("list[int]", "set[int]", False),
        ("dict[str, int]", "dict[int, int]", False),
        ("dict[str, int]", "dict[str | int, int]", True),
        ("list[int]", "list[float]", True),
        ("tuple[int, int]", "tuple[int, float]", True),
        ("tuple[int, int]", "tuple[int, int, int]", False),
        ("int", "list[int]", False),
        ("str", "bytes", False),
    ],
)
def test_widening_is_safe_and_narrowing_is_not(old, new, safe):
    found = difference(schema_of("", x=old), schema_of("", x=new))
    assert found
    assert all(d.safe for d in found) is safe


def test_an_added_enum_member_is_safe_and_a_removed_one_is_not():
    two = schema_of("class C(enum.Enum):\n  A = 1\n  B = 2", c="C")
    three = schema_of("class C(enum.Enum):\n  A = 1\n  B = 2\n  D = 3", c="C")
    assert lines(two, three) == ["c: C member D added"]
    assert lines(three, two) == ["! c: C member D removed"]


def test_a_changed_number_is_harmless_in_an_enum_and_not_in_a_flag():
    enums = [schema_of(f"class C(enum.Enum):\n  A = {n}", c="C") for n in (1, 2)]
    flags = [schema_of(f"class C(enum.Flag):\n  A = {n}", c="C") for n in (1, 2)]
    assert difference(*enums)[0].safe
    assert not difference(*flags)[0].safe


def test_top_level_fields_are_compared_too():
    found = difference(schema_of("", total="int"), schema_of("n: int = 0\nn = 0", n="int"))
    assert [d.text for d in found] == ["n added (int = 0)", "total removed (was int)"]


def test_a_container_without_a_default_starts_empty():
    found = difference(schema_of(""), schema_of("", accounts="Table[str, int]"))
    assert [(d.safe, d.kind) for d in found] == [(True, Change.ADDED)]


def test_a_renamed_type_with_the_same_fields_is_safe():
    old = schema_of("class A(Record):\n  x: int", a="list[A]")
    new = schema_of("class B(Record):\n  x: int", a="list[B]")
    other = schema_of("class B(Record):\n  z: int", a="list[B]")
    assert lines(old, new) == ["a.*: A -> B"]
    assert not all(d.safe for d in difference(old, other))


def test_changes_behind_none_and_in_recursive_types_are_found_once():
    old = schema_of("class N(Record):\n  x: int\n  next: N | None = None", n="N | None")
    new = schema_of("class N(Record):\n  x: str\n  next: N | None = None", n="N | None")
    assert lines(old, new) == ["! n.x: int -> str"]


def test_safe_changes_inside_an_optional_record_are_told():
    old = schema_of("class N(Record):\n  x: int", n="N | None")
    new = schema_of("class N(Record):\n  x: int\n  y: int = 0", n="N | None")
    assert lines(old, new) == ["n.y added (int = 0)"]


def test_no_change_is_no_difference():
    assert (
        difference(
            schema_of(ACCOUNT, a="Table[str, Account]"), schema_of(ACCOUNT, a="Table[str, Account]")
        )
        == ()
    )
