"""What several generations have left is found in one look, and told of each by itself."""

from __future__ import annotations

import asyncio
import sys
import types

import pytest

from replank.coordinator import retire
from replank.verification.effects import Effects, leaks_of

pytestmark = pytest.mark.asyncio


def generation(name: str) -> tuple[Effects, str]:
    effects = Effects()
    effects.own(name)
    return effects, name


def code_of(name: str):
    """Return a function of a generation's."""
    space = {"__name__": name}
    exec("def work(): ...", space)
    return space["work"]


async def test_each_generation_is_told_what_it_has_left_and_no_other(monkeypatch) -> None:
    loop = asyncio.get_running_loop()
    three = [generation(f"{name}@1") for name in ("replank_a", "replank_b", "replank_c")]
    later = loop.call_later(600, code_of("replank_a@1"))
    alias = types.ModuleType("replank_c@1.part")
    monkeypatch.setitem(sys.modules, "replank_tested_alias", alias)
    three[1][0].own("replank_b@1").append(code_of("replank_b@1"))
    first, second, third = leaks_of(three, loop)
    later.cancel()
    assert [line.partition(";")[0] for line in first] == [
        "a call of work by loop.call_later is still to come"
    ]
    assert second == ("atexit will run work; unregister it in on_stop",)
    assert third == ("it stands in sys.modules as 'replank_tested_alias'; take it away in on_stop",)


async def test_those_who_ask_while_one_looks_are_answered_by_one_more_look(monkeypatch) -> None:
    looks: list[list[str]] = []
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def in_thread(_work, retired, _loop):
        looks.append([name for _, name in retired])
        begun.set()
        await go_on.wait()
        return [(f"left by {name}",) for _, name in retired]

    monkeypatch.setattr(retire, "in_thread", in_thread)
    look = retire._Look()
    asked = [asyncio.create_task(look.of(*generation(f"part{n}@1"))) for n in range(5)]
    await begun.wait()
    go_on.set()
    found = await asyncio.gather(*asked)
    assert found == [(f"left by part{n}@1",) for n in range(5)]
    assert sorted(name for names in looks for name in names) == [f"part{n}@1" for n in range(5)]
    assert len(looks) <= 2


async def test_a_look_that_fails_is_told_to_all_who_asked_and_the_next_is_not(monkeypatch) -> None:
    fails = [ValueError("no"), ValueError("no")]

    async def in_thread(_work, retired, _loop):
        await asyncio.sleep(0)
        if fails:
            raise fails.pop()
        return [() for _ in retired]

    monkeypatch.setattr(retire, "in_thread", in_thread)
    look = retire._Look()
    asked = [look.of(*generation(f"part{n}@1")) for n in range(4)]
    for found in await asyncio.gather(*asked, return_exceptions=True):
        assert isinstance(found, ValueError) or found == ()
    assert await look.of(*generation("part9@1")) == ()


async def test_who_is_given_up_while_it_looks_takes_no_answer_from_the_others(monkeypatch) -> None:
    begun = asyncio.Event()

    async def in_thread(_work, retired, _loop):
        if not begun.is_set():
            begun.set()
            await asyncio.Event().wait()
        return [(name,) for _, name in retired]

    monkeypatch.setattr(retire, "in_thread", in_thread)
    look = retire._Look()
    asked = [asyncio.create_task(look.of(*generation(f"part{n}@1"))) for n in range(3)]
    await begun.wait()
    asked[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked[0]
    assert [await one for one in asked[1:]] == [("part1@1",), ("part2@1",)]
