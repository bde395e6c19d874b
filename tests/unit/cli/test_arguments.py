from pathlib import Path

import pytest

from replank.cli.arguments import parse_arguments, parse_targets
from replank.errors import UsageError


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], []),
        (["owner=ada", "cents=5"], {"owner": "ada", "cents": 5}),
        (["owner=a=b"], {"owner": "a=b"}),
        (['owner="5"'], {"owner": "5"}),
        (["ada", "5", "null", "[1]"], ["ada", 5, None, [1]]),
        (['{"a": 1}'], {"a": 1}),
        (["[1, 2]"], [1, 2]),
        (["5=6"], ["5=6"]),
        (["text=two\nlines"], {"text": "two\nlines"}),
    ],
)
def test_words_become_values(words, expected):
    assert parse_arguments(words) == expected


def test_named_and_plain_values_do_not_mix():
    with pytest.raises(UsageError) as caught:
        parse_arguments(["a=1", "2"])
    assert caught.value.found == "2"


def test_broken_json_is_refused():
    with pytest.raises(UsageError, match="no valid JSON"):
        parse_arguments(["{a: 1"])


def test_names_stay_names_unless_a_source_is_given(tmp_path):
    (tmp_path / "v2.py").touch()
    source = tmp_path / "v2.py"
    assert parse_targets(["a", "b"], []) == ["a", "b"]
    assert parse_targets(["a", f"b={source}"], []) == {"a": None, "b": source}
    assert parse_targets(["a", "b"], [source, source]) == {"a": source, "b": source}
    with pytest.raises(UsageError, match="there is no file"):
        parse_targets(["a"], [Path("missing.py")])
