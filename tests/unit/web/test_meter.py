from replank.web.meter import TICK_S, TICKS_MAX, Meter


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def test_calls_of_one_tick_are_counted_together():
    clock = Clock()
    meter = Meter(clock)
    for seconds in (0.001, 0.001, 0.002, 0.5):
        meter.note(seconds, 200)
    meter.note(0.001, 500)
    (tick,) = meter.after(0)
    assert (tick.calls, tick.failed, tick.longest_s) == (5, 1, 0.5)
    assert 0.001 <= tick.typical_s <= 0.00125
    assert tick.number == int(1000.0 / TICK_S)


def test_a_reader_gets_only_what_came_after_what_it_knows():
    clock = Clock()
    meter = Meter(clock)
    meter.note(0.001, 200)
    clock.now += TICK_S
    meter.note(0.001, 404)
    first, second = meter.after(0)
    assert second.failed == 0
    assert meter.after(first.number) == (second,)
    assert meter.after(second.number) == ()
    assert meter.now() == second.number


def test_the_typical_call_is_never_longer_than_the_longest():
    meter = Meter(Clock())
    meter.note(0.0000001, 200)
    meter.note(500.0, 200)
    (tick,) = meter.after(0)
    assert tick.typical_s <= tick.longest_s == 500.0
    lone = Meter(Clock())
    lone.note(500.0, 200)
    assert lone.after(0)[0].typical_s <= 500.0


def test_what_is_kept_does_not_grow_with_time():
    clock = Clock()
    meter = Meter(clock)
    for _ in range(TICKS_MAX + 50):
        clock.now += TICK_S
        meter.note(0.001, 200)
    assert len(meter.after(0)) == TICKS_MAX


def test_a_clock_set_back_loses_no_call():
    clock = Clock()
    meter = Meter(clock)
    meter.note(0.001, 200)
    clock.now -= 60
    meter.note(0.001, 200)
    (tick,) = meter.after(0)
    assert tick.calls == 2
