import json
import os
import re
import sqlite3
import subprocess

import msgspec
import pytest
from click.shell_completion import ShellComplete

from replank.cli.app import app
from replank.cli.starter import CONFIG_TEXT, MODULE_TEXT
from replank.config import Config, parse_config
from replank.journal.journal import JOURNAL_FILE
from replank.scheduling.entries import Scheduled


def findings(replank, *words):
    shown = replank("doctor", "--json", *words)
    facts = json.loads(shown.output)
    assert shown.exit_code == (0 if facts["well"] else 1)
    for one in facts["findings"]:
        assert (one["do"] is None) == (one["grade"] == "well")
    return {one["what"]: one for one in facts["findings"]}


def test_init_writes_what_run_needs_and_says_what_comes_next(replank, tmp_path):
    shown = replank("init", "shop")
    assert shown.exit_code == 0
    assert "next: cd shop && replank run" in shown.output
    config = parse_config((tmp_path / "shop/replank.toml").read_text(), tmp_path / "replank.toml")
    assert list(config.modules) == ["counter"]
    compile((tmp_path / "shop/counter.py").read_text(), "counter.py", "exec")
    assert json.loads(replank("init", "other", "--json").output)["written"] == [
        "replank.toml",
        "counter.py",
    ]


def test_init_replaces_nothing_unless_told_to(replank, tmp_path):
    (tmp_path / "counter.py").write_text("mine")
    shown = replank("init")
    assert shown.exit_code == 2
    assert "counter.py" in shown.stderr
    assert "--force" in shown.stderr
    assert (tmp_path / "counter.py").read_text() == "mine"
    assert not (tmp_path / "replank.toml").exists()
    assert replank("init", "--force").exit_code == 0
    assert (tmp_path / "counter.py").read_text() == MODULE_TEXT


def test_a_folder_that_cannot_be_made_is_refused(replank, tmp_path):
    (tmp_path / "file").touch()
    shown = replank("init", "file/folder")
    assert shown.exit_code == 2
    assert "cannot be written" in shown.stderr


def test_doctor_starts_a_process_for_isolated_modules_and_says_what_a_crash_costs(
    replank, tmp_path
):
    (tmp_path / "m.py").write_text(MODULE_TEXT)
    text = '[modules.m]\nsource = "m.py"\nisolation = "process"\n'
    (tmp_path / "replank.toml").write_text(text)
    found = findings(replank)
    assert found["isolation"]["grade"] == "well"
    assert "crash loses what is newer" in found["isolation of m"]["found"]
    (tmp_path / "replank.toml").write_text(text + 'persist = "interval"\n')
    assert "isolation of m" not in findings(replank)


def test_what_is_commented_out_in_the_configuration_stands_at_its_default(tmp_path):
    text = re.sub(r"^# (\[?[a-z_.]+( = |\]))", r"\1", CONFIG_TEXT, flags=re.MULTILINE)
    assert text.count("\n# ") <= 3
    config = parse_config(text, tmp_path / "replank.toml")
    ledger = config.modules["ledger"]
    default = Config()
    assert ledger == msgspec.structs.replace(type(ledger)(source="x"), source=ledger.source)
    for section in ("reload", "storage", "telemetry"):
        assert getattr(config, section) == getattr(default, section)
    http = msgspec.structs.replace(config.http, certfile=None, keyfile=None)
    assert http == default.http
    assert config.stop_timeout_s == default.stop_timeout_s


def test_a_healthy_folder_is_well_and_stays_as_it_was(replank, tmp_path):
    replank("init")
    before = sorted(tmp_path.rglob("*"))
    (tmp_path / "replank.toml").write_text(CONFIG_TEXT.replace("port = 8321", "port = 0"))
    found = findings(replank)
    assert {one["grade"] for one in found.values()} <= {"well", "warning"}
    for what in ("Python", "packages", "configuration", "module counter", "data directory"):
        assert found[what]["grade"] == "well", found[what]
    for what in ("disk", "host", "journal", "token", "HTTP", "probe", "control socket"):
        assert what in found
    assert sorted(tmp_path.rglob("*")) == before
    shown = replank("doctor")
    assert "all is well" in shown.output
    assert max(map(len, shown.output.splitlines())) <= 100 + len(str(tmp_path))


