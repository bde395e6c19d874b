import copy

import msgspec
import pytest

from replank.migration.drafting import Answers, draft_step
from replank.migration.plain_functions import functions_text
from replank.schema import read_schema


class Item(msgspec.Struct):
    cents: int = 0


class NewItem(msgspec.Struct):
    amount: int = 0


def schema(version, hints, defaults=None):
    return read_schema(hints, defaults or {}, version=version, where="x")[0]


def functions(old, new, **answers):
    drafted = draft_step(old, new, 1, 2, answers=Answers(**answers))
    text = functions_text(drafted, old)
    space = {"copy": copy}
    exec(text, space)
    return space


def test_a_step_is_written_as_two_functions_that_undo_each_other():
    old = schema(1, {"total": int, "n": int, "items": dict[str, Item], "gone": int}, {"gone": 1})
    new = schema(2, {"cents": int, "n": str, "items": dict[str, NewItem], "who": str})
    made = functions(
        old,
        new,
        renames={"total": "cents", "items.*.cents": "amount"},
        removed=frozenset({"gone"}),
        defaults={"who": "me"},
        converters={"n": "lambda v: str(v)"},
        back={"n": "int"},
    )
    before = {"total": 3, "n": 4, "items": {"a": {"cents": 5}}, "gone": 1}
    kept = copy.deepcopy(before)
    after = made["migrate_1_2"](before)
    assert before == kept
    assert after == {"cents": 3, "n": "4", "items": {"a": {"amount": 5}}, "who": "me"}
    assert made["migrate_2_1"](after) == before


def test_items_of_lists_and_nested_containers_are_reached():
    old = schema(1, {"rows": list[Item], "deep": dict[str, list[Item]]})
    new = schema(2, {"rows": list[NewItem], "deep": dict[str, list[NewItem]]})
    made = functions(old, new, renames={"rows.*.cents": "amount", "deep.*.*.cents": "amount"})
    before = {"rows": [{"cents": 1}], "deep": {"a": [{"cents": 2}]}}
    after = {"rows": [{"amount": 1}], "deep": {"a": [{"amount": 2}]}}
    assert made["migrate_1_2"](before) == after
    assert made["migrate_2_1"](after) == before


def test_a_step_without_a_way_back_has_one_function():
    made = functions(schema(1, {"n": int}), schema(2, {"n": str}), converters={"n": "str"})
    assert "migrate_2_1" not in made


@pytest.mark.parametrize(
    ("hint", "path", "new"),
    [
        (tuple[Item, ...], "t.*.cents", tuple[NewItem, ...]),
        (Item | None, "t.cents", NewItem | None),
    ],
)
def test_what_no_plain_loop_reaches_is_left_to_step(hint, path, new):
    old, new = schema(1, {"t": hint}, {"t": None}), schema(2, {"t": new}, {"t": None})
    drafted = draft_step(old, new, 1, 2, answers=Answers(renames={path: "amount"}))
    assert functions_text(drafted, old) is None
