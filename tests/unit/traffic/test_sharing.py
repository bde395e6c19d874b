"""Two lanes of one gate share its calls."""

from __future__ import annotations

from typing import Any

from replank.traffic.gate import Gate
from replank.traffic.sharing import Sharing
from tests.unit.traffic.parts import call, held, make_lane, open_gate, start, turns


async def one() -> int:
    return 1


async def two() -> int:
    return 2


def shared(share: float, **second: Any) -> tuple[Gate, Sharing]:
    gate = open_gate(of=one, other=one)
    sharing = Sharing(gate.lane, make_lane(gate, 2, **{"of": two, "other": two, **second}), ["of"])
    sharing.start()
    sharing.share = share
    return gate, sharing


async def test_a_share_is_counted_out_and_may_change() -> None:
    gate, sharing = shared(0.2)
    assert [await call(gate, "of") for _ in range(10)] == [1, 1, 1, 1, 2] * 2
    sharing.share = 1.0
    assert [await call(gate, "of") for _ in range(3)] == [2] * 3


async def test_calls_that_are_not_named_are_not_shared() -> None:
    gate, _ = shared(1.0)
    assert await call(gate, "other") == 1


async def test_after_the_stop_all_is_as_before() -> None:
    gate = open_gate(of=one)
    entries = gate.lane.entries
    second = make_lane(gate, 2, of=two)
    sharing = Sharing(gate.lane, second, ["of"])
    sharing.start()
    sharing.share = 1.0
    sharing.stop()
    assert gate.lane.entries is entries
    assert not second.open
    assert await call(gate, "of") == 1


async def test_a_call_that_was_handed_out_and_has_not_begun_enters_what_serves() -> None:
    gate, sharing = shared(1.0)
    late = gate.lane.entries["of"]()
    sharing.stop()
    assert await late == 1


async def test_a_call_in_flight_in_the_second_lane_ends_there() -> None:
    step, method = held("second")
    gate, sharing = shared(1.0, of=method)
    running = start(call(gate, "of"))
    await step.reached.wait()
    sharing.stop()
    await turns()
    step.go.set()
    assert await running == "second"


async def test_a_closed_gate_holds_calls_whatever_the_share() -> None:
    gate, _ = shared(1.0)
    gate.close()
    waiting = start(call(gate, "of"))
    await turns()
    assert gate.waiting == 1
    gate.quiet()
    gate.reopen()
    assert await waiting in (1, 2)
