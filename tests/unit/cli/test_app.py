import asyncio
import json
import socket
import subprocess
import sys

import pytest

from replank.cli.app import app
from replank.journal.journal import JOURNAL_FILE, Journal
from replank.report import Outcome


def at(serving, *words):
    return (*words, "--data-dir", serving.data_dir)


def test_status_fits_80_columns_and_is_one_object_with_json(replank, serving):
    shown = replank(*at(serving, "status"))
    assert shown.exit_code == 0
    assert "ledger" in shown.output
    assert max(map(len, shown.output.splitlines())) <= 80
    facts = json.loads(replank(*at(serving, "status", "--json")).output)
    assert facts["modules"][0]["name"] == "ledger"
    assert facts["http"].startswith("http://127.0.0.1:")


@pytest.mark.parametrize(
    ("outcome", "code"),
    [(Outcome.COMMITTED, 0), (Outcome.ROLLED_BACK, 1), (Outcome.REJECTED, 3)],
)
def test_the_exit_code_tells_how_a_reload_ended(replank, serving, outcome, code):
    serving.host.outcome = outcome
    for words in (("reload", "ledger"), ("rollback", "ledger")):
        shown = replank(*at(serving, *words))
        assert shown.exit_code == code
        assert outcome.replace("_", " ") in shown.output
        as_json = replank(*at(serving, *words, "--json"))
        assert as_json.exit_code == code
        assert json.loads(as_json.output)["outcome"] == outcome


def test_a_reload_shows_each_phase_as_a_plain_line_off_a_terminal(replank, serving):
    lines = replank(*at(serving, "reload", "ledger")).output.splitlines()
    assert lines[0].split() == ["prepare", "done", "30", "ms", "while", "serving"]


def test_a_failed_reload_says_found_expected_now_serving_and_do(replank, serving):
    serving.host.outcome = Outcome.ROLLED_BACK
    output = replank(*at(serving, "reload", "ledger")).output
    for line in (
        "ledger: verify: check books_balance failed",
        "at: ledger.py:12",
        "found: sum 3",
        "expected: sum 4",
        "now serving: ledger 1.0 (generation 1)",
        "do: correct the migration",
    ):
        assert line in output


def test_sources_pair_with_modules(replank, serving, tmp_path):
    (tmp_path / "v2.py").touch()
    assert replank(*at(serving, "reload", "ledger", "--source", "v2.py")).exit_code == 0
    assert replank(*at(serving, "reload", "ledger=v2.py")).exit_code == 0
    assert [what for what, _ in serving.host.reloads] == [{"ledger": str(tmp_path / "v2.py")}] * 2
    for words in (("a", "b", "--source", "v2.py"), ("a=v2.py", "--source", "v2.py"), ("a", "a")):
        assert replank(*at(serving, "reload", *words)).exit_code == 2
    assert replank(*at(serving, "reload", "ledger=missing.py")).exit_code == 2
    assert len(serving.host.reloads) == 2


def test_plan_shows_what_would_happen(replank, serving):
    shown = replank(*at(serving, "plan", "ledger"))
    assert shown.exit_code == 0
    assert "1 -> 2: rename total to total_cents" in shown.output
    assert json.loads(replank(*at(serving, "plan", "ledger", "--json")).output)["accepted"]


def test_call_prints_the_answer(replank, serving):
    assert (
        replank(*at(serving, "call", "ledger", "deposit", "owner=ada", "cents=5")).output == "5\n"
    )
    assert replank(*at(serving, "call", "ledger", "deposit", "ada")).output == "6\n"
    words = ("call", "ledger", "deposit", '{"owner": "ada"}', "--json")
    assert json.loads(replank(*at(serving, *words)).output) == {"result": 7}


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("ledger", "overdraw"), 1, "Overdrawn: no money"),
        (("ledger", "deposti"), 2, "did you mean deposit?"),
        (("legder", "deposit"), 2, "did you mean ledger?"),
        (("ledger", "deposit", "owner=3"), 2, "$.owner: Expected `str`, got `int`"),
        (("ledger", "deposit", "ada", "cents=3"), 2, "do not mix"),
        (("ledger", "deposit", "{oops"), 2, "no valid JSON"),
    ],
)
def test_a_call_that_fails_says_why(replank, serving, words, code, text):
    shown = replank(*at(serving, "call", *words))
    assert shown.exit_code == code
    assert text in shown.stderr
    assert shown.stdout == ""
    as_json = replank(*at(serving, "call", *words, "--json"))
    assert as_json.exit_code == code
    assert json.loads(as_json.stdout)["error"]
    assert as_json.stderr == ""


def test_send_queues_a_message(replank, serving):
    assert replank(*at(serving, "send", "ledger", "deposit", "ada")).output == "accepted\n"
    assert serving.host.messages == [("deposit", ("ada",), {})]


