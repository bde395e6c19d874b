"""The newest source wins, what is used comes first, and circles become one transaction."""

from __future__ import annotations

import pytest

from replank.report import Outcome
from replank.scheduling.scheduler import Request, Target
from tests.unit.scheduling.test_scheduler import REPORT, Parts
from tests.unit.traffic.parts import turns


async def test_a_newer_request_takes_the_place_of_those_that_wait_and_they_are_told_by_which():
    parts = Parts()
    runs = parts.submit("a", when_busy="newest")
    await turns()
    older = parts.submit("a", when_busy="newest")
    await turns()
    newer = parts.submit("a", when_busy="newest")
    report = await older
    assert (report.outcome, report.id, report.superseded_by) == ("superseded", "r2", "r3")
    assert report.error.kind == "Superseded"
    assert "r3" in report.error.do
    assert not newer.done
    await parts.end("a")
    assert await runs is REPORT
    await parts.end("a")
    assert await newer is REPORT
    assert parts.began == ["a", "a"]


async def test_a_request_for_more_modules_is_not_superseded_by_one_for_some_of_them():
    parts = Parts()
    parts.submit("a", when_busy="newest")
    await turns()
    both = parts.submit("a", "b", when_busy="newest")
    one = parts.submit("a", when_busy="newest")
    await turns()
    assert not both.done
    for name in ("a", "a+b", "a"):
        await parts.end(name)
    assert await both is REPORT
    assert await one is REPORT


async def test_a_way_back_neither_supersedes_nor_is_superseded():
    parts = Parts()
    parts.submit("a")
    await turns()
    waits = parts.submit("a", when_busy="newest")
    back = parts.scheduler.submit(Request({"a": Target(digest="sha256:1")}, when_busy="newest"))
    last = parts.submit("a", when_busy="newest")
    assert (await waits).superseded_by == "r4"
    for _ in range(3):
        await parts.end("a")
    assert await back is REPORT
    assert await last is REPORT


async def test_a_request_that_will_not_wait_is_rejected_and_told_what_holds_its_modules():
    parts = Parts(uses={"api": {"ledger"}})
    parts.submit("ledger")
    await turns()
    report = await parts.submit("api", when_busy="refuse")
    assert report.outcome is Outcome.REJECTED
    assert report.error.kind == "Busy"
    assert "r1 (call) of ledger" in report.error.found
    other = parts.submit("other", when_busy="refuse")
    await turns()
    assert parts.began == ["ledger", "other"]
    await parts.end("other")
    assert await other is REPORT
    await parts.end("ledger")


async def test_of_requests_of_one_moment_what_is_used_is_reloaded_before_what_uses_it():
    parts = Parts(uses={"web": {"api"}, "api": {"ledger"}})
    for name in ("web", "api", "ledger"):
        parts.submit(name)
    for name in ("ledger", "api", "web"):
        await turns()
        assert parts.began[-1] == name
        await parts.end(name)


async def test_requests_for_modules_that_use_one_another_become_one_transaction():
    parts = Parts(uses={"a": {"b"}, "b": {"a"}})
    first, second = parts.submit("a"), parts.submit("b")
    await turns()
    assert parts.began == ["a+b"]
    assert first.modules == second.modules == {"a", "b"}
    await parts.end("a+b")
    assert await first is REPORT
    assert await second is REPORT


async def test_a_circle_over_a_third_module_is_one_too_and_an_error_reaches_all():
    parts = Parts(uses={"a": {"x"}, "x": {"b"}, "b": {"a"}})
    tickets = [parts.submit("a"), parts.submit("b")]
    await turns()
    parts.ends["a+b"].set_exception(RuntimeError("ours"))
    for ticket in tickets:
        with pytest.raises(RuntimeError, match="ours"):
            await ticket