def test_a_running_host_answers_the_doctor(replank, serving):
    found = findings(replank, "--data-dir", serving.data_dir)
    assert found["host"]["grade"] == "well"
    assert f"pid {os.getpid()} answers" in found["host"]["found"]
    assert "the host's" in found["HTTP"]["found"]


def gone():
    done = subprocess.Popen(["true"])
    done.wait()
    return done.pid


def data_of(tmp_path):
    (tmp_path / "data").mkdir(mode=0o700)
    return tmp_path / "data"


def break_config(tmp_path):
    (tmp_path / "replank.toml").write_text("[reload]\nprobee = true\n")
    return "configuration", "fault", "did you mean reload.probe?"


def break_module(tmp_path):
    (tmp_path / "replank.toml").write_text('[modules]\nledger = "ledger.py"\n')
    return "module ledger", "fault", "path of the module"


def break_journal(tmp_path):
    (data_of(tmp_path) / JOURNAL_FILE).write_bytes(b"no database, certainly" * 100)
    return "journal", "fault", ""


def break_mode(tmp_path):
    data_of(tmp_path).chmod(0o755)
    return "data directory", "warning", "chmod 700"


def file_as_folder(tmp_path):
    (tmp_path / "data").touch()
    return "data directory", "fault", "move the file away"


def break_token(tmp_path):
    (data_of(tmp_path) / "token").write_text("x" * 40)
    return "token", "warning", "remove"


def leave_lock(tmp_path):
    (data_of(tmp_path) / "lock").write_text(f"{gone()}\n")
    return "host", "warning", "start the host again"


def leave_contact(tmp_path):
    contact = {"pid": gone(), "socket": "/nowhere", "http": None, "version": "0"}
    (data_of(tmp_path) / "control.json").write_text(json.dumps(contact))
    return "host", "warning", "start the host again"


def deaf_host(tmp_path):
    contact = {"pid": os.getpid(), "socket": "/nowhere", "http": None, "version": "0"}
    (data_of(tmp_path) / "control.json").write_text(json.dumps(contact))
    return "host", "fault", "look at what it does"


def hold_lock(tmp_path):
    (data_of(tmp_path) / "lock").write_text(f"{os.getpid()}\n")
    return "host", "warning", "wait for it"


def open_to_all(tmp_path):
    (tmp_path / "replank.toml").write_text('[http]\nhost = "0.0.0.0"\nport = 0\n')
    return "TLS", "warning", "certfile"


def no_certificate(tmp_path):
    (tmp_path / "replank.toml").write_text('[http]\nport = 0\ncertfile = "none.pem"\n')
    return "TLS", "fault", "certfile"


def no_probe(tmp_path):
    (tmp_path / "replank.toml").write_text("[reload]\nprobe = false\n[http]\nport = 0\n")
    return "probe", "warning", "leave out"


def foreign_address(tmp_path):
    (tmp_path / "replank.toml").write_text('[http]\nhost = "192.0.2.1"\nport = 0\n')
    return "HTTP", "fault", "choose another port"


def long_path(tmp_path):
    (tmp_path / "replank.toml").write_text(f'data_dir = "{"x" * 120}"\n[http]\nport = 0\n')
    return "control socket", "warning", "shorter"


