"""Long work runs in slices between which the loop turns."""

import asyncio

import pytest

from replank.state.slices import SLICE_MIN_S, Slices, run_all


class Clock:
    """Time that passes with each look at it."""

    def __init__(self, tick):
        self.now, self.tick = 0.0, tick

    def __call__(self):
        self.now += self.tick
        return self.now


def work(steps, log=None):
    try:
        for number in range(steps):
            if log is not None:
                log.append(number)
            yield
        return "done"
    finally:
        if log is not None:
            log.append("closed")


def test_run_all_returns_the_value_of_the_generator():
    assert run_all(work(5)) == "done"


async def test_other_tasks_run_between_slices():
    log = []

    async def other():
        while "closed" not in log:
            log.append("other")
            await asyncio.sleep(0)

    task = asyncio.ensure_future(other())
    slices = Slices(0.001, clock=Clock(0.0002))

    assert await slices.run(work(40, log)) == "done"
    await task
    assert log.count("other") > 5
    assert slices.count > 5
    assert slices.longest_s > 0


async def test_slices_get_shorter_while_the_loop_is_busy():
    slices = Slices(0.001, clock=Clock(0.0006))
    await slices.run(work(50))

    assert slices._current == SLICE_MIN_S


async def test_work_between_slices_is_done_and_its_error_ends_the_run():
    calls = []

    def between():
        calls.append(1)
        if len(calls) == 3:
            raise MemoryError

    log = []
    with pytest.raises(MemoryError):
        await Slices(0.001, between=between, clock=Clock(0.0004)).run(work(100, log))

    assert log[-1] == "closed"


async def test_a_cancelled_run_closes_its_generator():
    log = []
    task = asyncio.ensure_future(Slices(0.001, clock=Clock(0.0004)).run(work(10**6, log)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert log[-1] == "closed"
