"""What the demo plays, and what it makes of the outcome."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from replank.config import load_config
from replank.demo.accounting import Tally, Verdict, Waits
from replank.demo.story import ACTS, DemoResult, Played, change, lay, set_stage, shop
from replank.report import ErrorReport, ModuleReport, Outcome, Phase, PhaseReport, ReloadReport


def verdict(**changes: object) -> Verdict:
    honest = Verdict(
        calls=Tally(sent=10, answered=10),
        messages=Tally(sent=4, answered=4),
        waits=Waits(with_reload_ms=5.0, without_reload_ms=2.0),
        expected_cents=100,
        found_cents=100,
        serials=14,
        expected_serials=14,
        versions=("1.0", "2.0", "5.0"),
        seconds=20.0,
    )
    return msgspec.structs.replace(honest, **changes)


def played(
    outcomes: tuple[Outcome, ...] = tuple(act.planned for act in ACTS),
) -> tuple[Played, ...]:
    return tuple(
        Played(
            act=act,
            report=ReloadReport(
                id=str(number),
                outcome=outcome,
                modules=(ModuleReport(name="ledger", schema_from=1, schema_to=2),),
                phases=tuple(PhaseReport(name=phase, seconds=0.001) for phase in Phase),
                pause_s=0.002 * number,
                error=None
                if outcome is Outcome.COMMITTED
                else ErrorReport(
                    phase="verify", module="ledger", kind="CheckError", message="no\nmore"
                ),
            ),
            shape_before="v1: euros",
            shape_after="v2: cents",
        )
        for number, (act, outcome) in enumerate(zip(ACTS, outcomes, strict=True), 1)
    )


def test_the_demo_is_ok_when_nothing_was_lost_and_all_ended_as_planned() -> None:
    result = DemoResult(verdict=verdict(), played=played())
    assert result.ok
    assert result.pause_ms_max == pytest.approx(8.0)


@pytest.mark.parametrize(
    "changes",
    [
        {"calls": Tally(sent=10, answered=9, lost=1)},
        {"messages": Tally(sent=4, answered=4, duplicated=1)},
        {"calls": Tally(sent=10, answered=10, reordered=1)},
        {"calls": Tally(sent=10, answered=9, failed=1)},
        {"found_cents": 99},
        {"serials": 15},
        {"wrong_accounts": ("ada",)},
        {"stale_answers": 1},
        {"mixed_answers": 1},
        {"doubled_serials": 1},
    ],
)
def test_the_demo_is_not_ok_when_anything_went_wrong(changes: dict[str, object]) -> None:
    assert not DemoResult(verdict=verdict(**changes), played=played()).ok


def test_the_demo_is_not_ok_when_a_reload_did_not_end_as_planned() -> None:
    all_committed = played((Outcome.COMMITTED,) * 4)
    assert not DemoResult(verdict=verdict(), played=all_committed).ok


def test_the_demo_is_not_ok_when_a_reload_was_left_out() -> None:
    assert not DemoResult(verdict=verdict(), played=played()[:3]).ok


def test_the_json_object_has_the_promised_keys() -> None:
    facts = json.loads(json.dumps(DemoResult(verdict=verdict(), played=played()).to_dict()))
    promised = {
        "calls",
        "answered",
        "lost",
        "duplicated",
        "reordered",
        "failed",
        "pause_ms_max",
        "state_ok",
        "reloads",
        "longest_wait_ms_with_reload",
        "longest_wait_ms_without_reload",
    }
    assert promised <= facts.keys()
    assert (facts["calls"], facts["answered"], facts["lost"]) == (14, 14, 0)
    assert [one["outcome"] for one in facts["reloads"]] == facts["planned"]


def test_the_stage_holds_the_first_versions_and_a_configuration_that_can_be_read(
    tmp_path: Path,
) -> None:
    set_stage(tmp_path, port=0)
    config = load_config(tmp_path / "replank.toml")
    assert set(config.modules) == {"ledger", "api"}
    assert 'LABEL = "1.0"' in (tmp_path / "ledger.py").read_text()


def test_changing_a_module_saves_its_next_version_over_it(tmp_path: Path) -> None:
    set_stage(tmp_path, port=0)
    change(tmp_path, "ledger", "v2")
    assert 'LABEL = "2.0"' in (tmp_path / "ledger.py").read_text()


def test_every_file_that_an_act_needs_is_part_of_the_package() -> None:
    for act in ACTS:
        for name, version in act.files.items():
            assert (shop() / version / f"{name}.py").is_file()


def test_versions_can_be_laid_side_by_side(tmp_path: Path) -> None:
    assert lay(tmp_path, "counter", "v1") != lay(tmp_path, "counter", "v2")
