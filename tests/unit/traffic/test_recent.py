"""Recent calls are kept as bytes, within bounds, and most calls cost one count."""

from __future__ import annotations

from replank.traffic.payload import read_bare
from replank.traffic.recent import Recent


class Lane:
    def __init__(self) -> None:
        self.entries = {"total": self.total, "pay": self.total}

    async def total(self, owner: object = None) -> object:
        return owner


def kept(recent: Recent) -> list[object]:
    return [read_bare(one).args[0] for one in recent.payloads()]


async def test_the_last_calls_are_kept_each_once_the_newest_first() -> None:
    recent, lane = Recent("bank", calls_max=3, bytes_max=10_000), Lane()
    plain = dict(lane.entries)
    recent.keep(lane, ["total"])
    assert lane.entries["pay"] == plain["pay"]
    for owner in ("ada", "bob", "ada"):
        assert await lane.entries["total"](owner) == owner
    assert kept(recent) == ["ada", "bob"]


async def test_when_full_one_call_in_sixteen_takes_the_place_of_the_oldest() -> None:
    recent, lane = Recent("bank", calls_max=4, bytes_max=10_000), Lane()
    recent.keep(lane, ["total"])
    for number in range(4 + 16 * 2):
        await lane.entries["total"](number)
    assert len(recent.payloads()) == 4
    assert kept(recent)[0] > 16


async def test_what_the_caller_does_to_its_arguments_later_changes_nothing() -> None:
    recent, lane = Recent("bank", calls_max=4, bytes_max=10_000), Lane()
    recent.keep(lane, ["total"])
    owners = ["ada"]
    await lane.entries["total"](owners)
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
