"""A real Chromium and a real host; skipped, with the reason, where there is none."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

LEDGER = """
from replank import Module, Record, Table, check, query


class Account(Record):
    owner: str
    cents: int = 0


class Ledger(Module, version="1.0", schema=1):
    accounts: Table[str, Account]

    async def deposit(self, owner: str, cents: int) -> int:
        account = self.accounts.setdefault(owner, Account(owner))
        account.cents += cents
        return account.cents

    @query
    async def balance(self, owner: str) -> int:
        return self.accounts[owner].cents

    @check
    async def nobody_is_overdrawn(self) -> bool:
        return all(one.cents >= 0 for one in self.accounts.values())
"""


class Served:
    """A host in a process of its own, on one port for all its lives."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.source = folder / "ledger.py"
        self.source.write_text(LEDGER)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        (folder / "replank.toml").write_text(
            f'[modules]\nledger = "ledger.py"\n[reload]\nprobation_s = 300\nverify_timeout_s = 60\n'
            f"[http]\nport = {port}\ndashboard = true\n"
        )
        self.process = None

    def start(self) -> dict:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "replank", "run", "--json"],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        line = self.process.stdout.readline()
        assert line, "the host does not serve"
        self.started = json.loads(line)
        return self.started

    def stop(self) -> None:
        if self.process is None:
            return
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)
        self.process.stdout.close()
        self.process = None

    def ask(self, path: str, body: dict | None = None, *, token: bool = True) -> dict:
        """Ask the host as another program would: what the page shows must come from there."""
        request = urllib.request.Request(
            self.started["http"] + path,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.token}"} if token else {},
        )
        with urllib.request.urlopen(request, timeout=50) as answer:
            return json.load(answer)

    def reload(self, *names: str) -> dict:
        return self.ask("/control/reload", {"modules": list(names), "reason": "cli"})

    @property
    def serving(self) -> str:
        """The label of the version that serves."""
        return self.ask("/control/status")["modules"][0]["label"]

    def edit(self, old: str, new: str) -> None:
        text = self.source.read_text()
        assert old in text
        self.source.write_text(text.replace(old, new))

    @property
    def token(self) -> str:
        return (self.folder / ".replank" / "token").read_text().strip()

    @property
    def link(self) -> str:
        return f"{self.started['dashboard']}#token={self.token}"


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed: apt-get install chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        pytest.skip("playwright is not installed: pip install -r requirements/optional.txt")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=list(FLAGS), env=dict(os.environ)
        )
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def host(browser, tmp_path_factory):
    host = Served(tmp_path_factory.mktemp("served"))
    host.start()
    yield host
    host.stop()


@pytest.fixture
def served(host):
    """The host with the first version serving, whatever the test before did."""
    if host.process is None:
        host.start()
    if host.source.read_text() != LEDGER:
        host.source.write_text(LEDGER)
        assert host.reload("ledger")["outcome"] == "committed"
    return host


@pytest.fixture
def page(browser, served):
    """The page, signed in; fails the test when it asked anybody else or logged an error."""
    context = browser.new_context()
    page = context.new_page()
    asked, wrong = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto(served.link)
    page.get_by_role("heading", name="Serving").wait_for()
    yield page
    context.close()
    assert not wrong
    assert asked
    elsewhere = [url for url in asked if not url.startswith(served.started["http"] + "/")]
    assert not elsewhere