@pytest.mark.parametrize(
    "spoil",
    [
        *(break_config, break_module, break_journal, break_mode, break_token, leave_lock),
        *(leave_contact, deaf_host, hold_lock, open_to_all, no_certificate, no_probe),
        *(foreign_address, long_path, file_as_folder),
    ],
    ids=lambda one: one.__name__,
)
def test_the_doctor_names_what_is_wrong_and_what_to_do(replank, tmp_path, monkeypatch, spoil):
    if spoil is not no_probe:  # starting it takes a while, and it has tests of its own
        monkeypatch.setattr("replank.cli.examine._start_probe", nothing)
    what, grade, do = spoil(tmp_path)
    named = ("--data-dir", "data") if (tmp_path / "data").exists() else ()
    found = findings(replank, *named)
    assert found[what]["grade"] == grade, found[what]
    assert do in found[what]["do"]


async def nothing():
    pass


def test_a_clock_behind_the_journal_is_noticed(replank, tmp_path, monkeypatch):
    from replank.cli import examine_data
    from tests.unit.control.fake_host import report

    monkeypatch.setattr("replank.cli.examine._start_probe", nothing)
    sqlite3.connect(data_of(tmp_path) / JOURNAL_FILE).close()
    future = msgspec.structs.replace(report(), started_at="2100-01-02T03:04:05+00:00")
    monkeypatch.setattr(examine_data, "check_journal", lambda _: ())
    monkeypatch.setattr(examine_data, "read_history", lambda *_: (future,))
    assert "behind the last reload" in findings(replank, "--data-dir", "data")["clock"]["found"]


def completed(words, incomplete):
    return [
        one.value
        for one in ShellComplete(app, {}, "replank", "_X").get_completions(words, incomplete)
    ]


def test_modules_are_completed_from_the_running_host(serving):
    at = ["--data-dir", str(serving.data_dir)]
    alone = "reload plan rollback call send probation promote abort pause resume diff"
    of_groups = ("schedule pause", "schedule resume", "state show", "state export", "state import")
    of_groups += ("state take-back", "migrations new", "migrations show", "migrations check")
    for command in (*alone.split(), *of_groups):
        assert completed([*command.split(), *at], "le") == ["ledger"], command
    assert completed(["history", *at, "--module"], "le") == ["ledger"]
    assert completed(["reload", *at], "x") == []
    assert completed(["reload", *at, "ledger"], "") == []


def test_calls_types_of_events_and_the_demos_options_are_completed(serving):
    at = ["--data-dir", str(serving.data_dir)]
    assert completed(["call", *at, "ledger"], "dep") == ["deposit"]
    assert completed(["send", *at, "ledger"], "x") == []
    assert completed(["send", *at, "nobody"], "") == []
    assert "total_now" in completed(["send", *at, "ledger"], "")
    assert completed(["events", "--type"], "can") == ["CanaryMoved"]
    assert completed(["demo"], "--ke") == ["--keep"]
    assert completed(["modules", "test-stateful-reload"], "--rel") == ["--reloads"]
    assert not serving.host.messages
    assert serving.host.ledger.total == 0


def test_where_no_module_begins_so_the_shell_completes_files(replank):
    found = ShellComplete(app, {}, "replank", "_X").get_completions(["diff"], "x")
    assert [(one.type, one.value) for one in found] == [("file", "x")]


def test_scheduled_requests_are_completed(serving):
    waiting = Scheduled(id="s12", modules=("ledger",))
    serving.host.scheduled = lambda: (waiting, msgspec.structs.replace(waiting, id="s9"), gone)
    gone = msgspec.structs.replace(waiting, id="s11", standing="answered")
    at = ["--data-dir", str(serving.data_dir)]
    assert completed(["schedule", "cancel", *at], "s1") == ["s12"]


def test_modules_are_completed_from_the_configuration_when_nothing_runs(replank):
    assert completed(["reload"], "") == []
    replank("init")
    assert completed(["reload"], "co") == ["counter"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_completion_script_is_printed(replank, shell):
    shown = replank("completion", shell)
    assert shown.exit_code == 0
    assert "_REPLANK_COMPLETE" in shown.output
    assert json.loads(replank("completion", shell, "--json").output)["shell"] == shell
