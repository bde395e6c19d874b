"""A day of requests, of every kind and every answer: the schedule remembers no more than before."""

import gc
import tracemalloc

from replank.report import Outcome
from tests.unit.scheduling.test_policies import Desk, report

ROUNDS = 24 * 4
"""One each quarter of an hour."""


async def test_a_day_of_requests_takes_no_more_memory_than_its_first_hour():
    desk = Desk(ties=["ab"], debounce_s=5.0, rate_limit=60, retries=1, retry_backoff_s=2.0)
    for cron, name in (("*/10 * * * *", "a"), ("*/15 * * * *", "b")):
        desk.ask(name, cron=cron)
    begun = 0

    async def quarter(number):
        nonlocal begun
        busy = report("PhaseTimeout", "drain", Outcome.ROLLED_BACK)
        desk.outcomes = [busy] if number % 5 == 0 else []
        desk.ask(f"m{number % 7}", after_s=10.0)
        desk.ask("c", priority="low")
        desk.ask("c")  # takes the place of the one before
        desk.ask("d", after_s=400.0)
        desk.agenda.cancel(next(e.id for e in desk.agenda.waiting() if "d" in e.request.targets))
        await desk.clock.advance(900)
        begun += len(desk.began)
        desk.began.clear()
        desk.deferred.clear()

    for number in range(4):
        await quarter(number)
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(4, ROUNDS):
            await quarter(number)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert begun > 2 * ROUNDS
    assert [entry.wishes.cron is not None for entry in desk.agenda.waiting()] == [True, True]
    assert len(desk.agenda.answered()) == 50
    # What was remembered before tracing began is not counted before, and is replaced since.
    assert after - before < 200_000, after - before
    await desk.agenda.stop()
