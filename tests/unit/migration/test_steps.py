from __future__ import annotations

from collections import deque
from typing import Any

import pytest

from replank.errors import MigrationError, SchemaError
from replank.migration.engine import Migration, Residue
from replank.migration.steps import (
    add,
    convert,
    each,
    flatten,
    merge,
    move,
    nest,
    rekey,
    remove,
    rename,
    split,
    step,
    steps_from_functions,
)
from replank.plain import copy_tree
from replank.schema import Schema

STATE = {
    "total": 7,
    "accounts": {
        "ada": {"owner": "Ada L", "cents": 500, "address": {"street": "S", "city": "C"}},
        "bob": {"owner": "Bob M", "cents": 20, "address": {"street": "T", "city": "D"}},
    },
    "log": [{"n": 1, "who": "ada"}, {"n": 2, "who": "bob"}],
}


def migration(*parts: Any) -> Migration:
    made = step(1, 2, *parts)
    forward = tuple((made.name, operation) for operation in made.operations)
    return Migration("ledger", Schema.EMPTY, Schema.EMPTY, (), forward)


def state() -> dict[str, Any]:
    import copy

    return copy.deepcopy(STATE)


def test_rename_works_at_the_top_and_inside_every_item():
    new = migration(rename("total", "total_cents"), rename("accounts.*.cents", "amount")).upgrade(
        state()
    )
    assert new["total_cents"] == 7
    assert new["accounts"]["ada"] == {
        "owner": "Ada L",
        "amount": 500,
        "address": {"street": "S", "city": "C"},
    }


def test_add_gives_each_record_its_own_default():
    new = migration(
        add("accounts.*.tags", default=[]),
        add("seen", factory=set),
        add("accounts.*.tier", compute=lambda r: "gold" if r["cents"] > 100 else "basic"),
    ).upgrade(state())
    ada, bob = new["accounts"].values()
    assert ada["tags"] == []
    assert ada["tags"] is not bob["tags"]
    assert (ada["tier"], bob["tier"]) == ("gold", "basic")
    assert new["seen"] == set()


def test_add_needs_exactly_one_way_to_make_the_value():
    with pytest.raises(SchemaError, match="exactly one"):
        add("a")
    with pytest.raises(SchemaError, match="exactly one"):
        add("a", default=1, factory=list)


def test_split_and_merge_are_each_others_inverse():
    two = migration(
        split(
            "accounts.*.owner", ("first", "last"), lambda s: s.split(" "), lambda a, b: f"{a} {b}"
        ),
        merge(
            "log.*", ("n", "who"), "line", lambda n, who: f"{n}:{who}", lambda s: (int(s[0]), s[2:])
        ),
    )
    new = two.upgrade(state())
    assert new["accounts"]["ada"]["first"] == "Ada"
    assert new["log"][0] == {"line": "1:ada"}
    assert two.downgrade(new) == STATE


def test_nest_and_flatten_are_each_others_inverse():
    two = migration(
        flatten("accounts.*.address", ("street", "city")),
        nest("accounts.*", ("owner", "city"), "who"),
        nest("", ("total",), "sums"),
    )
    new = two.upgrade(state())
    assert new["accounts"]["ada"] == {
        "cents": 500,
        "street": "S",
        "who": {"owner": "Ada L", "city": "C"},
    }
    assert new["sums"] == {"total": 7}
    assert two.downgrade(new) == STATE


def test_move_goes_up_down_and_beside():
    two = migration(
        move("accounts.*.address.city", "accounts.*.city"),
        move("accounts.*.owner", "accounts.*.address.name"),
    )
    new = two.upgrade(state())
    assert new["accounts"]["ada"] == {
        "cents": 500,
        "city": "C",
        "address": {"street": "S", "name": "Ada L"},
    }
    assert two.downgrade(new) == STATE


def test_move_across_items_is_refused():
    with pytest.raises(SchemaError, match="within one item"):
        move("accounts.*.owner", "owners")