def test_stop_asks_the_host_to_stop(replank, serving):
    assert replank(*at(serving, "stop")).exit_code == 0
    assert serving.stops == [1]


@pytest.mark.parametrize("command", [("status",), ("reload", "a"), ("call", "a", "b"), ("stop",)])
def test_without_a_host_every_command_says_how_to_start_one(replank, command):
    shown = replank(*command)
    assert shown.exit_code == 2
    assert "no host runs on .replank" in shown.stderr
    assert "replank run" in shown.stderr
    as_json = replank(*command, "--json")
    assert json.loads(as_json.stdout)["kind"] == "HostNotFound"


def test_history_needs_a_journal_and_not_a_host(replank):
    shown = replank("history")
    assert shown.exit_code == 2
    assert "there is no journal" in shown.stderr


def test_a_configuration_that_is_not_there_is_no_reason_to_look_elsewhere(replank):
    shown = replank("status", "--config", "nope.toml")
    assert shown.exit_code == 2
    assert "there is no configuration file nope.toml" in shown.stderr
    assert "replank init" in shown.stderr


def test_history_of_a_module_that_never_was_names_the_nearest(replank, tmp_path):
    journal = Journal(tmp_path / ".replank" / JOURNAL_FILE)
    (tmp_path / ".replank").mkdir()
    journal.open()
    asyncio.run(journal.close())
    shown = replank("history", "--module", "ledgr")
    assert shown.exit_code == 2
    assert "knows no module 'ledgr'" in shown.stderr
    assert replank("history").exit_code == 0


def test_a_digest_of_nothing_is_wrong_usage(replank):
    assert replank("digest", "nope.py").exit_code == 2


def test_check_refuses_files_that_a_start_would_miss(replank, tmp_path):
    (tmp_path / "a.py").touch()
    (tmp_path / "replank.toml").write_text("[modules]\na = 'a.py'\n")
    assert replank("config", "check").exit_code == 0
    for text, key in (
        ("[modules]\na = 'a.py'\nb = 'b.py'\n", "modules.b.source"),
        ("[modules.a]\nsource = 'a.py'\ntests = 'b.py'\n", "modules.a.tests"),
        ("[http]\n\ncertfile = 'c.pem'\n", "http.certfile"),
    ):
        (tmp_path / "replank.toml").write_text(text)
        shown = replank("config", "check")
        assert shown.exit_code == 2
        assert f"{key} names a file that is not there (replank.toml:3)" in shown.stderr


def test_run_says_what_is_wrong_with_what_it_was_given(replank, tmp_path):
    (tmp_path / "bad.toml").write_text("[reload]\nprobee = true\n")
    for words, text in (
        ((), "nothing to run"),
        (("missing.py",), "there is no file missing.py"),
        (("bad.toml",), "did you mean reload.probe?"),
        (("bad.toml", "a.py"), "not both"),
    ):
        shown = replank("run", *words)
        assert shown.exit_code == 2
        assert text in shown.stderr


def test_where_the_port_is_taken_no_module_is_started(replank, tmp_path):
    (tmp_path / "a.py").write_text("import pathlib\npathlib.Path('started').touch()\n")
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        shown = replank("run", "a.py", "--port", port)
    assert shown.exit_code == 2
    assert f"cannot listen on 127.0.0.1:{port}" in shown.stderr
    assert "--port" in shown.stderr
    assert not (tmp_path / "started").exists()
    assert not (tmp_path / ".replank").exists()


def test_a_mistake_of_ours_is_no_traceback(replank, serving, monkeypatch):
    monkeypatch.setattr("replank.control.client.Client.status", lambda self: 1 / 0)
    shown = replank(*at(serving, "status"))
    assert shown.exit_code == 4
    assert "ZeroDivisionError" in shown.stderr
    assert "REPLANK_TRACEBACK=1" in shown.stderr
    assert "Traceback" not in shown.stderr
    assert json.loads(replank(*at(serving, "status", "--json")).stdout)["kind"] == "InternalError"


def test_every_command_takes_json():
    def commands(group):
        for command in group.commands.values():
            if hasattr(command, "commands"):
                yield from commands(command)
            elif not command.context_settings.get(
                "ignore_unknown_options"
            ):  # the demo's own options are its own
                yield command

    for command in commands(app):
        assert "--json" in [o for p in command.params for o in p.opts], command.name


def test_the_command_line_loads_nothing_heavy_at_its_start():
    code = "import replank.cli.app, sys; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(found.stdout.split())
    for heavy in ("rich", "typer", "pydantic", "uvicorn", "starlette", "asyncio", "sqlite3"):
        assert heavy not in loaded
