"""Work in another thread gets its share beside a loop that never rests."""

from __future__ import annotations

import asyncio
import contextvars
import ctypes
import sys
import threading
import time

import pytest

from replank.errors import InternalError
from replank.threads import Aside, in_own_thread, in_thread, undisturbed

WHERE = contextvars.ContextVar[str]("WHERE", default="nowhere")


def raise_in(thread: int, error: type[BaseException]) -> None:
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(error))


async def test_work_beside_a_loop_that_never_rests_is_not_starved() -> None:
    """Each of the work's many releases of the lock would wait for a lucky moment."""
    resting = False
    turns = 0
    turned = threading.Event()

    async def restless() -> None:
        nonlocal turns
        while not resting:
            turns += 1
            turned.set()
            sum(range(500))
            await asyncio.sleep(0)

    def many_releases() -> int:
        assert turned.wait(60)  # the loop is at it before the work begins
        for _ in range(50):
            time.sleep(0)
        return turns

    callers = [asyncio.create_task(restless()) for _ in range(50)]
    seen = await in_thread(many_releases)
    resting = True
    await asyncio.gather(*callers)
    assert seen > 0
    # by turns of the loop, not by seconds: starved, it took some hundred thousand
    assert seen < 500 * 50 * 4


class Clock:
    """A loop's clock, and what it is to do later."""

    def __init__(self) -> None:
        self.now, self.later = 1.0, []

    def time(self) -> float:
        return self.now

    def call_later(self, _seconds: float, step) -> None:
        self.later.append(step)


def test_a_loop_stands_aside_once_for_all_the_work_that_is_under_way(monkeypatch) -> None:
    loop, slept = Clock(), []
    monkeypatch.setattr("replank.threads.sleep", slept.append)
    for _ in range(8):
        Aside(loop, lambda: False)
    for rounds in (1, 2, 3):
        due, loop.later = loop.later, []
        for step in due:
            step()
        assert (len(slept), len(loop.later)) == (rounds, 8)
        loop.now += 0.001


async def test_the_context_of_the_caller_goes_along() -> None:
    WHERE.set("here")
    assert await in_thread(WHERE.get) == "here"


async def test_an_error_of_the_work_comes_back() -> None:
    def fails(text: str, *, end: str) -> None:
        raise ValueError(text + end)

    with pytest.raises(ValueError, match="no way"):
        await in_thread(fails, "no ", end="way")


async def test_a_thread_of_its_own_gives_result_error_and_context() -> None:
    WHERE.set("there")
    assert await in_own_thread("tested", WHERE.get) == "there"
    with pytest.raises(ZeroDivisionError):
        await in_own_thread("tested", lambda: 1 // 0)


async def test_work_in_a_thread_of_its_own_that_is_ended_from_outside_is_an_error() -> None:
    begun: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    loop = asyncio.get_running_loop()

    def endless() -> None:
        loop.call_soon_threadsafe(begun.set_result, threading.get_ident())
        while True:
            pass

    work = asyncio.create_task(in_own_thread("tested", endless))
    raise_in(await begun, SystemExit)
    with pytest.raises(InternalError, match="tested was ended from outside"):
        await work


async def test_an_end_that_comes_too_late_does_not_keep_the_answer_back(monkeypatch) -> None:
    """It arrives when the work has been done and its answer is being told."""
    loop = asyncio.get_running_loop()
    tell, late = loop.call_soon_threadsafe, [SystemExit]

    def told(*args: object) -> None:
        if late:
            raise late.pop()
        tell(*args)

    monkeypatch.setattr(loop, "call_soon_threadsafe", told)
    assert await in_own_thread("tested", lambda: 7) == 7
    assert not late


def test_what_another_thread_writes_without_rest_can_be_looked_at() -> None:
    """Without it, every third look: dictionary changed size during iteration."""
    table = dict.fromkeys(range(100_000), 0)
    written, enough = threading.Event(), threading.Event()

    def write() -> None:
        while not enough.is_set():
            for number in range(100_000, 101_000):
                table[number] = 0
            for number in range(100_000, 101_000):
                del table[number]
            written.set()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        written.wait()
        usual_s = sys.getswitchinterval()
        for _ in range(20):
            copy = undisturbed(lambda: [key for key in table if key >= 0])
            assert 100_000 <= len(copy) <= 101_000
        assert sys.getswitchinterval() == usual_s
    finally:
        enough.set()
        writer.join()


@pytest.mark.parametrize(
    ("message", "looks"),
    [("dictionary changed size during iteration", 6), ("something else is wrong", 1)],
)
def test_a_look_is_taken_again_for_what_others_write_and_not_for_ever(
    message: str, looks: int
) -> None:
    taken = []

    def look() -> None:
        taken.append(1)
        raise RuntimeError(message)

    with pytest.raises(RuntimeError, match=message):
        undisturbed(look)
    assert len(taken) == looks
