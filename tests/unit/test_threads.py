"""Work in another thread gets its share beside a loop that never rests."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time

import pytest

from replank.threads import in_thread

WHERE = contextvars.ContextVar[str]("WHERE", default="nowhere")


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


async def test_the_context_of_the_caller_goes_along() -> None:
    WHERE.set("here")
    assert await in_thread(WHERE.get) == "here"


async def test_an_error_of_the_work_comes_back() -> None:
    def fails(text: str, *, end: str) -> None:
        raise ValueError(text + end)

    with pytest.raises(ValueError, match="no way"):
        await in_thread(fails, "no ", end="way")
