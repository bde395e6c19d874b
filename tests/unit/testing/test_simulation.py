"""The simulated loop: virtual time, seeds, asyncio's promises kept, and an end that leaves nothing."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from replank.testing.simulation import SimulatedLoop, SimulationStuck, simulate, virtual_clocks
from replank.traffic import gate


async def order_of_pauses(count: int = 8) -> list[int]:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SimulatedLoop)
    order: list[int] = []

    async def one(number: int) -> None:
        await loop.pause()
        order.append(number)

    await asyncio.gather(*map(one, range(count)))
    return order


def test_an_hour_passes_in_no_time() -> None:
    began = time.monotonic()

    async def main() -> float:
        await asyncio.sleep(3600)
        return asyncio.get_running_loop().time()

    assert simulate(main(), SimulatedLoop(1)) >= 3600
    assert time.monotonic() - began < 60


def test_the_same_seed_gives_the_same_order_and_others_give_others() -> None:
    orders = [simulate(order_of_pauses(), SimulatedLoop(seed)) for seed in (1, 1, 2, 3)]
    assert orders[0] == orders[1]
    assert len({tuple(one) for one in orders}) == 3


def test_callbacks_run_in_the_order_of_call_soon_under_every_seed() -> None:
    async def main() -> list[int]:
        order: list[int] = []
        for number in range(20):
            asyncio.get_running_loop().call_soon(order.append, number)
        await asyncio.sleep(0)
        return order

    for seed in range(20):
        assert simulate(main(), SimulatedLoop(seed)) == list(range(20))


def test_what_a_turn_schedules_runs_in_the_next_turn() -> None:
    async def main() -> list[str]:
        loop, order = asyncio.get_running_loop(), list[str]()
        loop.call_soon(lambda: (order.append("a"), loop.call_soon(order.append, "c")))
        loop.call_soon(order.append, "b")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return order

    assert simulate(main(), SimulatedLoop(5)) == ["a", "b", "c"]


def test_a_function_in_a_thread_runs_on_this_one_at_some_moment() -> None:
    async def main() -> Any:
        with pytest.raises(ValueError, match="no"):
            await asyncio.to_thread(int, "no")
        return await asyncio.to_thread(lambda: asyncio.get_running_loop().time())

    assert simulate(main(), SimulatedLoop(2)) > 0


def test_a_pool_of_ones_own_keeps_the_order() -> None:
    async def main() -> list[int]:
        loop, pool, order = asyncio.get_running_loop(), ThreadPoolExecutor(1), list[int]()
        await asyncio.gather(*(loop.run_in_executor(pool, order.append, n) for n in range(10)))
        return order

    for seed in range(10):
        assert simulate(main(), SimulatedLoop(seed)) == list(range(10))


def test_what_was_cancelled_before_it_began_does_not_run() -> None:
    async def main() -> list[int]:
        ran: list[int] = []
        future = asyncio.get_running_loop().run_in_executor(None, ran.append, 1)
        future.cancel()
        await asyncio.sleep(1)
        return ran

    assert simulate(main(), SimulatedLoop(3)) == []


def test_a_program_in_which_nothing_can_happen_is_stuck() -> None:
    async def main() -> None:
        await asyncio.Event().wait()

    with pytest.raises(SimulationStuck, match="nothing is ready"):
        simulate(main(), SimulatedLoop(1))


def test_a_program_that_never_ends_is_stuck() -> None:
    async def main() -> None:
        while True:
            await asyncio.sleep(0)

    with pytest.raises(SimulationStuck, match="did not end within 500 steps"):
        simulate(main(), SimulatedLoop(1, steps_max=500))


def test_what_is_left_is_cancelled_also_when_it_resists_at_first() -> None:
    ended: list[str] = []

    async def stubborn() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(1)
        ended.append("stubborn")

    async def main() -> None:
        asyncio.create_task(stubborn())  # noqa: RUF006 - left behind on purpose
        await asyncio.sleep(0)

    simulate(main(), SimulatedLoop(1))
    assert ended == ["stubborn"]


def test_an_error_that_nobody_looks_at_is_noted_and_not_printed() -> None:
    loop = SimulatedLoop(1)

    async def main() -> None:
        asyncio.get_running_loop().call_soon(int, "no")
        await asyncio.sleep(0)

    simulate(main(), loop)
    (problem,) = loop.problems
    assert isinstance(problem["exception"], ValueError)


def test_the_clocks_of_the_package_are_virtual_and_are_put_back() -> None:
    real = gate.perf_counter
    with virtual_clocks(lambda: 42.0):
        assert gate.perf_counter() == 42.0
        with virtual_clocks(lambda: 43.0):
            assert gate.perf_counter() == 43.0
        assert gate.perf_counter() == 42.0
    assert gate.perf_counter is real


def test_every_step_can_be_looked_at() -> None:
    loop, seen = SimulatedLoop(1), list[int]()
    loop.on_step = lambda: seen.append(loop.steps)
    simulate(order_of_pauses(), loop)
    assert seen == list(range(1, len(seen) + 1))
