from __future__ import annotations

import asyncio

import pytest

from replank.errors import DefinitionError, PhaseTimeout
from replank.traffic.calls import live_chain
from replank.traffic.drain import Drain
from replank.traffic.gate import Gate
from replank.traffic.tasks import Tasks

from .parts import call, make_lane, open_gate, start, turns

OFTEN = 0.0005


class Parts:
    def __init__(self, **methods):
        self.failures = []
        self.gate = open_gate(**methods)
        self.tasks = Tasks(lambda name, error: self.failures.append((name, error)))
        self.tasks.adopt(self.gate.lane, methods)

    def take(self, generation, **methods):
        """Adopt a new generation."""
        lane = make_lane(self.gate, generation, **methods)
        self.tasks.adopt(lane, methods)
        return lane


class Ticks:
    """A method that counts, and says when it has been called often enough."""

    def __init__(self):
        self.count = 0
        self._wanted = {}

    async def __call__(self):
        self.count += 1
        for wanted, event in self._wanted.items():
            if self.count >= wanted:
                event.set()

    async def more(self, count):
        event = self._wanted.setdefault(self.count + count, asyncio.Event())
        async with asyncio.timeout(20):
            await event.wait()


def ticking():
    ticks = Ticks()

    async def tick():
        await ticks()

    return ticks, tick


async def test_a_timer_runs_again_and_again_and_counts_as_a_call():
    ticks, tick = ticking()
    parts = Parts(tick=tick)
    parts.tasks.start({"tick": OFTEN})
    await ticks.more(3)
    assert parts.gate.calls >= 3
    assert await parts.tasks.stop() == ()
    assert parts.tasks.running == 0
    count = ticks.count
    await turns()
    assert ticks.count == count


async def test_a_sync_method_may_be_a_timer_too():
    done = asyncio.Event()
    parts = Parts(tick=done.set)
    parts.tasks.start({"tick": OFTEN})
    await done.wait()
    await parts.tasks.stop()


@pytest.mark.parametrize("raised", [ValueError("no"), asyncio.CancelledError()])
async def test_a_timer_that_raises_is_told_and_goes_on(raised):
    ticks = Ticks()

    async def tick():
        await ticks()
        raise raised

    parts = Parts(tick=tick)
    parts.tasks.start({"tick": OFTEN})
    await ticks.more(3)
    await parts.tasks.stop()
    assert len(parts.failures) >= 2
    assert parts.failures[0] == ("@every tick", raised)


async def test_a_timer_waits_at_a_closed_gate():
    ticks, tick = ticking()
    parts = Parts(tick=tick)
    drain = Drain([parts.gate])
    drain.close()
    await drain.wait(5, {})
    parts.tasks.start({"tick": OFTEN})
    reached = asyncio.Event()
    asyncio.get_running_loop().call_later(4 * OFTEN, reached.set)
    await reached.wait()
    assert ticks.count == 0
    drain.reopen()
    await ticks.more(1)
    await parts.tasks.stop()


async def test_a_timer_that_a_drain_cancels_goes_on_when_the_old_generation_serves_on():
    """The reload is rolled back before the tasks are handed over: nothing restarts them."""
    reached, ticks = asyncio.Event(), Ticks()
    slow = True

    async def tick():
        await ticks()
        if slow:
            reached.set()
            await asyncio.Event().wait()

    parts = Parts(tick=tick)
    parts.tasks.start({"tick": OFTEN})
    await reached.wait()
    drain = Drain([parts.gate])
    drain.close()
    await drain.wait(0.001, {"ledger": "cancel"})
    slow = False
    drain.reopen()
    await ticks.more(2)
    assert [name for name, _ in parts.failures] == ["@every tick"]
    await parts.tasks.stop()


async def test_a_timer_that_swallows_its_cancellation_does_not_go_on_beside_its_successor():
    reached, ticks = asyncio.Event(), Ticks()

    async def tick():
        await ticks()
        reached.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return

    parts = Parts(tick=tick)
    parts.tasks.start({"tick": OFTEN})
    await reached.wait()
    (task,) = parts.tasks._running
    await parts.tasks.stop()
    assert task.done()
    assert ticks.count == 1


