"""The table of policies and situations: which request goes when, under a clock that stands still."""

from __future__ import annotations

import asyncio

import pytest

from replank.config import Config, ModuleConfig
from replank.errors import HostStopped, Overloaded, SelfReload, UsageError
from replank.instrumentation.events import Bus, ReloadDeferred
from replank.report import ErrorReport, ModuleReport, Outcome, Phase, ReloadReport
from replank.scheduling.agenda import Agenda
from replank.scheduling.entries import Wishes
from replank.scheduling.policies import Policies, backoff_s, worth_retrying
from replank.scheduling.scheduler import ReloadScheduler, Request, Target
from replank.settings import ScheduleConfig
from replank.testing.clock import FakeClock, settle
from tests.unit.traffic.parts import call, open_gate, turns

MONDAY_NOON = "2026-01-05T12:00:00+00:00"


def report(kind=None, phase="drain", outcome=Outcome.ROLLED_BACK, names=("a",)):
    error = ErrorReport(phase=phase, module="a", kind=kind, message="m") if kind else None
    return ReloadReport(
        id="r1",
        outcome=outcome if kind else Outcome.COMMITTED,
        modules=tuple(ModuleReport(name=name) for name in names),
        error=error,
    )


class Desk:
    """An agenda whose reloads end at once, each as told, and which writes down when they began."""

    def __init__(self, ties=(), modules=None, start=MONDAY_NOON, **schedule):
        self.clock = FakeClock(start)
        self.ties = [frozenset(tie) for tie in ties]
        self.began = []
        self.outcomes = []
        self.traffic = {}
        self.deferred = []
        self.hold = None
        bus = Bus()
        bus.subscribe(self.deferred.append)
        config = Config(schedule=ScheduleConfig(**schedule), modules=modules or {})
        self.policies = Policies(config, lambda name: self.traffic.get(name, 0))
        scheduler = ReloadScheduler(self.run, self.tied_to)
        self.agenda = Agenda(scheduler, self.policies, self.tied_to, self.clock, bus)

    def tied_to(self, names):
        return names.union(*(tie for tie in self.ties if tie & names))

    async def run(self, request):
        sources = [str(one.source) for one in request.targets.values() if one.source]
        self.began.append((self.passed(), "+".join(sorted(request.targets)), *sources))
        if self.hold is not None:
            await self.hold.wait()
        return self.outcomes.pop(0) if self.outcomes else report()

    def passed(self):
        return round(self.clock.now() - FakeClock(MONDAY_NOON).now())

    def ask(self, *names, source=None, reason="call", after_s=None, allow=(), **wishes):
        targets = {name: Target(source) for name in names}
        due = None if after_s is None else self.clock.now() + after_s
        request = Request(targets, reason, allow_breaking=frozenset(allow))
        return self.agenda.submit(request, Wishes(due=due, **wishes))

    async def times(self, seconds):
        await self.clock.advance(seconds)
        return [began[0] for began in self.began]


H = 3600
SITUATIONS = {
    "nothing stands in the way": {},
    "its time is in an hour": {"after_s": H},
    "paused": {"paused": True},
    "quiet hours until 17:00": {"schedule": {"quiet_hours": ("09:00-17:00",)}},
    "the window opens at 22:00": {"schedule": {"windows": ("22:00-06:00",)}},
    "one an hour is the limit": {"schedule": {"rate_limit": 1}, "begun": 1},
    "requests are gathered for 10 s": {"schedule": {"debounce_s": 10.0}},
    "busy, quiet traffic is configured": {"schedule": {"quiet_calls_per_s": 5.0}, "busy": True},
    "busy, it asks for quiet traffic": {"wishes": {"quiet_wait_s": 60.0}, "busy": True},
}
NEVER = None
# situation: seconds after which it begins, for low, normal, high and critical
TABLE = {
    "nothing stands in the way": (0, 0, 0, 0),
    "its time is in an hour": (H, H, H, H),
    "paused": (NEVER, NEVER, NEVER, 0),
    "quiet hours until 17:00": (5 * H, 5 * H, 5 * H, 0),
    "the window opens at 22:00": (10 * H, 10 * H, 10 * H, 0),
    "one an hour is the limit": (H, H, 0, 0),
    "requests are gathered for 10 s": (10, 10, 0, 0),
    "busy, quiet traffic is configured": (600, 600, 0, 0),
    "busy, it asks for quiet traffic": (60, 60, 60, 0),
}


