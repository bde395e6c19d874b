from __future__ import annotations

from typing import Any

import pytest

from replank.errors import MigrationError, SchemaError
from replank.migration.engine import find_path, steps_of
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
from replank.schema import Schema, read_schema
from tests.state_helpers import hints_of, load

V1 = "class Account(Record):\n  owner: str\n  cents: int = 0\n"
V2 = "class Account(Record):\n  owner: str\n  amount: int = 0\n  tier: str = 'basic'\n"


def schema_of(source: str, version: int = 1, **fields: str) -> Schema:
    module = load(source)
    fields = fields or {"accounts": "Table[str, Account]"}
    return read_schema(hints_of(module, **fields), {}, version=version, where="ledger")[0]


def test_the_same_shape_needs_nothing():
    migration = find_path(schema_of(V1), schema_of(V1), ())
    assert migration.identity
    assert migration.reversible
    assert migration.steps == ()
    tree = {"accounts": {}}
    assert migration.upgrade(tree) == tree


def test_a_safe_change_of_the_same_number_is_automatic():
    migration = find_path(schema_of(V1), schema_of(V1 + "  tier: str = 'basic'\n"), ())
    assert migration.steps == ("automatic: accounts.*.tier added (str = 'basic')",)
    tree = {"accounts": {"a": {"owner": "x", "cents": 1}}}
    assert migration.upgrade(tree) == tree
    new = {"accounts": {"a": {"owner": "x", "cents": 1, "tier": "gold"}}}
    old, residue = migration.downgrade_and_park(new)
    assert old == tree
    assert migration.upgrade(old, residue) == new


def test_an_unsafe_change_of_the_same_number_is_refused_with_the_step_to_paste():
    with pytest.raises(SchemaError, match="its schema number is still 1") as caught:
        find_path(schema_of(V1), schema_of(V2), (), module="ledger")
    assert caught.value.module == "ledger"
    assert caught.value.found == "accounts.*.cents removed (was int)"
    assert "schema=2" in (caught.value.do or "")
    assert "remove('accounts.*.cents', default=0)" in (caught.value.do or "")


def test_a_higher_number_without_steps_needs_only_safe_changes():
    migration = find_path(schema_of(V1), schema_of(V1 + "  x: int = 0\n", 2), ())
    assert len(migration.steps) == 1
    with pytest.raises(SchemaError, match="no step leads from schema 1 to 2"):
        find_path(schema_of(V1), schema_of(V2, 2), ())


def test_steps_and_what_is_left_are_told():
    steps = (step(1, 2, rename("accounts.*.cents", "amount")),)
    migration = find_path(schema_of(V1), schema_of(V2, 2), steps)
    assert migration.steps == (
        "step 1 -> 2: rename accounts.*.cents -> amount",
        "automatic: accounts.*.tier added (str = 'basic')",
    )
    new = migration.upgrade({"accounts": {"a": {"owner": "x", "cents": 5}}})
    assert new == {"accounts": {"a": {"owner": "x", "amount": 5}}}


def test_steps_that_leave_an_unsafe_difference_are_refused():
    with pytest.raises(SchemaError, match="leave differences") as caught:
        find_path(schema_of(V1), schema_of(V2, 2), (step(1, 2, add("accounts.*.tier", "b")),))
    assert "accounts.*.cents removed" in (caught.value.found or "")
    assert "step 1 -> 2" in (caught.value.do or "")


def test_a_missing_step_on_the_way_is_a_gap():
    steps = (step(1, 2, rename("accounts.*.cents", "amount")),)
    with pytest.raises(SchemaError, match="no steps lead from schema 1 to 3"):
        find_path(schema_of(V1), schema_of(V2, 3), steps)


def test_a_step_that_names_an_unknown_field_is_refused_before_anything_is_copied():
    steps = (step(1, 2, rename("accounts.*.sents", "amount")),)
    with pytest.raises(SchemaError, match="'sents', which is not there") as caught:
        find_path(schema_of(V1), schema_of(V2, 2), steps, module="ledger")
    assert caught.value.found == "owner, cents"


