"""The public names are a promise: a change of them is a change of this list, on purpose."""

from __future__ import annotations

from pathlib import Path

import replank

STORED = Path(__file__).with_name("public_names.txt")


def stored() -> list[str]:
    text = STORED.read_text("utf-8")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def test_the_public_names_are_those_on_the_stored_list() -> None:
    assert sorted(replank.__all__) == stored()


def test_the_public_names_are_sorted_and_stand_once() -> None:
    assert list(replank.__all__) == sorted(set(replank.__all__))


def test_every_public_name_exists_and_says_what_it_is() -> None:
    for name in replank.__all__:
        value = getattr(replank, name)
        assert name.startswith("__") or getattr(value, "__doc__", None), f"{name} has no docstring"
