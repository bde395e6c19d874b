"""What people see of the demo."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from replank.demo.accounting import Tally
from replank.demo.loadgen import Progress
from replank.demo.processes import Address
from replank.demo.show import Lines, Screen, Silent, choose, print_result
from replank.demo.story import ACTS, DemoResult
from replank.report import Outcome
from tests.unit.demo.test_story import played, verdict

PROGRESS = Progress(
    seconds=3.0,
    sent=900,
    answered=899,
    failed=0,
    per_second=300.0,
    version="2.0",
    longest_ms=4.25,
)


def console(*, terminal: bool = False) -> Console:
    return Console(file=io.StringIO(), width=100, force_terminal=terminal, color_system=None)


def output(of: Console) -> str:
    file = of.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def test_a_terminal_gets_a_living_table_and_a_pipe_gets_lines() -> None:
    assert isinstance(choose(console(terminal=True), silent=False), Screen)
    assert isinstance(choose(console(), silent=False), Lines)
    assert type(choose(console(terminal=True), silent=True)) is Silent


def test_lines_tell_what_happens_in_order() -> None:
    target = console()
    with Lines(target) as show:
        show.opened(Address("127.0.0.1", 8321), Path("/somewhere"))
        show.progressed(PROGRESS)
        show.began(ACTS[1])
        show.ended(played()[1])
    lines = output(target).splitlines()
    assert lines[0].startswith("the shop serves on http://127.0.0.1:8321")
    assert "899 answered (300 a second), none failed" in lines[1]
    assert lines[2].startswith("reload ledger 2 → 3: its check fails")
    assert "rolled back (as planned), pause 4.0 ms, because: verify: no" in lines[3]


def test_lines_do_not_tell_each_progress() -> None:
    target = console()
    with Lines(target) as show:
        show.progressed(PROGRESS)
        show.progressed(PROGRESS)
    assert len(output(target).splitlines()) == 1


def test_a_reload_that_ended_otherwise_than_planned_is_told() -> None:
    target = console()
    with Lines(target) as show:
        show.ended(played((Outcome.REJECTED,) * 4)[0])
    assert "rejected (BUT committed was planned)" in output(target)


def test_the_living_table_shows_every_act() -> None:
    target = console(terminal=True)
    with Screen(target) as show:
        show.opened(Address("127.0.0.1", 8321), Path("/somewhere"))
        show.began(ACTS[0])
        show.ended(played()[0])
        show.progressed(PROGRESS)
    text = output(target)
    assert all(act.title in text for act in ACTS)
    assert "committed, pause 2.0 ms" in text


def test_the_closing_tables_say_that_nothing_was_lost() -> None:
    target = console()
    print_result(target, DemoResult(verdict=verdict(), played=played()))
    text = output(target)
    assert "Nothing was lost. Every reload ended as planned." in text
    assert "exactly what was sent" in text
    for word in ("calls", "messages", "rolled back", "rejected", "Drain", "Verify"):
        assert word in text


def test_the_closing_tables_say_what_went_wrong() -> None:
    target = console()
    bad = verdict(calls=Tally(sent=10, answered=9, lost=1), errors=("order-1 4: no answer",))
    print_result(target, DemoResult(verdict=bad, played=played()))
    text = output(target)
    assert "NOT as promised." in text
    assert "order-1 4: no answer" in text