def test_a_step_that_makes_an_existing_field_is_refused():
    with pytest.raises(SchemaError, match="exists already"):
        find_path(
            schema_of(V1), schema_of(V2, 2), (step(1, 2, rename("accounts.*.cents", "owner")),)
        )


@pytest.mark.parametrize("path", ["accounts.x.cents", "accounts.*.cents.x", "total.x"])
def test_a_path_through_the_wrong_kind_of_thing_is_refused(path):
    with pytest.raises(SchemaError):
        find_path(schema_of(V1), schema_of(V2, 2), (step(1, 2, rename(path, "y")),))


def test_a_lower_number_takes_the_way_down_of_the_version_that_serves():
    steps = (step(1, 2, rename("accounts.*.cents", "amount")),)
    migration = find_path(schema_of(V2, 2), schema_of(V1), (), reverse=steps)
    assert migration.steps[-1] == "down: step 1 -> 2: rename accounts.*.cents -> amount"
    new = {"accounts": {"a": {"owner": "x", "amount": 5, "tier": "gold"}}}
    old, residue = migration.upgrade_and_park(new)
    assert old == {"accounts": {"a": {"owner": "x", "cents": 5}}}
    up = find_path(schema_of(V1), schema_of(V2, 2), steps)
    assert up.upgrade(old, residue.turned()) == new


def test_a_step_without_a_way_down_refuses_the_lower_number():
    steps = (step(1, 2, convert("accounts.*.cents", str)),)
    with pytest.raises(SchemaError, match="step 1 -> 2 has no way down: convert accounts"):
        find_path(schema_of(V1, 2), schema_of(V1), steps)


def test_a_lower_number_without_steps_is_refused_or_automatic():
    more = V1 + "  tier: str = 'b'\n"
    assert find_path(schema_of(more, 2), schema_of(V1), ()).reversible
    with pytest.raises(SchemaError, match="down to 1"):
        find_path(schema_of(V2, 2), schema_of(V1), ())


def test_going_back_over_a_safe_change_drops_what_was_added():
    more = schema_of(V1 + "  tier: str = 'b'\n")
    with pytest.raises(SchemaError):
        find_path(more, schema_of(V1), ())
    migration = find_path(more, schema_of(V1), (), going_back=True)
    tree = {"accounts": {"a": {"owner": "x", "cents": 1, "tier": "gold"}}}
    assert migration.upgrade(tree) == {"accounts": {"a": {"owner": "x", "cents": 1}}}


def test_int_becomes_float_and_whole_floats_come_back():
    wide = "class Account(Record):\n  owner: str\n  cents: float = 0\n"
    migration = find_path(schema_of(V1), schema_of(wide), ())
    new = migration.upgrade({"accounts": {"a": {"owner": "x", "cents": 1}}})
    assert isinstance(new["accounts"]["a"]["cents"], float)
    assert migration.downgrade(new) == {"accounts": {"a": {"owner": "x", "cents": 1}}}
    new["accounts"]["a"]["cents"] = 1.5
    with pytest.raises(MigrationError, match="whole number"):
        migration.downgrade(new)


def test_a_function_for_the_whole_state_is_trusted_and_checked_later():
    migration = find_path(
        schema_of(V1), schema_of(V2, 2), (step(1, 2, lambda old: {"accounts": {}}),)
    )
    assert migration.lossy
    assert not migration.reversible
    assert migration.upgrade({"accounts": {"a": {}}}) == {"accounts": {}}


OLD = """
class Address(Record):
  street: str
  city: str
class Account(Record):
  name: str
  cents: int
  address: Address
  note: str = ''
"""