@pytest.mark.parametrize("rank", range(4), ids=["low", "normal", "high", "critical"])
@pytest.mark.parametrize("situation", SITUATIONS)
async def test_each_policy_holds_for_the_priorities_in_the_table(situation, rank):
    given = SITUATIONS[situation]
    desk = Desk(**given.get("schedule", {}))
    for _ in range(given.get("begun", 0)):
        desk.policies.begin(frozenset("a"), desk.clock.now())
    if given.get("paused"):
        desk.agenda.pause()
    busy = given.get("busy", False)
    priority = ("low", "normal", "high", "critical")[rank]
    ticket = desk.ask(
        "a", after_s=given.get("after_s"), priority=priority, **given.get("wishes", {})
    )
    expected = TABLE[situation][rank]
    await settle()
    assert bool(desk.began) == (expected == 0)
    if not desk.began:
        (entry,) = desk.agenda.waiting()
        assert entry.why
        assert desk.deferred[0].why == entry.why
    for _ in range(700 if busy else 0):
        desk.traffic["a"] = desk.traffic.get("a", 0) + 50
        await desk.clock.advance(1)
    found = await desk.times(24 * H)
    assert found == ([] if expected is NEVER else [expected])
    assert ticket.done == (expected is not NEVER)
    await desk.agenda.stop()


async def test_traffic_that_falls_quiet_lets_the_request_go_before_the_limit():
    desk = Desk(quiet_calls_per_s=5.0)
    ticket = desk.ask("a")
    for second in range(40):
        desk.traffic["a"] = desk.traffic.get("a", 0) + (50 if second < 20 else 1)
        await desk.clock.advance(1)
    assert (await ticket).committed
    assert 20 <= desk.began[0][0] <= 23


async def test_requests_of_tied_modules_in_the_debounce_window_become_one_transaction():
    desk = Desk(ties=[("a", "b")], debounce_s=10.0)
    tickets = [desk.ask("a")]
    await desk.clock.advance(6)
    tickets += [desk.ask("b"), desk.ask("c")]
    await desk.clock.advance(60)
    assert desk.began == [(10, "a+b"), (16, "c")]
    assert [await one for one in tickets] == [report()] * 3


async def test_a_call_that_awaits_a_request_is_told_when_its_own_module_joins_that_reload():
    """Found by seed 2345 of the simulation: the joined reload would wait for the call, and it for it."""
    desk = Desk(ties=[("a", "b")], debounce_s=1.0)
    desk.hold = asyncio.Event()

    async def upgrade():
        await desk.ask("b")

    asked = asyncio.create_task(call(open_gate("a", upgrade=upgrade), "upgrade"))
    await turns()
    own = desk.ask("a")
    await desk.clock.advance(5)
    assert desk.began == [(1, "a+b")]
    with pytest.raises(SelfReload) as refused:
        await asked
    assert refused.value.module == "a"
    desk.hold.set()
    assert await own == report()


async def test_a_stream_of_saves_does_not_put_the_reload_off_for_ever():
    desk = Desk(debounce_s=10.0)
    for _ in range(8):
        desk.ask("a")
        await desk.clock.advance(3)
    assert [began[0] for began in desk.began] == [10, 22]


async def test_a_permission_to_break_is_not_lent_to_others_of_the_batch():
    desk = Desk(ties=[("a", "b")], debounce_s=1.0)
    desk.ask("a", allow=["*"])
    desk.ask("b")
    await desk.clock.advance(5)
    assert sorted(began[1] for began in desk.began) == ["a", "b"]


