from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from replank.errors import UsageError
from replank.scheduling.moments import next_of_cron, read_duration, read_moment, said

NOW = datetime(2026, 1, 5, 12, 0, tzinfo=UTC).timestamp()  # a Monday
BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("10m", 600), ("1h30m", 5400), ("2d", 172800), ("1.5 h", 5400), ("5s", 5)],
)
def test_lengths_of_time_are_read_as_people_write_them(text, seconds):
    assert read_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "10 minutes", "-5", "1h30x"])
def test_what_is_no_length_of_time_is_refused(text):
    with pytest.raises(UsageError, match="no length of time"):
        read_duration(text)


@pytest.mark.parametrize(
    ("given", "zone", "expected"),
    [
        ("22:30", UTC, "2026-01-05T22:30:00+00:00"),
        ("06:00", UTC, "2026-01-06T06:00:00+00:00"),
        ("22:30", BERLIN, "2026-01-05T21:30:00+00:00"),
        ("2026-02-01T03:00", BERLIN, "2026-02-01T02:00:00+00:00"),
        ("2026-02-01T03:00+05:00", BERLIN, "2026-01-31T22:00:00+00:00"),
        (datetime(2026, 2, 1, 3, 0), UTC, "2026-02-01T03:00:00+00:00"),  # noqa: DTZ001 - a user's
    ],
)
def test_a_moment_is_read_in_its_zone(given, zone, expected):
    assert read_moment(given, NOW, zone) == datetime.fromisoformat(expected).timestamp()


def test_a_moment_that_is_past_is_refused():
    with pytest.raises(UsageError, match="past"):
        read_moment("2026-01-01T00:00", NOW, UTC)


@pytest.mark.parametrize("text", ["tomorrow", "25:00", "2026-13-01"])
def test_what_is_no_moment_is_refused(text):
    with pytest.raises(UsageError, match="is no time"):
        read_moment(text, NOW, UTC)


@pytest.mark.parametrize(
    ("line", "zone", "expected"),
    [
        ("0 3 * * *", UTC, "2026-01-06T03:00:00+00:00"),
        ("0 3 * * *", BERLIN, "2026-01-06T02:00:00+00:00"),
        ("*/15 * * * mon-fri", UTC, "2026-01-05T12:15:00+00:00"),
        ("0 0 1 * *", UTC, "2026-02-01T00:00:00+00:00"),
    ],
)
def test_the_next_moment_of_a_cron_line(line, zone, expected):
    assert next_of_cron(line, NOW, zone) == datetime.fromisoformat(expected).timestamp()


@pytest.mark.parametrize(
    "line", ["", "0 3 * *", "0 0 3 * * *", "61 * * * *", "@daily", "0 0 31 2 *"]
)
def test_what_is_no_cron_line_is_refused_with_an_example(line):
    with pytest.raises(UsageError, match="cron line"):
        next_of_cron(line, NOW, UTC)


def test_a_moment_is_said_in_its_zone():
    assert said(NOW, BERLIN) == "2026-01-05 13:00:00 CET"
