import datetime as dt
import decimal
import enum
from typing import Literal

import msgspec
import pytest

from replank.errors import UsageError
from replank.migration.expressions import default_source, function_source
from replank.schema import read_schema


class Tier(enum.Enum):
    GOLD = 1


class Point(msgspec.Struct):
    x: int = 0


def shape(hint):
    return read_schema({"f": hint}, {}, version=1, where="x")[0].fields[0].shape


@pytest.mark.parametrize(
    ("hint", "text", "source"),
    [
        (int, "7", "7"),
        (int, "-7", "-7"),
        (float, "7", "7.0"),
        (float, "7.5", "7.5"),
        (bool, "true", "True"),
        (str, "ada", '"ada"'),
        (str, "7", '"7"'),
        (str, "'7'", '"7"'),
        (str, "", '""'),
        (str | None, "null", "None"),
        (int | None, "3", "3"),
        (int | str, "3", "3"),
        (list[int], "[1, 2]", "[1, 2]"),
        (dict[str, int], "{}", "{}"),
        (set[int], "set()", "set()"),
        (tuple[int, str], "(1, 'a')", "(1, 'a')"),
        (Tier, "GOLD", '"GOLD"'),
        (Literal["a", "b"], "'a'", '"a"'),
        (Point, "{'x': 1}", "{'x': 1}"),
        (decimal.Decimal, 'Decimal("0")', 'Decimal("0")'),
        (dt.date, "dt.date(2020, 1, 1)", "dt.date(2020, 1, 1)"),
    ],
)
def test_a_typed_value_becomes_the_source_of_a_default(hint, text, source):
    known = frozenset({"Decimal", "dt"})
    assert default_source("f", text, shape(hint), known) == source


@pytest.mark.parametrize(
    ("hint", "text"),
    [(int, "ada"), (int, "'7'"), (int, "true"), (Tier, "SILVER"), (list[int], "['a']"), (int, "(")],
)
def test_a_value_of_another_type_is_refused(hint, text):
    with pytest.raises(UsageError):
        default_source("f", text, shape(hint), frozenset())


def test_a_name_that_the_module_does_not_know_is_named():
    with pytest.raises(UsageError) as raised:
        default_source("f", 'Decimal("0")', shape(decimal.Decimal), frozenset())
    assert raised.value.found == "unknown: Decimal"
    with pytest.raises(UsageError):
        function_source("f", "to_cents", frozenset())


def test_a_converter_is_a_name_or_a_lambda():
    assert function_source("f", "str", frozenset()) == "str"
    assert function_source("f", "lambda v: v + rate", frozenset({"rate"})) == "lambda v: v + rate"
    with pytest.raises(UsageError):
        function_source("f", "def f(): ...", frozenset())