async def test_two_cron_lines_of_tied_modules_become_one_transaction():
    desk = Desk(ties=[("a", "b")])
    night = desk.clock.now() + 15 * H
    for name in ("a", "b"):
        wishes = Wishes(due=night, cron="0 3 * * *")
        desk.agenda.add(Request({name: Target()}, "cron"), wishes, durable=True)
    await desk.clock.advance(48 * H)
    assert desk.began == [(15 * H, "a+b"), (39 * H, "a+b")]
    assert [one.runs for one in desk.agenda.waiting()] == [2, 2]
    await desk.agenda.stop()


async def test_the_newest_source_wins_and_the_older_request_is_answered_by_it():
    desk = Desk(windows=("22:00-06:00",))
    older = desk.ask("a", source="v2.py", priority="high")
    newer = desk.ask("a", source="v3.py")
    (waiting,) = desk.agenda.waiting()
    assert waiting.wishes.priority == "high"
    await desk.clock.advance(11 * H)
    assert desk.began == [(10 * H, "a", "v3.py")]
    assert await older is await newer


async def test_a_request_for_another_time_is_not_superseded():
    desk = Desk()
    desk.ask("a", source="night.py", after_s=H)
    desk.ask("a", source="now.py")
    await desk.clock.advance(2 * H)
    assert desk.began == [(0, "a", "now.py"), (H, "a", "night.py")]


async def test_a_newer_request_ends_the_retries_of_an_older_one():
    desk = Desk(retries=5, retry_backoff_s=60.0)
    desk.outcomes = [report("PhaseTimeout")]
    older = desk.ask("a", source="v2.py")
    await desk.clock.advance(10)
    newer = desk.ask("a", source="v3.py")
    await desk.clock.advance(H)
    assert [began[2] for began in desk.began] == ["v2.py", "v3.py"]
    assert await older is await newer


async def test_retries_wait_longer_each_time_up_to_a_limit_and_end():
    desk = Desk(retries=4, retry_backoff_s=10.0, retry_backoff_max_s=30.0)
    desk.outcomes = [report("PhaseTimeout") for _ in range(9)]
    ticket = desk.ask("a")
    assert await desk.times(H) == [0, 10, 30, 60, 90]
    assert (await ticket).outcome is Outcome.ROLLED_BACK


async def test_a_retry_that_commits_is_the_answer():
    desk = Desk()
    desk.outcomes = [report("JournalError", Phase.PREPARE, Outcome.REJECTED)]
    ticket = desk.ask("a", retries=1)
    assert await desk.times(H) == [0, 5]
    assert (await ticket).committed


@pytest.mark.parametrize(
    ("kind", "phase", "outcome", "worth"),
    [
        ("PhaseTimeout", "drain", Outcome.ROLLED_BACK, True),
        ("JournalError", "commit", Outcome.ROLLED_BACK, True),
        ("StoreError", "prepare", Outcome.REJECTED, True),
        ("SourceError", "prepare", Outcome.REJECTED, False),
        ("MigrationError", "migrate", Outcome.REJECTED, False),
        ("CheckError", "verify", Outcome.ROLLED_BACK, False),
        ("PhaseTimeout", "restore", Outcome.ROLLED_BACK, False),
    ],
)
async def test_only_what_is_not_the_candidates_fault_is_tried_again(kind, phase, outcome, worth):
    assert worth_retrying(report(kind, phase, outcome)) is worth
    desk = Desk(retries=1)
    desk.outcomes = [report(kind, phase, outcome)]
    desk.ask("a")
    await desk.clock.advance(H)
    assert len(desk.began) == (2 if worth else 1)


def test_the_back_off_never_overflows():
    assert backoff_s(10_000, 1.0, 300.0) == 300.0


async def test_the_rate_limit_is_per_module_and_slides():
    desk = Desk(rate_limit=2, rate_period_s=100.0)
    for wait in (0, 30, 10, 10):
        await desk.clock.advance(wait)
        desk.ask("a", source=f"at{wait}.py")
    desk.ask("b")
    await desk.clock.advance(500)
    assert [began[:2] for began in desk.began] == [(0, "a"), (30, "a"), (50, "b"), (100, "a")]


