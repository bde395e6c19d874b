"""What was measured gets on the pages by itself, and nothing else does."""

from __future__ import annotations

import json
from pathlib import Path

import bench.__main__ as door
import pytest
from bench import page, runner
from bench.cases import Case
from bench.markdown import came_about, number
from bench.peers.columns import better, table
from bench.sections import SECTIONS, call_cost, transactions, watch
from bench.sections_proofs import proofs

PAGE = (
    "# Measured\n\nwords\n\n<!-- measured: watch -->\nold\n<!-- end of measured -->\n\nmore words\n"
)
SAVED = {"bench": "watch", "python": "3.11.7", "date": "2026-11-30", "load_before": 0.5}
SAVED |= {"saves": 40, "median_ms": 95.0, "p95_ms": 140.0, "max_ms": 202.0}
CALL = {"bench": "call_cost", "python": "3.11.7", "lane": "calls other modules", "bare_ns": 100.0}


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "benchmarks.md"
    path.write_text(PAGE)
    return path


def test_a_place_is_written_from_the_lines_and_the_words_around_it_stay(written: Path) -> None:
    assert page.write(written, [SAVED]) == [written]
    text = written.read_text()
    assert "| 3.11.7 | 40 | 95.0 | 140 | 202 |" in text
    assert "old" not in text
    assert text.startswith("# Measured\n\nwords\n\n<!-- measured: watch -->\nMeasured 2026-11-30;")
    assert text.endswith("<!-- end of measured -->\n\nmore words\n")


def test_written_twice_it_is_the_same_and_its_lines_write_it_again(written: Path) -> None:
    page.write(written, [SAVED])
    first = written.read_text()
    page.write(written, [])
    assert written.read_text() == first
    assert page.written(PAGE, page.read(page.lines_of(written))) == first


def test_every_page_of_the_folder_that_shows_it_is_written(written: Path) -> None:
    other = written.parent / "explanation" / "comparison.md"
    other.parent.mkdir()
    other.write_text(PAGE)
    assert page.write(written, [SAVED]) == [written, other]
    assert other.read_text() == written.read_text()


def test_a_case_measured_anew_replaces_its_own_lines_only(written: Path) -> None:
    newer = {**SAVED, "python": "3.13.0", "median_ms": 50.0}
    page.write(written, [SAVED, newer, {"bench": "search", "states": 1}])
    rows = page.merged(page.read(page.lines_of(written)), [{**SAVED, "median_ms": 77.0}])
    assert [(row["bench"], row.get("median_ms")) for row in rows] == [
        ("search", None),
        ("watch", 77.0),
        ("watch", 50.0),
    ]


def test_a_run_that_failed_keeps_the_earlier_numbers_and_says_that_it_failed() -> None:
    failed = runner.Result(Case("watch", "", ()), failed="exit 1: no disk").lines()
    rows = page.merged([SAVED], failed)
    text = page.shown(SECTIONS["watch"], rows)
    assert "95.0" in text
    assert "`watch`, Python ?: exit 1: no disk." in text
    assert page.merged(rows, [SAVED]) == [SAVED]  # and once it runs again that is forgotten


def test_lines_of_an_older_bench_are_to_be_measured_again_and_harm_no_other_place() -> None:
    text = page.shown(SECTIONS["watch"], [{"bench": "watch", "python": "3.11.7", "median_ms": 1.0}])
    assert text == "The lines lack 'saves': measure it again, `python -m bench watch`."


def test_what_is_not_measured_says_so() -> None:
    assert page.shown(SECTIONS["watch"], []) == "Not measured yet."


def test_a_page_without_a_place_is_refused_before_anything_is_measured(
    tmp_path: Path, capsys
) -> None:
    (tmp_path / "x.md").write_text("no place\n")
    assert door.main(["--write", str(tmp_path / "x.md")]) == 2
    assert "has no place '<!-- measured: NAME -->'" in capsys.readouterr().err


