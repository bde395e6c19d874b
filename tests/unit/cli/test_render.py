import datetime as dt
import io

import msgspec
import pytest
from rich.console import Console

from replank.cli import render, render_plan
from replank.cli.live import PhaseTrack, line_of, show_phases
from replank.control.locate import Contact
from replank.instrumentation.events import PhaseEnded, PhaseStarted, Warned
from replank.instrumentation.status import Gate, HostStatus, ModuleStatus
from replank.report import (
    ModulePlan,
    Outcome,
    Phase,
    PhaseOutcome,
    Plan,
)
from replank.report_state import BadRecordReport, StateCost
from tests.unit.control.fake_host import report


def text_of(renderable, *, width=80, terminal=False):
    console = Console(file=io.StringIO(), width=width, force_terminal=terminal, highlight=False)
    console.print(renderable, soft_wrap=True)
    return console.file.getvalue()


def test_a_report_opens_with_its_outcome_and_figures():
    first, second, *_ = text_of(render.render_report(report())).splitlines()
    assert first.rstrip() == "✔ committed  ledger 1.0 → 2.0"
    assert second.rstrip() == (
        "  pause 1.2 ms, total 45 ms, 4 waited, none lost, 3 records migrated"
    )


def test_undo_errors_warnings_and_the_candidates_traceback_are_shown():
    failed = report(Outcome.ROLLED_BACK)
    error = msgspec.structs.replace(
        failed.error, traceback='  File "ledger.py", line 12\n', undo_errors=("on_stop failed",)
    )
    failed = msgspec.structs.replace(failed, error=error, warnings=("slow drain",))
    text = text_of(render.render_report(failed))
    for part in (
        'File "ledger.py", line 12',
        "while undoing: on_stop failed",
        "warning: slow drain",
    ):
        assert part in text


def test_markup_in_messages_is_shown_as_it_is():
    failed = report(Outcome.REJECTED)
    error = msgspec.structs.replace(failed.error, message="[bold]x[/bold] [/oops]")
    text = text_of(render.render_report(msgspec.structs.replace(failed, error=error)))
    assert "[bold]x[/bold] [/oops]" in text


def test_history_in_80_columns_cuts_nothing_but_a_long_reason():
    long = report(Outcome.REJECTED)
    error = msgspec.structs.replace(long.error, message="why " * 60)
    lines = text_of(
        render.render_history([msgspec.structs.replace(long, error=error), report()])
    ).splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) <= 9
    assert lines[1].startswith("r7  01-02 03:04:05  rejected   ")
    assert lines[-1].startswith("r7  01-02 03:04:05  committed  ")
    assert "ledger 1.0 → 2.0" in lines[-1]
    assert "no reloads yet" in text_of(render.render_history([]))


def test_a_plan_that_would_be_rejected_says_why():
    module = ModulePlan(
        name="ledger",
        version_from="1.0",
        version_to="1.0",
        digest_from="a",
        digest_to="a",
        generation_from=1,
        schema_from=1,
        schema_to=1,
        unchanged=True,
    )
    plan = Plan(modules=(module,), accepted=False, error=report(Outcome.REJECTED).error)
    text = text_of(render_plan.render_plan(plan))
    assert "byte for byte" in text
    assert "would be rejected" in text
    assert "do: correct the migration" in text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0 ms"), (0.00034, "0.3 ms"), (0.0099, "9.9 ms"), (0.045, "45 ms"), (1.2, "1.20 s")],
)
def test_times_are_short(seconds, text):
    assert render.ms(seconds) == text


def test_ages_sizes_and_changes_are_short():
    now = dt.datetime(2026, 1, 2, 12, 0, tzinfo=dt.UTC)
    for then, text in (
        ("2026-01-02T11:59:55+00:00", "5 s"),
        ("2026-01-02T11:57:00+00:00", "3 min"),
        ("2026-01-02T09:55:00+00:00", "2 h 05 min"),
        ("2025-12-29T12:00:00+00:00", "4 d"),
        ("", "?"),
    ):
        assert render.age(then, now) == text
    assert [render.size_of(n) for n in (5, 2048, 3 << 20, 5 << 30)] == [
        "5 B",
        "2.0 KiB",
        "3.0 MiB",
        "5.0 GiB",
    ]
    assert [render.change_of(*pair) for pair in (("1", "2"), ("1", "1"), ("", "1"))] == [
        "1 → 2",
        "1",
        "1",
    ]


