from __future__ import annotations

import asyncio
import gc
import itertools

import pytest

from replank.errors import HostStopped, SelfReload
from replank.report import Outcome, ReloadReport
from replank.scheduling.scheduler import ReloadScheduler, Request, Target
from replank.scheduling.ticket import Ticket
from replank.traffic.calls import Chain, live_chain
from replank.traffic.gate import Gate
from replank.traffic.lane import Lane
from tests.unit.traffic.parts import call, open_gate, start, turns

REPORT = ReloadReport(id="1", outcome=Outcome.COMMITTED, modules=())


class Parts:
    """A scheduler whose reloads begin when they may and end when they are told to."""

    def __init__(self, ties=(), uses=None):
        self.uses = uses or {}
        self.ties = [frozenset(tie) for tie in ties]
        self.ties += [frozenset({user, *used}) for user, used in self.uses.items()]
        self.began = []
        self.chains = []
        self.ends = {}
        ids = (f"r{number}" for number in itertools.count(1))
        self.scheduler = ReloadScheduler(
            self.run,
            self.tied_to,
            uses=lambda name: self.uses.get(name, ()),
            next_id=lambda: next(ids),
        )

    def tied_to(self, names):
        return names.union(*(tie for tie in self.ties if tie & names))

    async def run(self, request):
        name = "+".join(sorted(request.targets))
        self.began.append(name)
        self.chains.append(live_chain())
        self.ends[name] = asyncio.get_running_loop().create_future()
        return await self.ends[name]

    def submit(self, *names, when_busy="queue"):
        targets = {name: Target() for name in names}
        return self.scheduler.submit(Request(targets, when_busy=when_busy))

    async def end(self, name, report=REPORT):
        self.ends[name].set_result(report)
        await turns()


async def test_a_request_begins_at_once_and_its_ticket_gives_the_report():
    parts = Parts()
    ticket = parts.submit("a")
    await turns()
    assert parts.began == ["a"]
    assert not ticket.done
    assert (parts.scheduler.running, parts.scheduler.waiting) == (1, 0)
    await parts.end("a")
    assert ticket.done
    assert await ticket is REPORT
    assert parts.scheduler.running == 0


async def test_a_request_object_gets_the_ticket_that_is_returned():
    parts = Parts()
    request = Request({"a": Target()})
    assert parts.scheduler.submit(request) is request.ticket
    assert request.ticket.modules == {"a"}
    await turns()
    await parts.end("a")


async def test_modules_with_no_tie_reload_together():
    parts = Parts()
    parts.submit("a")
    parts.submit("b")
    await turns()
    assert parts.began == ["a", "b"]
    await parts.end("a")
    await parts.end("b")


async def test_requests_for_the_same_module_run_one_after_the_other():
    parts = Parts()
    tickets = [parts.submit("a"), parts.submit("a", "b"), parts.submit("b")]
    await turns()
    assert parts.began == ["a"]
    assert parts.scheduler.waiting == 2
    await parts.end("a")
    assert parts.began == ["a", "a+b"]
    await parts.end("a+b")
    assert parts.began == ["a", "a+b", "b"]
    await parts.end("b")
    assert [ticket.done for ticket in tickets] == [True] * 3


@pytest.mark.parametrize(("first", "then"), [("api", "ledger"), ("ledger", "api")])
async def test_modules_that_use_one_another_run_one_after_the_other(first, then):
    parts = Parts([("api", "ledger")])
    parts.submit(first)
    parts.submit(then)
    await turns()
    assert parts.began == [first]
    await parts.end(first)
    assert parts.began == [first, then]
    await parts.end(then)


async def test_two_modules_used_by_a_third_reload_together():
    parts = Parts([("api", "a"), ("api", "b")])
    parts.ties = [frozenset({"api", "a"}), frozenset({"api", "b"})]
    parts.submit("a")
    parts.submit("b")
    await turns()
    assert parts.began == ["a", "b"]
    await parts.end("a")
    await parts.end("b")


async def test_a_request_tied_to_one_that_waits_does_not_overtake_it():
    """x waits for y; z uses x, so it has to wait for x though nothing that runs is tied to it."""
    parts = Parts([("x", "y"), ("x", "z")])
    parts.submit("y")
    parts.submit("x")
    parts.submit("z")
    await turns()
    assert parts.began == ["y"]
    await parts.end("y")
    assert parts.began == ["y", "x"]
    await parts.end("x")
    assert parts.began == ["y", "x", "z"]
    await parts.end("z")


async def test_what_is_free_overtakes_what_waits():
    parts = Parts()
    parts.submit("a")
    parts.submit("a")
    parts.submit("b")
    await turns()
    assert parts.began == ["a", "b"]
    await parts.end("a")
    await parts.end("b")
    await parts.end("a")


async def test_an_error_of_ours_reaches_whoever_awaits_and_frees_the_modules():
    parts = Parts()
    ticket = parts.submit("a")
    later = parts.submit("a")
    await turns()
    parts.ends["a"].set_exception(RuntimeError("ours"))
    with pytest.raises(RuntimeError, match="ours"):
        await ticket
    await turns()
    await parts.end("a")
    assert await later is REPORT