async def test_a_timer_keeps_its_time_table_through_a_reload():
    parts = Parts(tick=ticking()[1])
    parts.tasks.start({"tick": 3600.0})
    due = parts.tasks._timers["tick"].due_at
    await parts.tasks.stop()
    parts.take(2, tick=ticking()[1])
    parts.tasks.start({"tick": 3600.0})
    assert parts.tasks._timers["tick"].due_at == due
    await parts.tasks.stop()
    parts.tasks.start({"tick": 60.0})
    assert parts.tasks._timers["tick"].due_at < due
    await parts.tasks.stop()


async def test_a_spawned_method_goes_on_once_in_the_next_generation():
    ran = []

    def pump_of(generation):
        async def pump():
            ran.append(generation)
            await asyncio.Event().wait()

        return pump

    parts = Parts(pump=pump_of(1))
    parts.tasks.spawn(parts.tasks._methods["pump"]())
    await turns()
    resume = await parts.tasks.stop()
    assert resume == ("pump",)
    parts.take(2, pump=pump_of(2))
    parts.tasks.start({}, resume)
    await turns()
    assert ran == [1, 2]
    assert parts.tasks.running == 1
    await parts.tasks.stop()


async def test_what_on_start_has_spawned_already_is_not_spawned_twice():
    ran = []

    async def pump():
        ran.append(1)
        await asyncio.Event().wait()

    parts = Parts(pump=pump)
    parts.tasks.spawn(pump())
    parts.tasks.start({}, ("pump",))
    await turns()
    assert ran == [1]
    await parts.tasks.stop()


async def test_a_task_that_has_ended_is_not_started_again():
    async def once():
        pass

    parts = Parts(once=once)
    await parts.tasks.spawn(once())
    assert await parts.tasks.stop() == ()


async def test_a_task_with_arguments_is_stopped_and_not_resumed():
    async def pump(source):
        await asyncio.Event().wait()

    parts = Parts(pump=pump)
    parts.tasks.spawn(pump("x"))
    await turns()
    assert await parts.tasks.stop() == ()


async def with_argument(needed):
    pass


def no_longer_async():
    pass


def raising():
    raise ValueError("no")


@pytest.mark.parametrize("successor", [with_argument, no_longer_async, raising])
async def test_a_method_that_cannot_go_on_is_told_and_never_stops_the_commit(successor):
    parts = Parts()
    parts.take(2, pump=successor)
    parts.tasks.start({}, ("pump", "gone"))
    ((name, error),) = parts.failures
    assert name == "task pump"
    assert isinstance(error, DefinitionError | ValueError)
    assert parts.tasks.running == 0


async def test_a_task_that_raises_is_told():
    async def failing():
        raise ValueError("no")

    parts = Parts(failing=failing)
    task = parts.tasks.spawn(failing())
    await asyncio.wait([task])
    await turns()
    ((name, error),) = parts.failures
    assert name == "task failing"
    assert str(error) == "no"
    assert parts.tasks.running == 0


async def test_a_task_that_does_not_end_when_it_is_stopped_is_told(monkeypatch):
    monkeypatch.setattr("replank.traffic.tasks._STOP_GRACE_S", 0.001)
    go = asyncio.Event()

    async def stubborn():
        while not go.is_set():
            try:
                await go.wait()
            except asyncio.CancelledError:
                continue

    parts = Parts(stubborn=stubborn)
    task = parts.tasks.spawn(stubborn())
    await turns()
    await parts.tasks.stop()
    ((name, error),) = parts.failures
    assert name == "task stubborn"
    assert isinstance(error, PhaseTimeout)
    go.set()
    await task


async def test_a_spawned_task_is_no_part_of_the_call_that_spawned_it():
    parts = Parts()
    seen = []

    async def pump():
        seen.append(live_chain())

    async def outer():
        assert live_chain() is not None
        await parts.tasks.spawn(pump())

    gate = Gate("outer")
    gate.first_open(make_lane(gate, 1, outer=outer))
    await call(gate, "outer")
    assert seen == [None]
    assert live_chain() is None


async def test_a_timer_in_flight_is_waited_for_by_a_drain():
    go, reached = asyncio.Event(), asyncio.Event()

    async def tick():
        reached.set()
        await go.wait()

    parts = Parts(tick=tick)
    parts.tasks.start({"tick": OFTEN})
    await reached.wait()
    drain = Drain([parts.gate])
    drain.close()
    waiting = start(drain.wait(20, {}))
    await turns()
    assert not waiting.done()
    go.set()
    await waiting
    await parts.tasks.stop()