def test_a_terminal_shows_the_phases_in_one_line():
    track = PhaseTrack("ledger")
    track.note(PhaseStarted(id="r1", phase=Phase.PREPARE, where="window"))
    track.note(PhaseEnded(id="r1", phase=Phase.PREPARE, outcome=PhaseOutcome.FAILED))
    track.note(PhaseStarted(id="r1", phase=Phase.DRAIN))
    track.note(Warned(text="passed over"))
    text = track.__rich__()
    assert text.plain.split() == ["ledger", *Phase]
    styles = {text.plain[span.start : span.end].strip(): str(span.style) for span in text.spans}
    assert "red" in styles["prepare"]
    assert "yellow" in styles["drain"]
    assert "dim" in styles["commit"]
    console = Console(file=io.StringIO(), width=80, force_terminal=True)
    with show_phases(console, "ledger") as show:
        show(PhaseEnded(id="r1", phase=Phase.DRAIN))
    assert "drain" in console.file.getvalue()


def test_plain_lines_are_for_phases_that_ended():
    assert line_of(PhaseStarted(id="r1", phase=Phase.DRAIN)) is None
    ended = PhaseEnded(id="r1", phase=Phase.DRAIN, seconds=0.002, detail="3 calls")
    assert line_of(ended) == "drain     done      2.0 ms  calls wait  3 calls"


def test_what_was_predicted_stands_beside_what_was_measured():
    cost = StateCost(pause_s=0.0004, window_s=1.25, memory_bytes=2 * 1024 * 1024)
    done = report()
    module = msgspec.structs.replace(
        done.modules[0], mode="windowed", predicted=cost, measured=StateCost(pause_s=0.0005)
    )
    text = text_of(render.render_report(msgspec.structs.replace(done, modules=(module,))))
    assert "pause 0.4 ms predicted, 0.5 ms measured" in text
    assert "window 1.25 s predicted" in text
    assert "memory 2.0 MiB predicted, 0 B measured" in text


def test_records_that_were_set_aside_are_told_with_the_command_that_shows_them():
    done = report()
    bad = BadRecordReport(table="accounts", key="'ada'", reason="no number")
    module = msgspec.structs.replace(
        done.modules[0], quarantined=2, defaulted=1, bad_records=(bad,)
    )
    text = text_of(render.render_report(msgspec.structs.replace(done, modules=(module,))))
    assert "2 records of ledger were set aside" in text
    assert "replank state show ledger --quarantined" in text
    assert "1 records of ledger got a default" in text
    assert "accounts['ada']: no number" in text


def test_counts_are_short():
    numbers = (0, 1_234, 999_999, 1_000_000, 123_456_789, 999_999_999, 5_000_000_000)
    assert [render.count_of(number) for number in numbers] == [
        *("0", "1,234", "999,999", "1.0 M", "123.5 M", "1.0 G", "5.0 G"),
    ]


def test_a_status_fits_80_columns_whatever_the_names_and_numbers_are():
    modules = tuple(
        ModuleStatus(
            name=name,
            label="2026.11.24-rc1+build77",
            digest="d",
            generation=12_345,
            schema=12,
            gate=Gate.CLOSED,
            in_flight=1_200,
            waiting=10_000,
            calls=123_456_789_012,
            messages_queued=100_000,
        )
        for name in ("api", "recommendation_engine_for_all_shops_of_the_world")
    )
    status = HostStatus(pid=4_194_304, data_dir="/srv" * 40, started_at="", modules=modules)
    contact = Contact(pid=1, socket="s", http="https://127.0.0.1:65535", version="1")
    text = text_of(render.render_status(status, contact))
    assert max(map(len, text.splitlines())) <= 80
    for part in ("123.5 G", "12345", "100,000", "10,000", "closed"):
        assert part in text
    words = "".join(text.split())
    assert "recommen" in words


def test_a_status_says_where_isolated_modules_run_and_which_are_down():
    one = ModuleStatus(name="a", label="1", digest="d", generation=1, schema=1)
    far = {"isolation": "process", "pid": 77, "memory_bytes": 5 * 1024 * 1024, "restarts": 2}
    modules = (
        one,
        msgspec.structs.replace(one, name="b", **far),
        msgspec.structs.replace(one, name="c", isolation="process", down="it ended too often"),
    )
    status = HostStatus(pid=1, data_dir="d", started_at="", modules=modules)
    text = text_of(render.render_status(status, Contact(pid=1, socket="s", http="", version="1")))
    assert "b runs in process 77, 5.0 MiB, started again 2 times" in text
    assert "c takes no calls: it ended too often" in text
    assert "a runs in" not in text
