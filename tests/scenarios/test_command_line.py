"""The command line as a user has it: real processes, one host, one folder."""

import json
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest

LEDGER = """
from replank import Module


class Ledger(Module, version="1.0", schema=1):
    total: int = 0

    async def deposit(self, owner: str, cents: int = 1) -> int:
        self.total += cents
        return self.total
"""


class Folder:
    def __init__(self, path):
        self.path = path
        self.source = path / "ledger.py"
        self.source.write_text(LEDGER)
        (path / "replank.toml").write_text('[modules]\nledger = "ledger.py"\n[http]\nport = 0\n')

    def edit(self, old, new):
        self.source.write_text(self.source.read_text().replace(old, new))

    def command(self, *words):
        return [sys.executable, "-m", "replank", *words]

    def replank(self, *words):
        return subprocess.run(
            self.command(*words),
            cwd=self.path,
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )

    @contextmanager
    def host(self, *words, end=signal.SIGTERM):
        process = subprocess.Popen(
            self.command("run", *words, "--json"),
            cwd=self.path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            started = process.stdout.readline()
            assert started, process.stderr.read()
            yield json.loads(started)
            process.send_signal(end)
            rest, log = process.communicate(timeout=50)
            assert process.returncode == 0, log
            assert rest == ""
            self.log = log
            assert "Traceback" not in log
        finally:
            process.kill()
            process.communicate()


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path)


def test_a_host_is_run_reloaded_stopped_and_started_again_with_its_state(folder):
    with folder.host() as started:
        assert started["differing"] == []
        assert folder.replank("call", "ledger", "deposit", "ada", "5").stdout == "5\n"
        refused = folder.replank("run", "--json")
        assert refused.returncode == 2
        assert json.loads(refused.stdout)["found"] == f"pid {started['pid']}"
        folder.edit("1.0", "2.0")
        report = folder.replank("reload", "ledger", "--json")
        assert report.returncode == 0
        assert json.loads(report.stdout)["outcome"] == "committed"
        folder.edit("class", "klass")
        broken = folder.replank("reload", "ledger")
        assert broken.returncode == 3
        assert "ledger.py:" in broken.stdout
        assert "now serving: ledger 2.0" in broken.stdout
    assert folder.replank("status").returncode == 2
    reloads = json.loads(folder.replank("history", "--json").stdout)["reloads"]
    assert [reload["outcome"] for reload in reloads] == ["rejected", "committed", "committed"]
    with folder.host(end=signal.SIGINT) as started:
        assert started["differing"] == ["ledger"]
        assert started["modules"][0]["label"] == "2.0"
        assert folder.replank("call", "ledger", "deposit", "ada", "5").stdout == "10\n"


def test_what_init_writes_runs_at_once_and_does_what_it_says(tmp_path):
    folder = Folder(tmp_path)
    assert folder.replank("init", "--force").returncode == 0
    toml = tmp_path / "replank.toml"
    text = (
        toml.read_text()
        .replace("port = 8321", "port = 0")
        .replace('# log = "text"', 'log = "json"')
    )
    toml.write_text(text)
    folder.source = tmp_path / "counter.py"
    with folder.host() as started:
        assert folder.replank("call", "counter", "increment").stdout == "1\n"
        folder.edit("by: int = 1", "by: int = 10")
        folder.edit('"1.0"', '"1.1"')
        assert folder.replank("reload", "counter").returncode == 0
        assert folder.replank("call", "counter", "increment").stdout == "11\n"
        found = json.loads(folder.replank("events", "--type", "ReloadEnded", "--json").stdout)
        assert found["events"][0]["report"]["outcome"] == "committed"
        doctor = folder.replank("doctor", "--json")
        assert doctor.returncode == 0, doctor.stdout
        [host] = [one for one in json.loads(doctor.stdout)["findings"] if one["what"] == "host"]
        assert f"pid {started['pid']} answers" in host["found"]
        assert "counter" in folder.replank("top", "--once").stdout
    assert folder.log.count('"type":"ReloadEnded"') == 1


def test_a_host_is_stopped_by_a_command(folder):
    with folder.host() as started:
        assert folder.replank("stop", "--json").stdout == '{"stopping":true}\n'
    assert started["http"].startswith("http://127.0.0.1:")


def test_a_host_that_watches_reloads_what_is_saved_and_says_so(folder):
    process = subprocess.Popen(
        folder.command("run", "--watch"),
        cwd=folder.path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        while "save a file to reload it" not in process.stdout.readline():
            assert process.poll() is None, process.stderr.read()
        folder.edit("1.0", "2.0")
        seen = []
        while not any("committed" in line for line in seen):
            seen.append(process.stderr.readline())
            assert seen[-1], seen
        assert any("changed: ledger.py; reloading ledger" in line for line in seen)
        assert '"label":"2.0"' in folder.replank("status", "--json").stdout
        process.send_signal(signal.SIGTERM)
        assert process.wait(50) == 0
    finally:
        process.kill()
        process.communicate()
