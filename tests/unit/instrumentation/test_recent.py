import asyncio
import gc
import tracemalloc

import msgspec
import pytest

from replank.instrumentation.events import (
    AnyEvent,
    MessageFailed,
    PhaseEnded,
    PhaseStarted,
    ReloadEnded,
    ReloadStarted,
    Warned,
)
from replank.instrumentation.recent import Overtaken, RecentEvents
from replank.instrumentation.tally import Tally
from replank.report import ErrorReport, ModuleReport, Outcome, Phase, ReloadReport

DAY_S = 86_400


def texts(kept):
    return [msgspec.json.decode(one.data, type=AnyEvent).text for one in kept]


def test_the_last_events_are_kept_with_their_numbers():
    recent = RecentEvents(3)
    assert (recent.oldest, recent.last) == (1, 0)
    for text in "abcde":
        recent.note(Warned(text=text))
    assert (recent.oldest, recent.last) == (3, 5)
    assert texts(recent.after(0)) == ["c", "d", "e"]
    assert texts(recent.after(4)) == ["e"]
    assert texts(recent.after(5)) == []


def test_long_events_are_bounded_by_their_bytes_and_the_newest_is_always_kept():
    recent = RecentEvents(1000, bytes_max=10_000)
    for _ in range(50):
        recent.note(Warned(text="x" * 3_000))
    assert recent.kept_bytes <= 10_000
    assert len(list(recent.after(0))) == 3
    recent.note(Warned(text="y" * 50_000))
    assert texts(recent.after(0)) == ["y" * 50_000]
    assert recent.kept_bytes > 50_000


def test_an_event_that_has_no_json_form_is_told_as_such():
    recent = RecentEvents(3)
    recent.note(Warned(text="\ud800"))
    assert "Warned cannot be written" in texts(recent.after(0))[0]


async def test_a_reader_goes_on_from_its_place_and_waits_for_news():
    recent = RecentEvents(10)
    recent.note(Warned(text="a"))
    recent.note(Warned(text="b"))
    with recent.reader(1) as reader:
        assert texts([reader.next()]) == ["b"]
        assert reader.next() is None
        waiting = asyncio.ensure_future(reader.wait(60))
        await asyncio.sleep(0)
        assert not waiting.done()
        recent.note(Warned(text="c"))
        assert await waiting
        assert texts([reader.next()]) == ["c"]
        assert not await reader.wait(0)
        recent.close()
        assert await reader.wait(60)
        assert reader.ended
    assert not recent._readers


async def test_a_reader_that_is_overtaken_learns_how_much_it_missed():
    recent = RecentEvents(2)
    with recent.reader(0) as reader:
        for text in "abcde":
            recent.note(Warned(text=text))
        with pytest.raises(Overtaken) as caught:
            reader.next()
    assert caught.value.missed == 3


def day(step_s=60):
    """What a busy host says in 24 hours: a reload each minute, many of them failing, and more."""
    error = ErrorReport(
        phase="verify", module="ledger", kind="CheckError", message="no", traceback="x" * 500
    )
    for second in range(0, DAY_S, step_s):
        tx, at = f"r{second}", float(second)
        yield ReloadStarted(id=tx, modules=("ledger",), reason="watch", at=at)
        for phase in Phase:
            yield PhaseStarted(id=tx, phase=phase, at=at)
            yield PhaseEnded(id=tx, phase=phase, seconds=0.001 * (second % 7), at=at)
        failed = second % 180 == 0
        outcome = Outcome.ROLLED_BACK if failed else Outcome.COMMITTED
        report = ReloadReport(
            id=tx,
            outcome=outcome,
            modules=(ModuleReport(name="ledger"),),
            error=error if failed else None,
            pause_s=0.002,
        )
        yield ReloadEnded(id=tx, report=report, at=at)
        for place in range(6):
            yield MessageFailed(module="ledger", call=f"c{place}", error=error, at=at)


async def test_a_day_of_events_takes_no_more_memory_than_its_first_hour():
    recent, tally = RecentEvents(1_000), Tally()
    with recent.reader(0) as slow, recent.reader(0) as fast:
        events = iter(day())
        for _, event in zip(range(1_500), events, strict=False):
            recent.note(event)
            tally.note(event)
            fast.next()
        gc.collect()
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            for event in events:
                recent.note(event)
                tally.note(event)
                fast.next()
            del event
            gc.collect()
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert recent.last == 1_440 * 24
        assert sum(tally.reloads.values()) == 1_440
        # What was kept before tracing began is not counted before, and is replaced since.
        assert after - before <= recent.kept_bytes + 1_000 * 400
        assert len(list(recent.after(0))) == 1_000
        assert fast.next() is None
        with pytest.raises(Overtaken):
            slow.next()
