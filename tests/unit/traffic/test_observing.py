"""Calls are looked at while somebody looks, and their way is the same as before afterwards."""

from __future__ import annotations

import pytest

from replank.errors import Overloaded
from replank.traffic.observing import KEPT_MAX, Observer


class Lane:
    def __init__(self) -> None:
        self.open = True
        self.entries = {"pay": self.pay, "read": self.read}
        self.error: Exception | None = None
        self.clock = 0.0

    def now(self) -> float:
        return self.clock

    async def pay(self, cents: int = 0) -> int:
        self.clock += 0.5
        if self.error is not None:
            raise self.error
        return cents

    async def read(self) -> str:
        return "read"


async def test_off_it_is_not_there_and_on_it_times_every_call() -> None:
    lane = Lane()
    plain = dict(lane.entries)
    observer = Observer(lane, ["pay"], lane.now)
    assert lane.entries == plain
    observer.start()
    assert lane.entries["read"] == plain["read"]  # not asked for: not touched
    assert await lane.entries["pay"](cents=3) == 3
    lane.error = ValueError("no")
    with pytest.raises(ValueError, match="no"):
        await lane.entries["pay"](1)
    seen = observer.seen["pay"]
    assert (seen.calls, seen.errors, list(seen.seconds)) == (2, 1, [0.5])
    observer.stop()
    assert lane.entries == plain


async def test_what_is_no_fault_of_the_version_is_not_counted() -> None:
    lane = Lane()
    observer = Observer(lane, ["pay"], lane.now)
    observer.start()
    lane.error = Overloaded("full")
    with pytest.raises(Overloaded):
        await lane.entries["pay"]()
    lane.error, lane.open = None, False  # it would be timed with its wait at the gate
    await lane.entries["pay"]()
    assert observer.seen["pay"].calls == 0


async def test_many_calls_are_sampled_and_memory_is_bounded() -> None:
    lane = Lane()
    observer = Observer(lane, ["pay"], lane.now)
    observer.start()
    for _ in range(10_000):
        await lane.entries["pay"]()
    seen = observer.seen["pay"]
    assert 1_500 < seen.calls < 2_000
    assert len(seen.seconds) == KEPT_MAX


async def test_the_baseline_is_of_late_unless_that_is_too_little() -> None:
    lane = Lane()
    observer = Observer(lane, ["pay"], lane.now)
    observer.start()
    for _ in range(5):
        await lane.entries["pay"]()
    observer.stop()
    observer.start()
    for _ in range(3):
        await lane.entries["pay"]()
    assert observer.baseline("pay", enough=3).calls == 3
    assert observer.baseline("pay", enough=4).calls == 8
    assert observer.baseline("gone", enough=4).calls == 0


async def test_a_lane_that_was_unloaded_meanwhile_stays_empty() -> None:
    lane = Lane()
    observer = Observer(lane, ["pay"])
    observer.start()
    lane.entries = {}
    observer.stop()
    assert lane.entries == {}