def test_convert_reaches_into_every_container():
    old = {"d": {"a": 1}, "l": [1], "t": (1, (2,)), "s": {1}, "f": frozenset({1}), "q": deque([1])}
    paths = ["d.*", "l.*", "t.0", "t.1.*", "s.*", "f.*", "q.*"]
    two = migration(*(convert(path, lambda v: v + 1, lambda v: v - 1) for path in paths))
    new = two.upgrade(old)
    assert new == {
        "d": {"a": 2},
        "l": [2],
        "t": (2, (3,)),
        "s": {2},
        "f": frozenset({2}),
        "q": deque([2]),
    }
    assert two.downgrade(new) == old
    assert old["l"] == [1]


def test_rekey_changes_keys_in_order_and_back():
    two = migration(rekey("accounts", str.upper, str.lower))
    new = two.upgrade(state())
    assert list(new["accounts"]) == ["ADA", "BOB"]
    assert two.downgrade(new) == STATE
    by_item = migration(
        rekey(
            "accounts",
            lambda _k, r: r["cents"],
            lambda _k, r: r["owner"][:3].lower(),
            with_item=True,
        )
    )
    assert list(by_item.upgrade(state())["accounts"]) == [500, 20]


def test_rekey_refuses_two_items_of_one_key():
    with pytest.raises(MigrationError, match="two items get the same key"):
        migration(rekey("accounts", lambda _key: "x")).upgrade(state())


def test_each_runs_operations_on_every_item():
    two = migration(each("accounts", rename("cents", "amount"), add("tier", default="b")))
    new = two.upgrade(state())
    assert new["accounts"]["bob"]["amount"] == 20
    assert new["accounts"]["bob"]["tier"] == "b"
    assert two.downgrade(new) == STATE


def test_each_may_be_nested():
    old = {"shops": {"x": {"rows": [{"n": 1}]}}}
    two = migration(each("shops", *each("rows", rename("n", "m"))))
    assert two.upgrade(old) == {"shops": {"x": {"rows": [{"m": 1}]}}}
    assert two.downgrade(two.upgrade(old)) == old


def test_none_on_the_way_is_passed_over():
    old = {"a": {"x": None, "y": {"z": 1}}}
    assert migration(rename("a.*.z", "w")).upgrade(old) == {"a": {"x": None, "y": {"w": 1}}}


def test_upgrade_does_not_touch_its_argument():
    old = state()
    migration(
        rename("accounts.*.cents", "amount"), remove("total"), convert("log.*.n", str)
    ).upgrade(old)
    assert old == STATE


def test_a_shared_record_is_changed_once_when_one_path_reaches_it_twice():
    shared = {"cents": 1}
    new = migration(convert("a.*.cents", lambda v: v * 10)).upgrade({"a": [shared, shared]})
    assert new["a"][0] is new["a"][1]
    assert new["a"][0] == {"cents": 10}