async def test_a_ticket_may_be_thrown_away_even_when_the_reload_fails():
    parts = Parts()
    parts.submit("a")
    await turns()
    parts.ends["a"].set_exception(RuntimeError("ours"))
    await turns()
    gc.collect()


async def test_a_caller_that_gives_up_cancels_neither_the_reload_nor_the_others():
    parts = Parts()
    ticket = parts.submit("a")

    async def wait():
        return await ticket

    first, second = start(wait()), start(wait())
    await turns()
    first.cancel()
    await turns()
    assert first.cancelled()
    await parts.end("a")
    assert await second is REPORT


async def test_stopping_answers_those_that_wait_and_lets_those_that_run_end():
    parts = Parts()
    runs, waits = parts.submit("a"), parts.submit("a")
    await turns()
    stopping = start(parts.scheduler.stop())
    await turns()
    with pytest.raises(HostStopped):
        await waits
    with pytest.raises(HostStopped):
        parts.submit("b")
    assert not stopping.done()
    await parts.end("a")
    await stopping
    assert await runs is REPORT
    assert parts.began == ["a"]


async def test_stopping_with_nothing_to_do_returns():
    await Parts().scheduler.stop()


async def test_a_reload_that_is_cancelled_tells_the_waiting_so_without_cancelling_them():
    parts = Parts()
    ticket = parts.submit("a")
    await turns()
    (task,) = parts.scheduler._tasks
    task.cancel()
    with pytest.raises(HostStopped):
        await ticket
    assert asyncio.current_task().cancelling() == 0


async def test_a_call_cannot_await_the_reload_of_a_module_that_it_runs_in():
    parts = Parts()

    async def upgrade():
        await parts.submit("ledger")

    with pytest.raises(SelfReload) as refused:
        await call(open_gate(upgrade=upgrade), "upgrade")
    assert refused.value.module == "ledger"
    assert "ledger.upgrade" in refused.value.found
    await turns()
    await parts.end("ledger")


async def test_a_call_cannot_await_it_when_its_chain_has_only_touched_the_module():
    parts = Parts()

    async def echo():
        pass

    ledger = open_gate("ledger", echo=echo)

    async def upgrade():
        await call(ledger, "echo")
        await parts.submit("ledger")

    with pytest.raises(SelfReload):
        await call(open_gate("api", upgrade=upgrade), "upgrade")
    await turns()
    await parts.end("ledger")


async def test_a_call_may_ask_for_its_own_reload_and_await_that_of_another_module():
    parts = Parts()
    own = []

    async def upgrade():
        own.append(parts.submit("ledger"))
        return await parts.submit("other")

    task = start(call(open_gate(upgrade=upgrade), "upgrade"))
    await turns()
    await parts.end("other")
    assert await task is REPORT
    await parts.end("ledger")
    assert await own[0] is REPORT


async def test_a_ticket_that_is_done_may_be_awaited_from_anywhere():
    ticket = Ticket(frozenset({"ledger"}))
    ticket.answer(REPORT)
    ticket.answer(REPORT)
    ticket.fail(ValueError("too late"))
    chain = Chain.of(Lane(Gate("ledger"), 1), "upgrade").begin()
    assert await ticket is REPORT
    chain.leave()


async def test_a_reload_asked_for_inside_a_call_is_no_part_of_that_calls_chain():
    parts = Parts()
    go = asyncio.Event()

    async def upgrade():
        parts.submit("other")
        await go.wait()

    task = start(call(open_gate(upgrade=upgrade), "upgrade"))
    await turns()
    assert parts.chains == [None]
    await parts.end("other")
    go.set()
    await task


async def test_a_reload_may_ask_for_another_one():
    parts = Parts()

    async def run(request):
        parts.began.append(sorted(request.targets))
        if len(parts.began) == 1:
            parts.submit("a")
        return REPORT

    parts.scheduler._run = run
    await parts.submit("a")
    await turns()
    assert parts.began == [["a"], ["a"]]
    assert parts.scheduler.running == parts.scheduler.waiting == 0


async def test_a_hundred_requests_in_any_mixture_are_all_answered_and_never_overlap():
    active, overlaps, order = set(), [], []

    async def run(request):
        names = frozenset(request.targets)
        overlaps.extend(one for one in active if one & names)
        active.add(names)
        for _ in range(3):
            await asyncio.sleep(0)
        active.discard(names)
        order.append(request)
        return REPORT

    scheduler = ReloadScheduler(run, lambda names: names)
    requests = [Request({f"m{n % 7}": Target(), f"m{n % 5}": Target()}) for n in range(100)]
    for request in requests:
        scheduler.submit(request)
    for request in requests:
        assert await request.ticket is REPORT
    assert overlaps == []
    for earlier, later in ((a, b) for n, a in enumerate(requests) for b in requests[n + 1 :]):
        if earlier.targets.keys() & later.targets.keys():
            assert order.index(earlier) < order.index(later)
