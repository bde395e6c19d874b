"""The demo's processes: found, told apart, and never left behind."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from replank.control.locate import Contact, write_contact
from replank.demo.processes import (
    Address,
    DemoFailed,
    HostProcess,
    LoadProcess,
    end,
    read_address,
)
from tests.unit.demo.fake_shop import FakeShop


def contact(folder: Path, url: str | None) -> None:
    write_contact(folder, Contact(pid=1, socket="s", http=url, version="0"))


@pytest.mark.parametrize("url", ["http://127.0.0.1:8321", "http://[::1]:8321"])
def test_the_address_is_read_from_what_the_host_wrote(tmp_path: Path, url: str) -> None:
    contact(tmp_path, url)
    address = read_address(tmp_path)
    assert address is not None
    assert address.port == 8321
    assert address.host in {"127.0.0.1", "::1"}


def test_a_host_without_http_has_no_address(tmp_path: Path) -> None:
    contact(tmp_path, None)
    assert read_address(tmp_path) is None


def test_a_half_written_contact_is_no_address_yet(tmp_path: Path) -> None:
    (tmp_path / "control.json").write_text("{")
    assert read_address(tmp_path) is None


def test_without_a_contact_there_is_no_address(tmp_path: Path) -> None:
    assert read_address(tmp_path) is None


async def test_a_process_is_asked_to_end() -> None:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", "input()", stdin=PIPE)
    await end(process)
    assert process.returncode is not None
    await end(process)  # and once more does no harm


async def test_a_process_that_does_not_listen_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("replank.demo.processes.STOP_TIMEOUT_S", 0.05)
    deaf = (
        "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); "
        "signal.pause()"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", deaf, stdout=PIPE)
    assert process.stdout is not None
    await process.stdout.readline()
    await end(process)
    assert process.returncode == -9


async def test_a_host_that_cannot_start_is_told_with_its_own_words(tmp_path: Path) -> None:
    (tmp_path / "replank.toml").write_text("[modules]\nledger = 'nowhere.py'\n")
    with pytest.raises(DemoFailed, match="ended at once") as caught:
        async with HostProcess(tmp_path).running():
            pass
    assert caught.value.found


async def test_the_load_process_sends_until_it_is_told_to_stop() -> None:
    told = []
    load = LoadProcess(told.append)
    async with FakeShop().serving() as port:
        arguments = ("--callers", "2", "--senders", "1", "--rate", "200")
        async with load.running(Address("127.0.0.1", port), arguments):
            await load.flowing.wait()
            await load.say("reload")
            await load.say("reloaded")
            verdict = await load.verdict()
    assert verdict.clean, verdict
    assert told
    assert told[-1].answered > 0


async def test_a_load_process_that_dies_is_told() -> None:
    load = LoadProcess(lambda _: None)
    with pytest.raises(DemoFailed, match="without a verdict"):
        async with load.running(Address("127.0.0.1", 1), ("--no-such-option",)):
            await load.verdict()


async def interrupted(load: LoadProcess, port: int) -> None:
    async with load.running(Address("127.0.0.1", port), ()):
        await load.flowing.wait()
        raise KeyboardInterrupt


async def test_the_load_process_ends_when_the_demo_is_interrupted() -> None:
    load = LoadProcess(lambda _: None)
    async with FakeShop().serving() as port:
        with pytest.raises(KeyboardInterrupt):
            await interrupted(load, port)
    assert load._process is not None
    assert load._process.returncode is not None
