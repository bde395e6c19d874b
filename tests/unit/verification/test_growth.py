"""What grows with the calls and is no state is found by its name; what fills up once is not."""

from __future__ import annotations

import collections
import functools
import types

import pytest

from replank.verification.growth import Growth, read_sizes

KB = "x" * 1_000


def module(source: str) -> types.ModuleType:
    made = types.ModuleType("shop@1")
    vars(made)["KB"] = KB
    exec(source, vars(made))
    return made


def watched(one: types.ModuleType, before=(), declared=()) -> Growth:
    return Growth(lambda: [("global {}", vars(one))], lambda: list(declared), dict(before))


def called(growth: Growth, one: types.ModuleType, *, looks: int = 12, calls: int = 50):
    for look in range(looks):
        looked = list(growth.look(look * calls))
        assert len(looked) < 10
        for number in range(look * calls, (look + 1) * calls):
            one.call(number)
    return growth.grown


LEAKS = {
    "global SEEN (a list)": "SEEN = []\ndef call(n): SEEN.append((n, KB + str(n)))",
    "global SEEN (a set)": "SEEN = set()\ndef call(n): SEEN.add(KB + str(n))",
    "global BY (a dict)": "BY = {}\ndef call(n): BY[n] = KB + str(n)",
    "global LATE (a deque)": "from collections import deque\nLATE = deque()\ndef call(n): LATE.append(KB + str(n))",
    "global BY['ada'] (a list)": "BY = {'ada': [], 'bob': []}\ndef call(n): BY['ada'].append(KB + str(n))",
    "a default of call (a list)": "def call(n, seen=[]): seen.append(KB + str(n))",
    "kept in the closure of make.<locals>.call (a list)": "def make():\n    kept = []\n    def call(n): kept.append(KB + str(n))\n    return call\ncall = make()",
    "global call (a cache without a limit)": "import functools\n@functools.cache\ndef call(n): return KB + str(n)",
    "Shop.all (a list)": "class Shop:\n    all = []\ndef call(n): Shop.all.append(KB + str(n))",
    "global shop.log (a list)": "class Shop:\n    def __init__(self): self.log = []\nshop = Shop()\ndef call(n): shop.log.append(KB + str(n))",
}
NO_LEAKS = {
    "keeps nothing": "SEEN = []\ndef call(n): return n",
    "a cache with a limit": "import functools\n@functools.lru_cache(64)\ndef call(n): return KB",
    "a deque with a limit": "from collections import deque\nLATE = deque(maxlen=64)\ndef call(n): LATE.append(n)",
    "a cache that is full soon": "BY = {}\ndef call(n): BY[n % 100] = n",
    "a cache that somebody empties": "BY = {}\ndef call(n):\n    BY[n] = n\n    if len(BY) > 170: BY.clear()",
    "grows once": "SEEN = []\ndef call(n):\n    if n < 300: SEEN.append(n)",
}


@pytest.mark.parametrize("place", LEAKS)
def test_what_grows_with_each_call_is_named_with_its_size(place: str) -> None:
    one = module(LEAKS[place])
    (found, *_) = called(watched(one), one)
    assert found.place == place
    assert (found.entries, found.calls) == (550, 550)
    assert 500_000 < found.size_bytes < 800_000
    assert str(found).startswith(f"{place} grows with the calls: 550 entries more")


@pytest.mark.parametrize("why", NO_LEAKS)
def test_what_fills_up_or_is_bounded_is_no_leak(why: str) -> None:
    one = module(NO_LEAKS[why])
    assert called(watched(one), one) == []


def test_what_the_version_before_held_too_is_only_filled_again() -> None:
    one = module("BY = {}\ndef call(n): BY[n] = KB")
    assert called(watched(one, {"global BY (a dict)": 100_000}), one) == []
    one = module("BY = {}\ndef call(n): BY[n] = KB")
    (found,) = called(watched(one, {"global BY (a dict)": 300}), one)
    assert found.entries == 550 - 300


def test_the_declared_state_may_grow() -> None:
    one = module("STATE = []\ndef call(n): STATE.append(KB + str(n))")
    assert called(watched(one, declared=[one.STATE]), one) == []


def test_without_calls_or_after_a_few_looks_nothing_is_said() -> None:
    one = module("SEEN = []\ndef call(n): SEEN.append(n)")
    assert called(watched(one), one, looks=7) == []
    growth = watched(one)
    for _ in range(12):
        list(growth.look(5))
        one.call(1)
    assert growth.grown == []


def test_an_object_that_is_kept_again_and_again_is_counted_once() -> None:
    one = module("BIG = tuple(range(10_000, 20_000))\nSEEN = []\ndef call(n): SEEN.append(BIG)")
    (found,) = called(watched(one), one)
    assert found.size_bytes < 550 * 50_000


def test_a_long_watch_keeps_few_looks() -> None:
    one = module("SEEN = []\ndef call(n): SEEN.append(n)")
    growth = watched(one)
    assert called(growth, one, looks=400, calls=5)
    assert all(len(seen) <= 65 for seen in growth._seen.values())


class Stubborn(dict):
    """Like a proxy that is bound to nothing: it raises at whatever is asked of it."""

    def items(self):
        raise RuntimeError("not bound")

    def __len__(self):
        raise RuntimeError("not bound")


def test_what_raises_at_being_looked_at_is_left_out() -> None:
    one = module("SEEN = []\ndef call(n): SEEN.append(KB + str(n))")
    one.PROXY = Stubborn(a=1)  # type: ignore[attr-defined]
    (found,) = called(watched(one), one)
    assert found.place == "global SEEN (a list)"


def test_a_walk_is_bounded_and_knows_cycles() -> None:
    loop: list[object] = []
    loop.append(loop)
    wide = {n: [] for n in range(60)}
    deep = functools.reduce(lambda inner, n: [inner], range(50), collections.deque())
    found: dict[str, int] = {}
    slices = list(read_sizes([("{}", {"loop": loop, "wide": wide, "deep": deep})], [], found))
    assert len(slices) == len(found) // 25  # others have a turn in between
    assert "loop (a list)" in found
    assert len(found) < 80
