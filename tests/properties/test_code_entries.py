"""Whatever a method's signature, its entry takes, passes on and refuses the same arguments."""

from __future__ import annotations

import ast
import asyncio
import inspect
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from replank.code.entries import ENTRY_NAMES, add_entries, collect_entries

NAMES = ["a", "b", "c", "d", "e", "f"]
VALUES = st.integers(-5, 5)


class Lane:
    """A gate that is open or shut and remembers its detours."""

    def __init__(self) -> None:
        self.open, self.quick = True, False  # every call is told to it
        self.calls = 0

    def enter(self, call: str) -> None:
        self.calls += 1

    async def detour(self, call: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return ("detour", args, kwargs)


@st.composite
def signatures(draw: st.DrawFn) -> str:
    """Draw a parameter list with every kind of parameter."""
    count = draw(st.integers(0, len(NAMES)))
    only_positional = draw(st.integers(0, count))
    only_keyword = draw(st.integers(0, count - only_positional))
    ordinary = count - only_positional - only_keyword
    defaults_from = draw(st.integers(0, only_positional + ordinary))
    parts: list[str] = []
    for index in range(only_positional + ordinary):
        parts.append(NAMES[index] + (f"={index}" if index >= defaults_from else ""))
        if index == only_positional - 1:
            parts.append("/")
    rest = draw(st.booleans())
    if rest:
        parts.append("*rest")
    elif only_keyword:
        parts.append("*")
    parts += [
        NAMES[only_positional + ordinary + index] + draw(st.sampled_from(["", f"={index * 10}"]))
        for index in range(only_keyword)
    ]
    if draw(st.booleans()):
        parts.append("**more")
    # A "/" must follow `self`, which stands before all others.
    return ", ".join(["self", *parts])


def build(signature: str, *, suspends: bool) -> tuple[Any, Any, Lane]:
    wait = "        await nothing()\n" if suspends else ""
    text = (
        "async def nothing(): ...\nclass Ledger(Module):\n"
        f"    async def m({signature}):\n{wait}        return locals_of({_names(signature)})\n"
    )
    tree = ast.parse(text)
    assert add_entries(tree, functions=True) == 1
    lane = Lane()
    space: dict[str, Any] = {
        "Module": object,
        **ENTRY_NAMES,
        "__replank_lane__": lane,
        "__replank_chain__": lambda: None,
        "locals_of": lambda *values: values,
    }
    exec(compile(tree, "ledger.py", "exec"), space)
    owner = space["Ledger"]
    return owner(), collect_entries(owner, ["m"])["m"], lane


def _names(signature: str) -> str:
    (function,) = ast.parse(f"def m({signature}): ...").body
    args = function.args  # type: ignore[attr-defined]
    every = [*args.posonlyargs, *args.args, *args.kwonlyargs, args.vararg, args.kwarg]
    return ", ".join(one.arg for one in every if one is not None and one.arg != "self")


def outcome(call: Any, *args: Any, **kwargs: Any) -> Any:
    try:
        return asyncio.run(call(*args, **kwargs))
    except TypeError as error:
        return str(error)


@given(
    signatures(),
    st.booleans(),
    st.lists(VALUES, max_size=7),
    st.dictionaries(st.sampled_from([*NAMES, "g"]), VALUES, max_size=4),
)
def test_an_entry_takes_and_refuses_what_its_method_does(
    signature: str, suspends: bool, args: list[int], kwargs: dict[str, int]
) -> None:
    target, entry, lane = build(signature, suspends=suspends)
    expected = outcome(target.m, *args, **kwargs)
    assert outcome(entry, target, *args, **kwargs) == expected
    assert inspect.signature(entry) == inspect.signature(type(target).m)
    assert lane.calls == (0 if isinstance(expected, str) else 1)
    lane.open = False
    detoured = outcome(entry, target, *args, **kwargs)
    if isinstance(expected, str):
        assert detoured == expected
    else:
        # What the detour is given calls the method with the same result.
        _, passed, named = detoured
        assert outcome(target.m, *passed, **named) == expected