def test_a_shared_record_is_changed_once_when_two_paths_reach_it():
    shared = {"cents": 1, "name": "x"}
    old = {"a": [shared], "b": {"k": shared, "l": {"cents": 2, "name": "y"}}}
    parts = [
        part
        for where in ("a", "b")
        for part in (
            rename(f"{where}.*.name", "title"),
            convert(f"{where}.*.cents", lambda v: v * 10, lambda v: v // 10),
            add(f"{where}.*.new", default=0),
        )
    ]
    two = migration(*parts)
    new = two.upgrade(old)
    assert new["a"][0] is new["b"]["k"]
    assert new["a"][0] == {"cents": 10, "title": "x", "new": 0}
    assert new["b"]["l"] == {"cents": 20, "title": "y", "new": 0}
    assert two.downgrade(new) == old


@pytest.mark.parametrize("given", [{"default": ""}, {}], ids=["with default", "without"])
def test_what_a_shared_record_lost_comes_back_whichever_path_reaches_it_first(given):
    shared = {"lang": "fr"}
    old = {"a": [shared, {"lang": "en"}], "b": {"k": shared, "l": {"lang": "de"}}}
    two = migration(remove("a.*.lang", **given), remove("b.*.lang", **given))
    new, lost = two.upgrade_and_park(old)
    assert new == {"a": [{}, {}], "b": {"k": {}, "l": {}}}
    back, _ = two.downgrade_and_park(new, lost)
    assert back == old
    assert back["a"][0] is back["b"]["k"]


def test_the_same_path_converted_twice_is_converted_twice():
    two = migration(
        convert("x", lambda v: v + 1, lambda v: v - 1),
        convert("x", lambda v: v * 2, lambda v: v // 2),
    )
    assert two.upgrade({"x": 1}) == {"x": 4}
    assert two.downgrade({"x": 4}) == {"x": 1}


def test_a_removed_value_comes_back_from_the_old_state():
    two = migration(remove("accounts.*.cents"), remove("total", default=0))
    new = two.upgrade(state())
    assert "cents" not in new["accounts"]["ada"]
    assert two.downgrade(new, state()) == STATE
    assert two.downgrade(new)["total"] == 0
    assert "cents" not in two.downgrade(new)["accounts"]["ada"]  # its type's default, or an error


def test_a_lossy_conversion_goes_back_exactly_while_nobody_changed_the_value():
    two = migration(
        convert("accounts.*.cents", lambda c: round(c / 100), lambda e: e * 100, lossy=True)
    )
    old = {"accounts": {"a": {"cents": 549}, "b": {"cents": 210}}}
    new = two.upgrade(old)
    new["accounts"]["b"]["cents"] = 9
    assert two.downgrade(new, old) == {"accounts": {"a": {"cents": 549}, "b": {"cents": 900}}}


def test_what_only_the_new_version_knows_survives_the_way_down_and_up():
    two = migration(
        add("accounts.*.tier", default="basic"),
        convert("total", lambda c: c / 2, round, lossy=True),
    )
    new = two.upgrade(state())
    new["accounts"]["ada"]["tier"] = "gold"
    new["total"] = 3.25
    old, residue = two.downgrade_and_park(new)
    assert "tier" not in old["accounts"]["ada"]
    assert not residue.empty
    again = two.upgrade(old, residue)
    assert again["accounts"]["ada"]["tier"] == "gold"
    assert again["total"] == 3.25


def test_parked_data_of_an_item_that_is_gone_is_dropped():
    two = migration(add("accounts.*.tier", default="basic"))
    old, residue = two.downgrade_and_park(two.upgrade(state()))
    del old["accounts"]["ada"]
    old["accounts"]["eve"] = {"owner": "E"}
    again = two.upgrade(old, residue)
    assert again["accounts"]["eve"]["tier"] == "basic"


def test_list_items_find_their_parked_values_after_a_move():
    two = migration(remove("log.*.n"))
    new = two.upgrade(state())
    new["log"].reverse()
    new["log"].insert(0, {"who": "eve"})
    back = two.downgrade(new, state())
    assert back["log"] == [{"who": "eve"}, {"n": 2, "who": "bob"}, {"n": 1, "who": "ada"}]


def test_a_pair_of_functions_is_a_step():
    two = migration(lambda old: {"n": old["total"], "rest": old}, lambda new: new["rest"])
    new = two.upgrade(state())
    assert new["n"] == 7
    assert two.downgrade(new) == STATE
    assert migration(lambda old: {**old}).one_way


def test_a_function_that_changes_the_old_state_is_found_in_rehearsal():
    def careless(old: dict[str, Any]) -> dict[str, Any]:
        old["total"] = 0
        return dict(old)

    live = state()
    with pytest.raises(MigrationError, match="changed the old state"):
        migration(careless).upgrade(live, check_untouched=True)
    migration(careless).upgrade(live)
    assert live == STATE


def test_a_function_must_return_a_state():
    with pytest.raises(MigrationError, match="did not return a state"):
        migration(lambda old: None).upgrade(state())


@pytest.mark.parametrize(
    ("part", "words"),
    [
        (convert("accounts.*.owner", int), ["step 1 -> 2", "accounts['ada'].owner", "ValueError"]),
        (convert("accounts.*.missing", int), ["step 1 -> 2", "missing"]),
        (rename("accounts.*.missing", "x"), ["step 1 -> 2", "missing", "accounts['ada']"]),
        (rename("accounts.*.owner", "cents"), ["step 1 -> 2", "the new name exists"]),
        (add("accounts.*.cents", default=1), ["step 1 -> 2", "accounts['ada'].cents", "exists"]),
        (add("accounts.*.x", compute=lambda r: r["none"]), ["accounts['ada'].x", "KeyError"]),
        (split("accounts.*.owner", ("a", "b"), lambda s: (s,)), ["one value for each"]),
        (merge("accounts.*", ("owner", "no"), "x", str), ["'no'"]),
        (nest("accounts.*", ("no",), "x"), ["'no'"]),
        (flatten("accounts.*.address", ("street",)), ["others than the step says"]),
        (flatten("accounts.*.owner", ("x",)), ["a record is needed"]),
        (move("accounts.*.address.zip", "accounts.*.zip"), ["'zip'"]),
        (move("accounts.*.owner", "accounts.*.cents"), ["the target exists"]),
        (remove("total.x"), ["a record is needed"]),
        (remove("accounts.x"), ["'x'"]),
        (rename("total.*.x", "y"), ["has none"]),
        (rekey("total", str), ["a dict with plain keys"]),
        (rekey("accounts", lambda k: [k]), ["cannot be a key"]),
    ],
)
def test_a_failing_operation_names_step_place_and_value(part, words):
    with pytest.raises(MigrationError) as caught:
        migration(part).upgrade(state())
    assert caught.value.module == "ledger"
    for word in words:
        assert word in caught.value.what


def test_the_old_value_is_in_the_error():
    with pytest.raises(MigrationError) as caught:
        migration(convert("accounts.*.owner", int)).upgrade(state())
    assert caught.value.found == "old value 'Ada L'"


def test_a_step_without_a_way_down_says_so():
    two = migration(convert("total", str))
    assert not two.reversible
    with pytest.raises(MigrationError, match="no way down: convert total"):
        two.downgrade({"total": "7"})


@pytest.mark.parametrize("numbers", [(2, 1), (1, 1), (0, 1), ("1", 2), (True, 2)])
def test_a_step_must_go_up(numbers):
    with pytest.raises(SchemaError, match="to a higher one"):
        step(*numbers)


def test_a_step_takes_operations_or_functions_only():
    with pytest.raises(SchemaError, match="operations, or functions alone"):
        step(1, 2, "rename")  # type: ignore[arg-type]
    with pytest.raises(SchemaError, match="one or two functions"):
        step(1, 2, dict, dict, dict)
    with pytest.raises(SchemaError, match="operations, or functions alone"):
        step(1, 2, rename("a", "b"), dict)


@pytest.mark.parametrize("path", ["", "a..b", "a.*", ".a", "a b", "a.1"])
def test_a_wrong_path_is_refused_when_the_step_is_written(path):
    with pytest.raises(SchemaError):
        rename(path, "x")
    with pytest.raises(SchemaError, match="plain field name"):
        rename("a", "b.c")


def test_functions_named_migrate_become_steps():
    def migrate_1_2(old: Any) -> Any:
        return {"b": old["a"]}

    def migrate_2_1(new: Any) -> Any:
        return {"a": new["b"]}

    def migrate_2_3(old: Any) -> Any:
        return old

    space = {
        "migrate_1_2": migrate_1_2,
        "migrate_2_1": staticmethod(migrate_2_1),
        "migrate_2_3": migrate_2_3,
        "migrate": 1,
        "migrate_1_x": 1,
    }
    one, two = steps_from_functions(space)
    assert (one.start, one.end, one.one_way) == (1, 2, ())
    assert two.one_way == ("migrate_2_3(state)",)
    with pytest.raises(SchemaError, match="no way up"):
        steps_from_functions({"migrate_2_1": migrate_2_1})


def test_an_empty_residue_is_empty():
    assert Residue().empty


@pytest.mark.parametrize(
    "parts",
    [
        (remove("a.*.cents"), remove("b.cents"), remove("c.*.cents")),
        (convert("a.*.cents", lambda v: 0, lambda v: 5), convert("b.cents", lambda v: 0, int)),
        (merge("a.*", ("cents", "name"), "cents", lambda c, n: c, lambda v: (v, "lost")),),
    ],
)
def test_what_a_shared_record_loses_comes_back_whichever_path_leads_to_it(parts):
    shared = {"cents": 1, "name": "x"}
    old = {"a": [shared, shared], "b": shared, "c": {"k": shared, "l": {"cents": 2, "name": "y"}}}
    way = migration(*parts)
    new, lost = way.upgrade_and_park(copy_tree(old))
    back, _ = way.downgrade_and_park(new, lost)
    assert back == old
    assert back["a"][0] is back["a"][1] is back["b"] is back["c"]["k"]
