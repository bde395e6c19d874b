"""The collector is held still, and always let go."""

import collections
import gc
import types

import pytest

from replank.errors import MigrationError
from replank.memory import resident_bytes
from replank.state import collector
from replank.state.collector import (
    CollectorGuard,
    release_in_slices,
    shared_heap,
)
from replank.state.slices import run_all

GC_CALLS = ("freeze", "unfreeze", "disable", "enable")


@pytest.fixture(autouse=True)
def collector_as_before():
    by_python = collector._FROZEN_BY_PYTHON_MAX
    enabled, frozen = gc.isenabled(), gc.get_freeze_count() > by_python
    yield
    assert gc.isenabled() == enabled
    assert (gc.get_freeze_count() > by_python) == frozen


def test_the_collector_is_off_inside_and_on_again_after():
    with CollectorGuard():
        assert not gc.isenabled()
        assert gc.get_freeze_count() > 0
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


def test_a_closed_guard_freezes_nothing_more():
    guard = CollectorGuard()
    with guard:
        pass
    for _ in range(collector.LOOK_EVERY + 1):
        guard.breathe()
    assert gc.get_freeze_count() == 0


def test_the_collector_comes_back_when_the_reload_fails():
    with pytest.raises(ValueError, match="x"), CollectorGuard():
        raise ValueError("x")

    assert gc.isenabled()


def test_overlapping_guards_restore_with_the_last():
    first, second = CollectorGuard(), CollectorGuard()
    first.__enter__()
    second.__enter__()
    first.close()
    first.close()
    assert not gc.isenabled()
    second.close()

    assert gc.isenabled()


def test_a_collector_that_the_program_turned_off_stays_off():
    gc.disable()
    try:
        with CollectorGuard():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_what_the_program_froze_itself_stays_frozen():
    gc.freeze()
    try:
        with CollectorGuard():
            pass
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()


def test_young_garbage_is_collected_by_hand():
    class Cycle:
        pass

    with CollectorGuard() as guard:
        cycle = Cycle()
        cycle.me = cycle
        del cycle
        guard.breathe()
        assert not [thing for thing in gc.get_objects() if type(thing) is Cycle]


def test_growth_beyond_the_limit_ends_the_reload(monkeypatch):
    sizes = iter([1000, 3000, 9000])
    monkeypatch.setattr(collector, "resident_bytes", lambda: next(sizes))
    with CollectorGuard(growth_max_bytes=5000) as guard:
        guard.breathe()
        assert guard.growth_bytes == 2000
        for _ in range(collector.LOOK_EVERY - 1):
            guard.breathe()
        with pytest.raises(MigrationError, match="more memory"):
            guard.breathe()


def test_memory_in_use_is_known():
    assert resident_bytes() > 1_000_000


def test_containers_are_emptied_a_little_at_a_time_but_not_what_is_in_them():
    inner = [1, 2]
    containers = [dict.fromkeys(range(100)), {1, 2}, [inner]]
    big = containers[0]

    steps = release_in_slices(containers, step=10)
    next(steps)

    run_all(steps)
    assert not big
    assert not containers
    assert inner == [1, 2]


def test_a_shared_heap_is_frozen_while_what_is_new_is_still_collected():
    before = gc.get_freeze_count()
    with shared_heap():
        assert gc.isenabled()
        assert gc.get_freeze_count() > before
    assert gc.get_freeze_count() == before


def test_a_guard_and_a_shared_heap_may_overlap_in_any_order():
    before = gc.get_freeze_count()
    heap, guard = shared_heap(), CollectorGuard()
    heap.__enter__()
    guard.__enter__()
    assert not gc.isenabled()
    heap.__exit__(None, None, None)
    assert not gc.isenabled()
    assert gc.get_freeze_count() > before
    guard.close()
    assert gc.isenabled()
    assert gc.get_freeze_count() == before
    guard, heap = CollectorGuard(), shared_heap()
    guard.__enter__()
    heap.__enter__()
    guard.close()
    assert gc.isenabled()
    assert gc.get_freeze_count() > before
    heap.__exit__(None, None, None)
    assert gc.get_freeze_count() == before


def test_a_shared_heap_is_thawed_when_the_work_fails():
    before = gc.get_freeze_count()
    with pytest.raises(ValueError, match="x"), shared_heap():
        raise ValueError("x")
    assert gc.get_freeze_count() == before


def test_what_was_made_under_a_guard_is_old_when_it_is_closed():
    guard = CollectorGuard()
    guard.__enter__()
    made = [[] for _ in range(5_000)]
    guard.close()
    assert made
    # As young objects they would start a collection that walks through all of them.
    assert not any(any(one is made for one in gc.get_objects(generation)) for generation in (0, 1))


@pytest.mark.parametrize(("frozen", "thawed"), [(0, 1), (375, 1), (50_000, 0)])
def test_what_python_itself_has_frozen_does_not_keep_our_own_frozen(monkeypatch, frozen, thawed):
    """Python 3.12 does so as it starts: garbage in circles was never collected after a reload."""
    calls = collections.Counter()
    fake = types.SimpleNamespace(
        get_freeze_count=lambda: frozen,
        isenabled=lambda: True,
        **{name: lambda name=name: calls.update([name]) for name in GC_CALLS},
    )
    monkeypatch.setattr(collector, "gc", fake)
    monkeypatch.setattr(collector, "_FROZEN_BY_PYTHON_MAX", 2_000)
    one = collector._Collector()
    one.hold()
    one.let_go()
    assert calls["freeze"] == (2 if thawed else 1)
    assert calls["unfreeze"] == thawed
