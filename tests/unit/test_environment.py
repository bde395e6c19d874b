from __future__ import annotations

import pytest

from replank.config import load_config, parse_config
from replank.errors import ConfigError
from replank.named_files import config_for_files

TOML = '[modules]\nledger = "ledger.py"\n[http]\nport = 8000\n'


def read(tmp_path, **variables):
    environment = {f"REPLANK_{name}": text for name, text in variables.items()}
    return parse_config(TOML, tmp_path / "replank.toml", environment)


def test_a_variable_stands_above_the_file(tmp_path):
    config = read(
        tmp_path,
        HTTP_PORT="0",
        HTTP_ENABLED="false",
        DATA_DIR="there",
        STOP_TIMEOUT_S="2.5",
        RELOAD_DRAIN_TIMEOUT_S="9",
        MODULES_LEDGER_DRAIN_POLICY="cancel",
        MODULES_LEDGER_SOURCE="v2/ledger.py",
        SCHEDULE_TIMEZONE="Europe/Berlin",
    )
    assert (config.http.port, config.http.enabled) == (0, False)
    assert config.data_dir == str(tmp_path / "there")
    assert (config.stop_timeout_s, config.drain_timeout_s("ledger")) == (2.5, 9.0)
    assert config.modules["ledger"].drain_policy == "cancel"
    assert config.modules["ledger"].source == str(tmp_path / "v2/ledger.py")
    assert config.schedule.timezone == "Europe/Berlin"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('["22:00-06:00", "sat,sun 00:00-24:00"]', ("22:00-06:00", "sat,sun 00:00-24:00")),
        ("sat,sun 00:00-24:00", ("sat,sun 00:00-24:00",)),
    ],
)
def test_a_list_is_written_as_in_toml_and_a_single_item_plainly(tmp_path, text, expected):
    assert read(tmp_path, SCHEDULE_WINDOWS=text).schedule.windows == expected


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("HTTP_PORT", "many", "a whole number"),
        ("HTTP_PORT", "70000", "at most 65535"),
        ("HTTP_ENABLED", "perhaps", "true or false"),
        ("RELOAD_DRAIN_TIMEOUT_S", "0", "more than 0"),
        ("RELOAD_DRAIN_TIMEOUT_S", "5s", "seconds, without a unit"),
        ("MODULES_LEDGER_DRAIN_POLICY", "wait", 'one of "abort"'),
        ("SCHEDULE_WINDOWS", "[22", "list"),
    ],
)
def test_a_wrong_value_is_refused_by_the_variables_name(tmp_path, name, text, expected):
    with pytest.raises(ConfigError, match=f"environment variable REPLANK_{name}") as raised:
        read(tmp_path, **{name: text})
    assert text in raised.value.found
    assert expected in raised.value.expected
    assert f"unset REPLANK_{name}" in raised.value.do


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("SCHEDULE_WINDOWS", "at night"),
        ("SCHEDULE_TIMEZONE", "Mars"),
        ("SCHEDULE_QUIET_HOURS", "x"),
    ],
)
def test_hours_that_cannot_be_read_name_the_variable(tmp_path, name, text):
    with pytest.raises(ConfigError) as raised:
        read(tmp_path, **{name: text})
    assert raised.value.location == f"REPLANK_{name}"


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("HTTP_PROT", "REPLANK_HTTP_PORT"),
        ("RELOAD_DRAIN_TIMEOUT", "REPLANK_RELOAD_DRAIN_TIMEOUT_S"),
        ("DATADIR", "REPLANK_DATA_DIR"),
        ("MODULES_LEDGER_SORCE", "REPLANK_MODULES_LEDGER_SOURCE"),
    ],
)
def test_a_misspelt_variable_is_refused_and_the_nearest_is_named(tmp_path, name, near):
    with pytest.raises(ConfigError, match=f"REPLANK_{name} names no setting") as raised:
        read(tmp_path, **{name: "1"})
    assert raised.value.do == f"did you mean {near}?"


def test_variables_of_other_programs_are_let_be(tmp_path):
    assert read(tmp_path, SEED="7", RELOADS="60", TRACEBACK="1") == read(tmp_path)


def test_the_environment_holds_for_files_and_for_named_modules(tmp_path, monkeypatch):
    (tmp_path / "ledger.py").write_text("x = 1")
    (tmp_path / "replank.toml").write_text(TOML)
    monkeypatch.setenv("REPLANK_HTTP_PORT", "1234")
    monkeypatch.setenv("REPLANK_DATA_DIR", str(tmp_path / "there"))
    for config in (
        load_config(tmp_path / "replank.toml"),
        config_for_files([tmp_path / "ledger.py"]),
    ):
        assert config.http.port == 1234
        assert config.data_dir == str(tmp_path / "there")
        assert config.modules["ledger"].source == str(tmp_path / "ledger.py")
