"""Recent calls are kept as bytes, within bounds, and a call that is not kept meets nothing."""

from __future__ import annotations

from collections.abc import Callable

from replank.module import query
from replank.traffic.gate import Gate
from replank.traffic.handle import Handle
from replank.traffic.messages import Inbox
from replank.traffic.payload import read_bare
from replank.traffic.recent import EVERY_S, Recent

from .parts import make_lane, open_gate


@query
async def total(owner: object = None) -> object:
    return owner


@query
async def seldom(owner: object = None) -> object:
    return owner


async def pay(cents: int) -> int:
    return cents


@query
async def emptied(owners: list[str]) -> int:
    owners.clear()
    return 0


@query
async def rows(owner: str):
    yield owner


class Later:
    """What was put off, until somebody says that its time has come."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []

    def __call__(self, delay_s: float, act: Callable[[], None]) -> None:
        assert delay_s == EVERY_S
        self.waiting.append(act)

    def come(self) -> None:
        waiting, self.waiting = self.waiting, []
        for act in waiting:
            act()


def kept(recent: Recent) -> list[object]:
    return [read_bare(one).args[0] for one in recent.payloads()]


def served(recent: Recent, **methods) -> tuple[Handle, Gate]:
    gate = open_gate("bank", **methods)
    inbox = Inbox(gate, messages_max=10, on_failure=lambda *_: None)
    handle = Handle("bank", inbox, recent.serve)
    handle._serve(gate.lane)
    return handle, gate


async def test_the_last_queries_are_kept_each_once_the_newest_first() -> None:
    recent = Recent("bank", calls_max=3, bytes_max=10_000)
    handle, gate = served(recent, total=total, pay=pay, rows=rows)
    assert handle.pay is gate.lane.entries["pay"]  # no query
    assert handle.rows is gate.lane.entries["rows"]  # a stream ends when its reader likes
    for owner in ("ada", "bob", "ada"):
        assert await handle.total(owner) == owner
    assert kept(recent) == ["ada", "bob"]


async def test_when_full_a_call_meets_the_plain_entry_until_the_next_one_is_kept() -> None:
    later = Later()
    recent = Recent("bank", calls_max=4, bytes_max=10_000, later=later)
    handle, gate = served(recent, total=total)
    for number in range(5):
        await handle.total(number)
    assert handle.total is gate.lane.entries["total"]
    await handle.total("not kept")
    later.come()
    await handle.total("kept")
    await handle.total("not kept")
    assert kept(recent) == ["kept", 4, 3, 2]


async def test_the_bytes_are_full_before_the_calls_are() -> None:
    later = Later()
    recent = Recent("bank", calls_max=1_000, bytes_max=100, later=later)
    handle, gate = served(recent, total=total)
    for number in range(20):
        await handle.total(number)
    assert handle.total is gate.lane.entries["total"]
    assert recent.size_bytes <= 100


async def test_a_query_that_is_called_seldom_is_not_crowded_out() -> None:
    later = Later()
    recent = Recent("bank", calls_max=4, bytes_max=10_000, later=later)
    handle, _ = served(recent, total=total, seldom=seldom)
    await handle.seldom("once")
    for number in range(50):
        await handle.total(number)
        later.come()
    assert kept(recent) == ["once", 49, 48, 47]


async def test_the_next_generation_is_kept_too_and_the_last_one_no_more() -> None:
    later = Later()
    recent = Recent("bank", calls_max=1, bytes_max=10_000, later=later)
    handle, gate = served(recent, total=total)
    await handle.total(1)
    await handle.total(2)
    before, newer = gate.lane, make_lane(gate, 2, total=total)
    gate.close()
    handle._serve(newer)
    gate.reopen(newer)
    later.come()  # it was to look for the next call of the last generation
    await handle.total(3)
    assert kept(recent) == [3]
    assert handle.total is newer.entries["total"]
    assert not any(entry is handle.total for entry in before.entries.values())


async def test_a_reference_that_was_kept_is_passed_on_and_counts_once() -> None:
    later = Later()
    recent = Recent("bank", calls_max=1, bytes_max=10_000, later=later)
    handle, _ = served(recent, total=total)
    reference = handle.total
    for number in (1, 2, 3):
        assert await reference(number) == number
    assert kept(recent) == [2]


async def test_what_happens_to_the_arguments_later_changes_nothing() -> None:
    recent = Recent("bank", calls_max=4, bytes_max=10_000)
    handle, _ = served(recent, emptied=emptied)
    owners = ["ada"]
    await handle.emptied(owners)
    owners.append("bob")
    assert kept(recent) == [["ada"]]


def test_memory_is_bounded_and_what_cannot_be_kept_is_counted() -> None:
    recent = Recent("bank", calls_max=1_000, bytes_max=500)
    for number in range(100):
        recent.note("total", (f"{number:0100}",), {})
    assert recent.size_bytes <= 500
    assert 1 <= len(recent.payloads()) <= 4
    recent.note("total", (object(),), {})
    recent.note("total", ("x" * 1_000,), {})
    assert recent.left_out == 2