@pytest.mark.parametrize(
    ("parts", "new"),
    [
        (
            [flatten("a.*.address", ("street", "city"))],
            "class Account(Record):\n  name: str\n  cents: int\n  street: str\n  city: str\n  note: str = ''",
        ),
        (
            [move("a.*.address.city", "a.*.city")],
            "class Address(Record):\n  street: str\nclass Account(Record):\n  name: str\n  cents: int\n  address: Address\n  city: str\n  note: str = ''",
        ),
        (
            [nest("a.*", ("cents", "note"), "book"), remove("a.*.address")],
            "class Book(Record):\n  cents: int\n  note: str\nclass Account(Record):\n  name: str\n  book: Book",
        ),
        (
            [
                split("a.*.name", ("first", "last"), str.split),
                remove("a.*.address"),
                remove("a.*.note"),
            ],
            "class Account(Record):\n  first: str\n  last: str\n  cents: int",
        ),
        (
            [merge("a.*", ("name", "note"), "text", str.__add__), remove("a.*.address")],
            "class Account(Record):\n  text: str\n  cents: int",
        ),
        (
            [convert("a.*.cents", str), convert("a.*.address", dict)],
            "class Account(Record):\n  name: str\n  cents: str\n  address: dict[str, str]\n  note: str = ''",
        ),
        (
            [remove("a.*.address"), add("a.*.tier", "x")],
            "class Account(Record):\n  name: str\n  cents: int\n  tier: int\n  note: str = ''",
        ),
    ],
)
def test_each_operation_is_followed_through_the_schema(parts, new):
    old, target = (
        schema_of(OLD, a="Table[str, Account]"),
        schema_of(new, 2, a="Table[str, Account]"),
    )
    find_path(old, target, (step(1, 2, *parts),))
    with pytest.raises(SchemaError):
        find_path(old, target, (step(1, 2),))


def test_rekey_explains_changed_keys():
    old, new = schema_of(V1), schema_of(V1, 2, accounts="Table[int, Account]")
    with pytest.raises(SchemaError, match="no step") as caught:
        find_path(old, new, ())
    assert "rekey('accounts', up=..., down=...)" in (caught.value.do or "")
    find_path(old, new, (step(1, 2, rekey("accounts", int, str)),))


def test_a_type_used_in_two_places_needs_a_step_for_each():
    fields = {"a": "Table[str, Account]", "b": "list[Account]"}
    old, new = schema_of(V1, **fields), schema_of(V2, 2, **fields)
    with pytest.raises(SchemaError, match="leave differences") as caught:
        find_path(old, new, (step(1, 2, rename("a.*.cents", "amount")),))
    assert caught.value.found == "b.*.cents removed (was int)"
    find_path(old, new, (step(1, 2, *(rename(f"{w}.*.cents", "amount") for w in "ab")),))


def test_the_step_to_paste_asks_what_it_cannot_know():
    old = schema_of("class A(Record):\n  visits: int\n  kind: int\n", a="Table[str, A]")
    new = schema_of("class A(Record):\n  count: int\n  kind: list[str]\n", 2, a="Table[str, A]")
    with pytest.raises(SchemaError) as caught:
        find_path(old, new, ())
    text = (caught.value.do or "").partition("\n")[2]
    assert "# how? renamed: rename('a.*.visits', 'count')" in text
    assert "remove('a.*.visits')" in text
    assert "add('a.*.count', default=...),  # how?" in text
    assert "convert('a.*.kind', up=..., down=...),  # how? int -> list[str]" in text
    compile(text, "step", "exec")


def test_the_step_to_paste_asks_about_a_rename_also_when_the_new_field_has_a_default():
    old = schema_of("class A(Record):\n  cents: int\n", a="Table[str, A]")
    new = schema_of("class A(Record):\n  amount: int = 0\n", 2, a="Table[str, A]")
    with pytest.raises(SchemaError) as caught:
        find_path(old, new, ())
    assert "# how? renamed: rename('a.*.cents', 'amount') instead of remove\n" in (
        caught.value.do or ""
    )


def test_steps_of_a_definition_are_declared_ones_and_functions():
    class Definition:
        migrations: tuple[Any, ...] = (step(1, 2),)
        functions = {"migrate_2_3": lambda old: old}

    assert [(s.start, s.end) for s in steps_of(Definition())] == [(1, 2), (2, 3)]