async def test_a_module_has_hours_and_limits_of_its_own():
    own = ModuleConfig(source="a.py", quiet_hours=("12:00-13:00",), windows=())
    desk = Desk(modules={"a": own}, windows=("22:00-06:00",))
    desk.ask("a")
    desk.ask("b")
    await desk.clock.advance(2 * H)
    desk.ask("a", "c")  # both have to agree
    await desk.clock.advance(24 * H)
    assert desk.began == [(H, "a"), (10 * H, "b"), (10 * H, "a+c")]


async def test_pausing_one_module_holds_its_requests_only():
    desk = Desk()
    desk.agenda.pause(["a"])
    held = desk.ask("a")
    desk.ask("b")
    await desk.clock.advance(H)
    assert [began[1] for began in desk.began] == ["b"]
    desk.agenda.resume(["a"])
    await settle()
    assert (await held).committed


async def test_a_cancelled_request_is_answered_and_never_done():
    desk = Desk()
    ticket = desk.ask("a", after_s=H)
    (entry,) = desk.agenda.waiting()
    assert desk.agenda.cancel(entry.id).standing == "cancelled"
    with pytest.raises(UsageError, match="was cancelled"):
        await ticket
    await desk.clock.advance(2 * H)
    assert desk.began == []
    with pytest.raises(UsageError, match="cannot be cancelled"):
        desk.agenda.cancel(entry.id)


async def test_a_request_that_runs_cannot_be_cancelled():
    desk = Desk()
    desk.hold = asyncio.Event()
    desk.ask("a")
    await settle()
    (entry,) = desk.agenda.waiting()
    with pytest.raises(UsageError, match="cannot be cancelled"):
        desk.agenda.cancel(entry.id)
    desk.hold.set()
    await settle()


async def test_those_of_higher_priority_begin_first_when_modules_are_busy():
    desk = Desk()
    desk.hold = asyncio.Event()
    desk.ask("a", source="first.py")
    await settle()
    for priority in ("low", "normal", "critical", "high"):
        desk.ask("a", source=f"{priority}.py", priority=priority)
    desk.hold.set()
    await settle()
    order = [began[2] for began in desk.began]
    assert order == ["first.py", "critical.py", "high.py", "normal.py", "low.py"]


async def test_too_many_waiting_requests_are_refused_and_none_is_lost():
    desk = Desk(max_waiting=3)
    tickets = [desk.ask(name, after_s=H) for name in "abc"]
    with pytest.raises(Overloaded, match="too many"):
        desk.ask("d")
    await desk.clock.advance(2 * H)
    assert all(ticket.done for ticket in tickets)
    desk.ask("d")
    await settle()
    assert desk.began[-1][1] == "d"


async def test_stopping_answers_whoever_waits():
    desk = Desk()
    ticket = desk.ask("a", after_s=H)
    await desk.agenda.stop()
    with pytest.raises(HostStopped):
        await ticket
    with pytest.raises(HostStopped):
        desk.ask("a")


async def test_a_follower_hears_once_a_minute_that_its_request_still_waits():
    desk = Desk(windows=("22:00-06:00",))
    heard = []
    request = Request({"a": Target()}, on_phase=heard.append)
    desk.agenda.submit(request)
    for _ in range(10):
        await desk.clock.advance(30)
        desk.agenda._news.set()
        await settle()
    assert 4 <= len([one for one in heard if isinstance(one, ReloadDeferred)]) <= 6
    assert len(desk.deferred) == 1
    await desk.agenda.stop()


@pytest.mark.parametrize("wrong", [{"priority": "urgent"}, {"quiet_wait_s": 0}, {"retries": -1}])
def test_wishes_that_mean_nothing_are_refused(wrong):
    with pytest.raises(UsageError):
        Wishes(**wrong)
