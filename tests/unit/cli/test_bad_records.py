import json

import pytest

from replank.state.bad_policy import BadRecord
from replank.state.quarantine import FOLDER, Quarantine, Quarantined
from tests.unit.migration.test_engine import V1, schema_of

KEPT = Quarantined(
    batch="ledger-r1",
    table="accounts",
    key="ada",
    value="{'cents': 'many'}",
    schema=1,
    step="step(1, 2)",
    field="cents",
    reason="no number",
    taken_at="2026-01-01T00:00:00",
)


@pytest.mark.parametrize("command", ["reload", "plan"])
def test_what_is_chosen_for_one_reload_reaches_the_host(command, serving, replank):
    words = ("--on-bad-record", "quarantine", "--quarantine-max", "0", "--over-limits")
    done = replank(command, "ledger", *words, "--data-dir", serving.data_dir)
    assert done.exit_code == 0, done.output
    assert serving.host.choices == {
        "on_bad_record": "quarantine",
        "quarantine_max": 0,
        "over_limits": True,
    }


def test_what_is_not_chosen_is_left_to_the_configuration(serving, replank):
    assert replank("reload", "ledger", "--data-dir", serving.data_dir).exit_code == 0
    assert serving.host.choices == {}


def test_an_unknown_policy_is_refused_before_the_host_is_asked(serving, replank):
    words = ("--on-bad-record", "ignore", "--data-dir", serving.data_dir)
    done = replank("reload", "ledger", *words)
    assert done.exit_code == 2
    assert "quarantine" in done.stderr


def test_a_running_host_shows_what_it_has_set_aside(serving, replank):
    serving.host.kept = [KEPT]
    words = ("state", "show", "ledger", "--quarantined", "--data-dir", serving.data_dir)
    shown = replank(*words)
    assert shown.exit_code == 0, shown.output
    assert "accounts[ada]" in shown.output
    assert "no number" in shown.output
    assert "replank state take-back ledger" in shown.output
    assert json.loads(replank(*words, "--json").output)[0]["value"] == "{'cents': 'many'}"


def test_a_stopped_hosts_quarantine_is_shown(replank, tmp_path):
    quarantine = Quarantine(tmp_path / ".replank" / FOLDER)
    record = BadRecord(
        table="accounts", key="bob", value={"cents": "few"}, step="", field="", reason="too few"
    )
    quarantine.keep("ledger", "r2", "1.0", schema_of(V1), [record])
    shown = replank("state", "show", "ledger", "--quarantined", "--data-dir", ".replank")
    assert shown.exit_code == 0, shown.output
    assert "accounts[bob]" in shown.output
    assert "too few" in shown.output


def test_nothing_set_aside_is_said_so(serving, replank):
    shown = replank("state", "show", "ledger", "--quarantined", "--data-dir", serving.data_dir)
    assert shown.exit_code == 0
    assert "no record was set aside" in shown.output


def test_records_are_taken_back_by_key_and_what_stays_is_told(serving, replank):
    serving.host.kept = [KEPT]
    done = replank("state", "take-back", "ledger", "ada", "--data-dir", serving.data_dir)
    assert serving.host.taken == ("ledger", ["ada"], False)
    assert done.exit_code == 1
    assert "1 still set aside" in done.output
    assert "no number" in done.output
