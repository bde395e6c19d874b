from __future__ import annotations

import pytest

from replank.verification.types import TypeComparison, parse_type


def accepts(wide, narrow, *, own_wide=None, own_narrow=None, result=False):
    comparison = TypeComparison(own_wide or {}, own_narrow or {}, result=result)
    return comparison.refusal(parse_type(wide), parse_type(narrow)) is None


@pytest.mark.parametrize(
    ("wide", "narrow"),
    [
        ("int", "int"),
        ("float", "int"),
        ("complex", "bool"),
        ("int | None", "int"),
        ("int | None", "None"),
        ("Optional[int]", "None | int"),
        ("Union[int, str, None]", "str | int"),
        ("str | float", "int"),
        ("", "int"),
        ("int", ""),
        ("Any", "str"),
        ("int", "Any"),
        ("object", "list[int]"),
        ("list[float]", "list[int]"),
        ("list", "list[int]"),
        ("list[int]", "List[int]"),
        ("collections.abc.Sequence[float]", "list[int]"),
        ("Iterable[int]", "tuple[int, ...]"),
        ("Iterable[str]", "str"),
        ("Mapping[str, float]", "dict[str, int]"),
        ("collections.abc.Set[int]", "frozenset[int]"),
        ("tuple[int, ...]", "tuple[int, int]"),
        ("tuple[float, str]", "tuple[int, str]"),
        ("date", "datetime.datetime"),
        ("datetime.date", "date"),
        ("Literal['a', 'b']", "Literal['a']"),
        ("str", "Literal['a', 'b']"),
        ("str | int | None", "Literal['a', 1, None]"),
        ("int", "Annotated[int, msgspec.Meta(gt=0)]"),
        ("Annotated[int, msgspec.Meta(gt=0)]", "Annotated[int, msgspec.Meta(gt=0)]"),
        ("AsyncIterator[int]", "AsyncGenerator[int, None]"),
        ("Callable[[int], str]", "Callable[[int], str]"),
        ("'Order'", "Order"),
        ("ForwardRef('Order')", "Order"),
        ("<odd thing>", "<odd thing>"),
    ],
)
def test_a_type_that_holds_all_values_of_another_accepts_it(wide, narrow):
    assert accepts(wide, narrow)


@pytest.mark.parametrize(
    ("wide", "narrow"),
    [
        ("int", "float"),
        ("str", "int"),
        ("int", "int | None"),
        ("int | str", "bytes"),
        ("list[int]", "list[float]"),
        ("list[int]", "Sequence[int]"),
        ("list[int]", "tuple[int, ...]"),
        ("dict[str, int]", "dict[int, int]"),
        ("dict[str, int]", "dict[str, str]"),
        ("tuple[int, int]", "tuple[int, ...]"),
        ("tuple[int, int]", "tuple[int, int, int]"),
        ("tuple[int, ...]", "tuple[int, str]"),
        ("datetime", "date"),
        ("Literal['a']", "Literal['a', 'b']"),
        ("Literal['a']", "str"),
        ("int", "Literal['a']"),
        ("Annotated[int, msgspec.Meta(gt=0)]", "int"),
        ("Annotated[int, msgspec.Meta(gt=5)]", "Annotated[int, msgspec.Meta(gt=0)]"),
        ("Callable[[int], str]", "Callable[[str], str]"),
        ("Iterable[int]", "dict[str, int]"),
        ("<odd thing>", "<other thing>"),
        ("Order", "Invoice"),
    ],
)
def test_a_type_that_lacks_some_value_of_another_refuses_it(wide, narrow):
    assert not accepts(wide, narrow)


def record(*fields, bases=()):
    return {
        "kind": "record",
        "bases": list(bases),
        "fields": [
            {"name": name, "type": type_, "required": required} for name, type_, required in fields
        ],
    }


def reason(wide, narrow, *, result):
    comparison = TypeComparison({"Order": wide}, {"Order": narrow}, result=result)
    return comparison.refusal(parse_type("list[Order]"), parse_type("list[Order]"))


PLAIN = record(("item", "str", True), ("count", "int", False))


@pytest.mark.parametrize(
    ("new", "said"),
    [
        (PLAIN, None),
        (record(("item", "str", True), ("count", "float", False)), None),
        (record(("item", "str", True), ("count", "int", False), ("note", "str", False)), None),
        (
            record(("item", "str", True), ("count", "int", False), ("note", "str", True)),
            "Order.note is new and required",
        ),
        (record(("item", "str", True)), "Order.count was removed"),
        (record(("item", "int", True), ("count", "int", False)), "Order.item: str -> int"),
        (record(("item", "str", True), ("count", "int", True)), "Order.count is now required"),
    ],
)
def test_a_record_that_is_an_argument_is_compared_field_by_field(new, said):
    assert reason(new, PLAIN, result=False) == said


@pytest.mark.parametrize(
    ("new", "said"),
    [
        (PLAIN, None),
        (record(("item", "str", True), ("count", "int", False), ("note", "str", True)), None),
        (record(("item", "str", True)), "Order.count was removed"),
        (
            record(("item", "str | None", True), ("count", "int", False)),
            "Order.item: str -> str | None",
        ),
        (record(("item", "Literal['a']", True), ("count", "bool", False)), None),
    ],
)
def test_a_record_that_is_an_answer_must_hold_what_was_promised(new, said):
    assert reason(PLAIN, new, result=True) == said


def test_a_record_that_holds_itself_is_compared_once():
    tree = record(("children", "list[Order]", False), ("name", "str", True))
    assert reason(tree, tree, result=False) is None


def test_an_enum_is_compared_by_its_members():
    few = {"kind": "enum", "bases": [], "members": ["A", "B"]}
    more = {"kind": "enum", "bases": [], "members": ["A", "B", "C"]}
    assert reason(more, few, result=False) is None
    assert reason(few, more, result=False) == "Order.C was removed"
    assert reason(few, more, result=True) == "Order.C is new"
    assert reason(more, few, result=True) is None


def test_a_subclass_is_welcome_where_its_base_is():
    own = {"Savings": record(bases=["Account"]), "Account": record()}
    assert accepts("Account", "Savings", own_wide=own, own_narrow=own)
    assert not accepts("Savings", "Account", own_wide=own, own_narrow=own)
