import enum

import msgspec
import pytest

from replank.difference import difference
from replank.errors import UsageError
from replank.migration.drafting import Answers, Asked, draft_step
from replank.migration.outline import outline
from replank.migration.steps import Step
from replank.schema import read_schema
from replank.table import Table


class Old(msgspec.Struct):
    owner: str
    cents: int = 0


class Renamed(msgspec.Struct):
    owner: str
    amount: int = 0


class Tier(enum.Enum):
    BASIC = 1
    GOLD = 2


def schema(version=1, /, **fields):
    hints = {n: f[0] if isinstance(f, tuple) else f for n, f in fields.items()}
    defaults = {n: f[1] for n, f in fields.items() if isinstance(f, tuple)}
    return read_schema(hints, defaults, version=version, where="x")[0]


def draft(old, new, known=(), **answers):
    return draft_step(old, new, 1, 2, answers=Answers(**answers), known=known)


def lines(drafted):
    return [line.text() for line in drafted.lines]


def asked(drafted):
    return [(one.kind, one.path) for one in drafted.questions]


def test_a_field_that_is_gone_while_none_came_is_certainly_removed():
    found = draft(schema(a=(int, 3), b=int), schema(b=int))
    assert lines(found) == ['remove("a", default=3)']
    assert not found.questions
    assert not found.notes


def test_a_removal_without_a_known_default_is_marked_as_lossy():
    found = draft(schema(a=int, b=int), schema(b=int))
    assert lines(found) == ['remove("a")']
    assert "lossy" in found.notes[0]
    assert lines(draft(schema(a=int), schema(), defaults={"a": "7"})) == ['remove("a", default=7)']


def test_a_rename_is_asked_and_never_guessed_even_when_the_new_field_has_a_default():
    found = draft(schema(total=(int, 0)), schema(total_cents=(int, 0)))
    assert not found.lines
    assert asked(found) == [(Asked.RENAMED, "total")]
    assert found.questions[0].choices == ("total_cents",)
    assert found.questions[0].flags == ("--yes-rename total=total_cents", "--remove total")


def test_the_likeliest_new_name_is_offered_first():
    found = draft(schema(a=int), schema(b=(str, ""), c=(int, 0)))
    assert found.questions[0].choices == ("c", "b")


def test_a_rename_that_was_answered_is_written_and_what_lies_inside_is_compared_under_it():
    old = schema(accounts=Table[str, Old])
    new = schema(clients=Table[str, Renamed])
    assert asked(draft(old, new)) == [(Asked.RENAMED, "accounts")]
    found = draft(old, new, renames={"accounts": "clients"})
    assert asked(found) == [(Asked.RENAMED, "clients.*.cents")]
    found = draft(old, new, renames={"accounts": "clients", "clients.*.cents": "amount"})
    assert lines(found) == ['rename("accounts", "clients")', 'rename("clients.*.cents", "amount")']
    assert not found.questions


def test_a_field_can_be_answered_to_have_moved_to_another_record():
    old = schema(total=int, books=msgspec.defstruct("Books", [("day", int, 0)]))
    new = schema(books=msgspec.defstruct("Books", [("day", int, 0), ("total", int, 0)]))
    assert draft(old, new).questions[0].choices == ("books.total",)
    assert lines(draft(old, new, renames={"total": "books.total"})) == [
        'move("total", "books.total")'
    ]


def test_an_answer_that_it_was_removed_is_believed():
    found = draft(schema(a=(int, 0)), schema(b=(int, 0)), removed=frozenset({"a"}))
    assert lines(found) == ['remove("a", default=0)']


def test_a_required_new_field_asks_for_its_value():
    found = draft(schema(a=int), schema(a=int, who=str))
    assert asked(found) == [(Asked.DEFAULT, "who")]
    assert found.questions[0].flags == ("--default who=VALUE",)
    answered = draft(schema(a=int), schema(a=int, who=str), defaults={"who": "nobody"})
    assert lines(answered) == ['add("who", default="nobody")']


def test_a_new_field_with_a_value_given_is_no_candidate_for_a_rename():
    found = draft(schema(a=(int, 0)), schema(b=int), defaults={"b": "1"})
    assert lines(found) == ['remove("a", default=0)', 'add("b", default=1)']


def test_a_new_field_with_a_default_needs_nothing():
    found = draft(schema(a=int), schema(a=int, b=(int, 0)))
    assert found.empty
    assert found.automatic == ("b added (int = 0)",)


def test_another_type_asks_for_a_converter_and_its_way_back():
    old, new = schema(n=int), schema(n=str)
    found = draft(old, new)
    assert asked(found) == [(Asked.CONVERTER, "n")]
    assert found.questions[0].flags == ("--convert n=FUNCTION", "--convert-down n=FUNCTION")
    found = draft(old, new, known=["f"], converters={"n": "f"})
    assert lines(found) == ['convert("n", f)']
    assert "no way back" in found.notes[0]
    found = draft(old, new, converters={"n": "str"}, back={"n": "lambda v: int(v)"})
    assert lines(found) == ['convert("n", str, lambda v: int(v))']
    assert not found.notes


def test_other_keys_are_rekeyed():
    old, new = schema(t=dict[int, int]), schema(t=dict[str, int])
    assert asked(draft(old, new)) == [(Asked.KEYS, "t")]
    found = draft(old, new, converters={"t": "str"}, back={"t": "int"})
    assert lines(found) == ['rekey("t", str, int)']


def test_a_renamed_type_has_each_of_its_fields_told():
    class New(msgspec.Struct):
        owner: str
        amount: int = 0
        tier: Tier = Tier.GOLD

    old, new = schema(accounts=Table[str, Old]), schema(accounts=Table[str, New])
    found = draft(old, new, renames={"accounts.*.cents": "amount"})
    assert lines(found) == [
        'rename("accounts.*.cents", "amount")',
        'add("accounts.*.tier", default="GOLD")',
    ]
    after = outline(old, Step(1, 2, tuple(line.operation for line in found.lines)))
    assert all(one.safe for one in difference(after, new))


@pytest.mark.parametrize(
    "answers",
    [
        {"renames": {"x": "b"}},
        {"renames": {"a": "x"}},
        {"removed": frozenset({"b"})},
        {"defaults": {"x": "1"}},
        {"converters": {"x": "str"}},
        {"back": {"x": "str"}},
    ],
)
def test_an_answer_to_what_was_not_asked_is_refused(answers):
    old, new = schema(a=(int, 0)), schema(b=(int, 0))
    sure = answers if "renames" in answers else {"removed": frozenset({"a"})} | answers
    if "removed" in answers:
        sure = {"removed": frozenset({"a", "b"})}
    with pytest.raises(UsageError, match="answers nothing"):
        draft(old, new, **sure)


def test_a_long_step_is_written_on_lines_of_its_own_and_a_short_one_on_one():
    short = draft(schema(a=(int, 0)), schema())
    assert short.text() == 'step(1, 2, remove("a", default=0))'
    long = draft(schema(a=(int, 0), **{f"field_{n}": (int, 0) for n in range(3)}), schema())
    assert long.text(indent=4).splitlines()[1] == "        1,"
    assert long.text(indent=4).splitlines()[-1] == "    )"
    assert long.text(prefix="replank.").count("replank.") == 5


def test_what_is_asked_is_marked_in_the_source():
    found = draft(schema(a=int), schema(b=int))
    assert "# how? a (int) is gone" in found.text()
    compile(found.text(), "step", "eval")
