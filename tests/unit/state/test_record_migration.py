from __future__ import annotations

from typing import Any

import pytest

from replank.errors import MigrationError
from replank.migration.engine import Migration, find_path
from replank.migration.steps import (
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
from replank.schema import read_schema
from replank.state.names import Namespace
from replank.state.record_migration import RecordMigration, record_migration
from replank.state.tree import Trees
from tests.state_helpers import hints_of, load

OLD = """
class A(Record):
    id: int
    name: str
    balance: float = 1.0
    active: bool = True
    tags: list[str] = []
"""
NEW = """
class A(Record):
    id: int
    first: str
    last: str
    balance: int
    visits: int = 0
    tags: list[str] = []
"""
PARTS = (
    split("t.*.name", ("first", "last"), lambda s: s.split(" ", 1), lambda a, b: f"{a} {b}"),
    convert("t.*.balance", lambda v: round(v * 100), lambda c: c / 100, lossy=True),
    remove("t.*.active"),
    add("t.*.visits", default=0),
)


def setting(
    old: str,
    new: str,
    *parts: Any,
    table: str = "Table[str, A]",
    field: str = "t",
    new_field: str = "t",
) -> tuple[Any, Any, RecordMigration | None, Migration]:
    one, two = load(old), load(new)
    old_hints, new_hints = hints_of(one, **{field: table}), hints_of(two, **{new_field: table})
    schemas = [
        read_schema(h, {}, version=n, where="m")[0] for n, h in ((1, old_hints), (2, new_hints))
    ]
    migration = find_path(*schemas, (step(1, 2, *parts),) if parts else ())
    made = record_migration(
        migration,
        field,
        Trees(old_hints, Namespace(one.__name__)),
        Trees(new_hints, Namespace(two.__name__)),
    )
    return one, two, made, migration


def compiled(*args: Any, **kwargs: Any) -> tuple[Any, Any, RecordMigration]:
    one, two, made, _ = setting(*args, **kwargs)
    assert made is not None
    return one, two, made


def test_all_steps_are_fused_into_one_function():
    one, two, made = compiled(OLD, NEW, *PARTS)
    new = made.up(one.A(1, "Ada Lovelace", 2.5, False, ["x"]))
    assert new == two.A(1, "Ada", "Lovelace", 250, 0, ["x"])
    assert "def up(o):" in made.source
    assert "def down(n, o=None):" in made.source
    assert made.lossy
    assert made.isolated


def test_down_takes_what_was_dropped_from_the_old_record():
    one, two, made = compiled(OLD, NEW, *PARTS)
    old = one.A(1, "Ada Lovelace", 2.504, False, [])
    assert made.down(made.up(old), old) == old
    changed = two.A(1, "Ada", "King", 300, 7, [])
    assert made.down(changed, old) == one.A(1, "Ada King", 3.0, False, [])
    assert made.down(changed, None) == one.A(1, "Ada King", 3.0, True, [])


def test_check_tells_a_faithful_record_from_a_wrong_one():
    one, two, made = compiled(OLD, NEW, *PARTS)
    old = one.A(1, "Ada Lovelace", 2.504, False, ["a"])
    assert made.check(old, made.up(old))
    for wrong in (
        two.A(2, "Ada", "Lovelace", 250, 0, ["a"]),
        two.A(1, "Ada", "King", 250, 0, ["a"]),
        two.A(1, "Ada", "Lovelace", 251, 0, ["a"]),
        two.A(1, "Ada", "Lovelace", 250, 0, ["b"]),
    ):
        assert not made.check(old, wrong)


def test_a_change_of_code_alone_rebuilds_the_record_on_the_new_class():
    one, two, made = compiled(OLD, OLD)
    old = one.A(1, "x", tags=["a"])
    new = made.up(old)
    assert type(new) is two.A
    assert new == two.A(1, "x", tags=["a"])
    assert new.tags is not old.tags
    assert made.down(new, old) == old
    assert made.check(old, new)


def test_an_automatic_field_is_filled_in_and_dropped():
    one, _two, made = compiled(OLD, OLD + "    tier: str = 'basic'\n    seen: list[int] = []\n")
    new = made.up(one.A(1, "x"))
    assert (new.tier, new.seen) == ("basic", [])
    assert made.up(one.A(2, "y")).seen is not new.seen
    assert made.down(new, None) == one.A(1, "x")


@pytest.mark.parametrize(
    ("new", "parts"),
    [
        (
            "class In(Record):\n  id: int\n  name: str\nclass A(Record):\n  who: In\n  balance: float = 1.0\n  active: bool = True\n  tags: list[str] = []",
            (nest("t.*", ("id", "name"), "who"),),
        ),
        (
            "class A(Record):\n  id: int\n  name: str\n  text: str\n  tags: list[str] = []",
            (
                merge(
                    "t.*",
                    ("balance", "active"),
                    "text",
                    lambda b, a: f"{b}/{a}",
                    lambda s: (float(s.split("/")[0]), s.split("/")[1] == "True"),
                ),
            ),
        ),
        (
            "class A(Record):\n  id: int\n  name: str\n  balance: float = 1.0\n  active: bool = True\n  tags: list[int] = []",
            (convert("t.*.tags.*", len, lambda n: "x" * n, lossy=True),),
        ),
        (
            "class A(Record):\n  id: int\n  name: str\n  balance: float = 1.0\n  active: bool = True\n  tags: list[str] = []\n  twice: int = 0",
            (add("t.*.twice", compute=lambda r: r["id"] * 2),),
        ),
        (
            "class A(Record):\n  id: int\n  name: str\n  balance: float = 1.0\n  active: bool = True\n  tags: list[str] = []\n  more: list[int] = []",
            (add("t.*.more", default=[1]),),
        ),
        (
            "class A(Record):\n  id: int\n  title: str\n  balance: float = 1.0\n  active: bool = True\n  tags: list[str] = []",
            (rename("t.*.name", "x"), rename("t.*.x", "title")),
        ),
        (
            "class A(Record):\n  id: int\n  name: str\n  balance: float = 1.0\n  tags: list[str] = []",
            (remove("t.*.active", default=False),),
        ),
    ],
)
def test_each_operation_is_compiled_and_goes_back(new, parts):
    one, _, made, _ = setting(OLD, new, *parts)
    assert made is not None
    old = one.A(3, "Ada", 1.5, False, ["ab"])
    up = made.up(old)
    assert made.down(up, old) == old
    assert made.check(old, up)


def test_moves_and_flattens_reach_below_the_record():
    source = "class In(Record):\n  x: int\n  y: str\nclass A(Record):\n  n: In\n  k: int"
    target = "class In(Record):\n  y: str\n  k: int\nclass A(Record):\n  n: In\n  x: int"
    one, two, made = compiled(source, target, move("t.*.n.x", "t.*.x"), move("t.*.k", "t.*.n.k"))
    old = one.A(one.In(1, "y"), 5)
    assert made.up(old) == two.A(two.In("y", 5), 1)
    assert made.down(made.up(old), None) == old
    one, two, made = compiled(
        source, "class A(Record):\n  x: int\n  y: str\n  k: int", flatten("t.*.n", ("x", "y"))
    )
    assert made.up(one.A(one.In(1, "y"), 5)) == two.A(1, "y", 5)
    assert made.down(two.A(1, "y", 5), None) == one.A(one.In(1, "y"), 5)


def test_a_renamed_table_is_followed():
    one, two, made = compiled(
        OLD,
        OLD,
        rename("t", "u"),
        convert("u.*.id", lambda n: n + 1, lambda n: n - 1),
        new_field="u",
    )
    assert (made.old_field, made.new_field) == ("t", "u")
    assert made.up(one.A(1, "x")) == two.A(2, "x")


@pytest.mark.parametrize(
    "parts",
    [
        (rekey("t", str.upper, str.lower),),
        (lambda old: old,),
        (convert("t", dict),),
    ],
)
def test_steps_that_need_the_whole_table_are_not_compiled(parts):
    assert setting(OLD, OLD, *parts)[2] is None


def test_steps_on_other_fields_do_not_matter():
    migration = Migration(
        "m",
        *[read_schema({}, {}, version=1, where="m")[0]] * 2,
        (),
        tuple(("s", op) for op in step(1, 2, rename("x", "y"), rekey("z", str)).operations),
    )
    one, two = load(OLD), load(OLD)
    trees = [Trees(hints_of(m, t="Table[str, A]"), Namespace(m.__name__)) for m in (one, two)]
    made = record_migration(migration, "t", *trees)
    assert made is not None
    assert made.up(one.A(1, "x")) == two.A(1, "x")
    assert record_migration(migration, "unknown", *trees) is None


def test_a_way_up_alone_has_no_down():
    _, _, made = compiled(OLD, OLD, convert("t.*.id", lambda n: n + 1))
    assert made.down is None
    assert made.check is None


def test_a_failing_function_is_named_as_by_the_tree_engine():
    one, two, made = compiled(OLD, NEW, *PARTS)
    with pytest.raises(MigrationError) as caught:
        made.up(one.A(1, "Ada"))
    assert "step 1 -> 2" in caught.value.what
    assert "name" in caught.value.what
    with pytest.raises(MigrationError, match="step 1 -> 2"):
        made.down(two.A(1, "a", "b", "x"), None)


def test_a_value_that_does_not_fit_the_new_type_is_named():
    one, _, made = compiled(OLD, NEW.replace("balance: int", "balance: str"), *PARTS)
    with pytest.raises(MigrationError, match=r"at t\[\*\]\.balance"):
        made.up(one.A(1, "a b"))


def test_a_wrong_value_in_the_live_record_is_named():
    one, _, made = compiled(OLD, OLD)
    with pytest.raises(MigrationError, match=r"at t\[\*\]\.id"):
        made.up(one.A("x", "a"))


def test_a_record_without_a_required_value_on_the_way_down_is_an_error():
    one, two, made = compiled(
        "class A(Record):\n  x: int\n  y: int", "class A(Record):\n  x: int", remove("t.*.y")
    )
    assert made.down(two.A(1), one.A(1, 5)) == one.A(1, 5)
    with pytest.raises(MigrationError, match=r"t\[\*\]\.y \(missing"):
        made.down(two.A(1), None)


@pytest.mark.parametrize("table", ["Table[str, int]", "dict[str, list[int]]", "Table[str, Any]"])
def test_items_that_are_no_records_are_interpreted(table):
    source = "class B: pass"
    _, _, made = compiled(source, source, table=table)
    value = {"Table[str, int]": 5, "dict[str, list[int]]": [1], "Table[str, Any]": {"a": 1}}[table]
    assert made.up(value) == value
    assert made.down(value, None) == value
    assert made.check(value, value)
    assert made.source.startswith("# interpreted")


def test_interpreted_items_are_converted_too():
    _, _, made = compiled(
        "", "", convert("t.*", lambda n: n + 1, lambda n: n - 1), table="Table[str, int]"
    )
    assert made.up(1) == 2
    assert made.down(2, None) == 1
    assert not made.check(1, 3)


@pytest.mark.parametrize(
    ("source", "isolated"),
    [
        ("class A(Record):\n  x: int\n  y: list[str] = []", True),
        ("class B(Record):\n  x: int\nclass A(Record):\n  b: B", True),
        ("class A(Record):\n  next: A | None = None", False),
        ("class A(Record):\n  x: Any = None", False),
    ],
)
def test_records_that_may_refer_to_one_another_are_told(source, isolated):
    assert compiled(source, source)[2].isolated is isolated


def test_dataclasses_and_named_tuples_are_compiled_too():
    for source in (
        "@dataclass\nclass A:\n  x: int\n  y: str",
        "@dataclass(frozen=True, slots=True)\nclass A:\n  x: int\n  y: str",
        "class A(NamedTuple):\n  x: int\n  y: str",
        "class A(msgspec.Struct, kw_only=True, frozen=True):\n  x: int\n  y: str",
    ):
        one, two, made = compiled(
            source, source, convert("t.*.x", lambda n: n + 1, lambda n: n - 1)
        )
        old = one.A(x=1, y="a")
        assert made.up(old) == two.A(x=2, y="a")
        assert made.down(made.up(old), old) == old
