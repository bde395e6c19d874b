from __future__ import annotations

from datetime import UTC, datetime

import pytest

from replank.hours import Hours, parse_span


def moment(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


# 2026-01-05 is a Monday.
@pytest.mark.parametrize(
    ("windows", "quiet", "now", "opens"),
    [
        ((), (), "2026-01-05T12:00", "2026-01-05T12:00"),
        (("22:00-06:00",), (), "2026-01-05T12:00", "2026-01-05T22:00"),
        (("22:00-06:00",), (), "2026-01-05T23:30", "2026-01-05T23:30"),
        (("22:00-06:00",), (), "2026-01-05T05:59", "2026-01-05T05:59"),
        (("22:00-06:00",), (), "2026-01-05T06:00", "2026-01-05T22:00"),
        (("sat 02:00-04:00",), (), "2026-01-05T12:00", "2026-01-10T02:00"),
        (("fri 22:00-02:00",), (), "2026-01-10T01:00", "2026-01-10T01:00"),
        (("fri 22:00-02:00",), (), "2026-01-09T01:00", "2026-01-09T22:00"),
        ((), ("mon-fri 09:00-17:00",), "2026-01-05T12:00", "2026-01-05T17:00"),
        ((), ("mon-fri 09:00-17:00",), "2026-01-10T12:00", "2026-01-10T12:00"),
        ((), ("sat-mon 00:00-24:00",), "2026-01-10T12:00", "2026-01-13T00:00"),
        (("08:00-18:00",), ("09:00-17:00",), "2026-01-05T12:00", "2026-01-05T17:00"),
        (("08:00-18:00",), ("09:00-18:00",), "2026-01-05T12:00", "2026-01-06T08:00"),
    ],
)
def test_the_first_moment_at_which_it_may_be_done(windows, quiet, now, opens):
    assert Hours.parse(windows, quiet, "UTC").next_open(moment(now)) == moment(opens)


def test_hours_are_meant_in_their_zone_also_when_the_clock_is_changed():
    hours = Hours.parse(("03:30-04:00",), (), "Europe/Berlin")
    # The night of 29 March 2026 has no 02:00 to 03:00 in Berlin.
    assert hours.next_open(moment("2026-03-29T00:00")) == moment("2026-03-29T01:30")
    assert hours.next_open(moment("2026-03-28T00:00")) == moment("2026-03-28T02:30")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("22:00", "expected hours"),
        ("22-06", "expected hours"),
        ("25:00-26:00", "no time of day"),
        ("10:75-11:00", "no time of day"),
        ("10:00-10:00", "same time"),
        ("someday 10:00-11:00", "no day"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_reason(text, why):
    with pytest.raises(ValueError, match=why):
        parse_span(text)


def test_hours_that_never_open_are_refused():
    with pytest.raises(ValueError, match="nothing could ever be done"):
        Hours.parse(("mon 10:00-11:00",), ("mon 09:00-12:00",), "UTC")


def test_a_zone_that_nobody_knows_is_refused():
    with pytest.raises(ValueError, match="no time zone"):
        Hours.parse((), (), "Europe/Atlantis")
