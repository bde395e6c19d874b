from __future__ import annotations

import asyncio

import pytest

from replank.definition import Check
from replank.errors import CheckError, PhaseTimeout
from replank.verification.checks import run_checks
from replank.verification.watchdog import Watchdog
from tests.unit.traffic.parts import start, turns


async def run(methods, *, where="rehearsal", limit_s=30.0, **when):
    checks = [Check(name, when.get(name, "both")) for name in methods]
    with Watchdog() as watchdog:
        return await run_checks(
            "ledger", checks, methods, where=where, limit_s=limit_s, watchdog=watchdog
        )


def fine():
    return None


async def test_checks_run_in_the_order_of_their_names_and_are_timed():
    ran = []
    methods = {name: (lambda name=name: ran.append(name)) for name in ("b", "c", "a")}
    results = await run(methods)
    assert ran == ["a", "b", "c"]
    assert [one.name for one in results] == ran
    assert all(one.seconds >= 0 for one in results)


@pytest.mark.parametrize(
    ("where", "expected"), [("rehearsal", ["both", "early"]), ("pause", ["both", "late"])]
)
async def test_a_check_runs_only_where_it_belongs(where, expected):
    methods = {"both": fine, "early": fine, "late": fine}
    results = await run(methods, where=where, early="rehearsal", late="pause")
    assert [one.name for one in results] == expected


@pytest.mark.parametrize("answer", [None, True, 0, "", []])
async def test_only_false_itself_says_no(answer):
    assert len(await run({"one": lambda: answer})) == 1


async def test_a_check_that_returns_false_fails():
    with pytest.raises(CheckError, match="check one failed: it returned False") as failed:
        await run({"one": lambda: False})
    assert failed.value.module == "ledger"
    assert failed.value.do


async def test_an_async_check_that_returns_false_fails():
    async def no():
        await asyncio.sleep(0)
        return False

    with pytest.raises(CheckError):
        await run({"one": no})


async def test_a_task_that_a_check_returns_is_awaited_for_its_answer():
    async def no():
        return False

    with pytest.raises(CheckError):
        await run({"one": lambda: asyncio.ensure_future(no())})


class Fatal(BaseException):
    pass


@pytest.mark.parametrize(
    "raised", [ValueError("bad"), SystemExit(2), Fatal("bad"), asyncio.CancelledError("bad")]
)
async def test_whatever_a_check_raises_is_a_failed_check(raised):
    async def bad():
        raise raised

    with pytest.raises(CheckError) as failed:
        await run({"one": bad})
    assert type(raised).__name__ in failed.value.found
    assert failed.value.__cause__ is raised
    assert failed.value.module == "ledger"


async def test_the_first_that_fails_ends_the_run():
    ran = []
    methods = {"a": lambda: ran.append("a"), "b": lambda: 1 / 0, "c": lambda: ran.append("c")}
    with pytest.raises(CheckError, match="check b failed: division by zero"):
        await run(methods)
    assert ran == ["a"]


async def test_a_check_that_waits_for_ever_is_out_of_time():
    with pytest.raises(PhaseTimeout) as failed:
        await run({"one": asyncio.Event().wait}, limit_s=0.001)
    assert failed.value.module == "ledger"
    assert "check one" in failed.value.what


async def test_a_check_that_computes_for_ever_is_out_of_time():
    def endless():
        while True:
            pass

    with pytest.raises(PhaseTimeout) as failed:
        await run({"one": endless}, limit_s=0.02)
    assert failed.value.module == "ledger"


async def test_the_limit_is_for_all_checks_together():
    with pytest.raises(PhaseTimeout, match="check b"):
        await run({"a": lambda: asyncio.sleep(0), "b": asyncio.Event().wait}, limit_s=0.01)


async def test_a_cancelled_reload_is_no_failed_check():
    task = start(run({"one": asyncio.Event().wait}))
    await turns()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_reload_that_is_out_of_time_is_no_failed_check():
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001):
            await run({"one": asyncio.Event().wait})