def test_a_place_that_nobody_writes_is_refused_with_those_that_there_are(
    tmp_path: Path, capsys
) -> None:
    (tmp_path / "x.md").write_text(PAGE.replace("watch", "wotch"))
    assert door.main(["--write", str(tmp_path / "x.md")]) == 2
    assert "nobody writes wotch; there are reload, " in capsys.readouterr().err


def test_what_an_earlier_run_printed_is_written_without_measuring(written: Path, capsys) -> None:
    printed = written.parent / "run.txt"
    printed.write_text(
        f"watch: from saving\n{json.dumps({'bench': 'machine'})}\n{json.dumps(SAVED)}\n"
    )
    assert door.main(["--write", str(written), "--from", str(printed)]) == 0
    assert f"written: {written}" in capsys.readouterr().out
    assert page.read(page.lines_of(written)) == [SAVED]


def test_an_aim_that_was_missed_says_so() -> None:
    assert "below 150 ms: reached." in watch([SAVED])
    assert "below 150 ms: **missed**." in watch([{**SAVED, "median_ms": 151.0}])
    slow = {**CALL, "method": "suspending", "entry_ratio": 3.9}
    assert "**missed**.\n  - the same in a module that calls others: 3.9" in call_cost([slow])
    assert "reached." in call_cost([{**slow, "entry_ratio": 2.9}])


def test_side_by_side_is_held_against_the_aim_for_eight() -> None:
    row = {"modules": 8, "alone_ms": 50.0, "longest_wait_quiet_ms": 1.0, "longest_wait_ms": 9.0}
    for way in ("side_by_side", "in_one"):
        row |= {f"{way}_ms": 120.0, f"{way}_to_alone": 2.4, f"{way}_pause_max_ms": 3.0}
    assert "eight side by side within 2 times one alone: **missed**." in transactions([row])


def test_a_proof_that_failed_is_counted_and_its_replay_stands_below() -> None:
    row = {"bench": "faults", "part": "all", "seed": 7, "trials": 9, "crashes": 1, "schedules": 2}
    row |= {"histories": 3, "failed": 1, "replay": ["python -m bench.faults --kill 3:before"]}
    text = proofs([row])
    assert "with seed 7: 9 trials" in text
    assert "histories checked | 1 |" in text
    assert "- `python -m bench.faults --kill 3:before`" in text


def peer(name: str, **values: object) -> dict[str, object]:
    zeros = dict.fromkeys(("failed_good", "mixed", "old_after_new", "failed_bad"), 0)
    zeros |= dict.fromkeys(("answered_by_bad", "mixed_bad"), 0)
    row = {"peer": name, "version": "1", "lost_state": False, **zeros, "longest_quiet_ms": 5.0}
    return {**row, "longest_good_ms": 9.0, "new_code_ms": 30.0, **values}


def test_where_a_peer_is_better_is_told_and_where_it_is_worse_is_not() -> None:
    rows = [
        peer("Replank"),
        peer("quick", new_code_ms=4.0, mixed=7),
        peer("slow", new_code_ms=None),
    ]
    assert better(rows) == "- *to new code, ms*: Replank 30.0; quick 4.0."
    assert better(rows[:1]) == "In no column of that run."


def test_a_peer_that_was_skipped_has_its_reason_below_the_table() -> None:
    text = table([peer("Replank"), {"peer": "hmr", "skipped": "needs Python 3.12"}])
    assert text.endswith("\nSkipped: hmr: needs Python 3.12.")
    assert "| never |" in table([peer("x", new_code_ms=None)])


def test_numbers_have_the_digits_that_can_be_trusted() -> None:
    shown = [number(one) for one in (0.1234, 1.0, 2.345, 45.67, 1234.5)]
    assert shown == ["0.12", "1.0", "2.35", "45.7", "1,234"]


def test_how_it_came_about_names_the_spread_of_the_load() -> None:
    rows = [{**SAVED, "load_before": load, "others_cores": 0.1} for load in (0.2, 1.4)]
    assert came_about(rows) == (
        "Measured 2026-11-30; Python 3.11.7; "
        "load average before it 0.2 to 1.4, other work kept 0.1 cores busy."
    )
