"""The demo and the self-checks for real: processes, HTTP, reloads under load."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from replank.demo.concurrent import concurrent_reload
from replank.demo.stateful import stateful_reload

REPLANK = (sys.executable, "-m", "replank")


@pytest.mark.timeout(120)
async def test_the_demo_loses_nothing_and_every_reload_ends_as_planned(tmp_path: Path) -> None:
    kept = tmp_path / "shop"
    process = await asyncio.create_subprocess_exec(
        *REPLANK,
        *("demo", "--json", "--seconds", "6", "--keep", str(kept)),
        stdout=PIPE,
        stderr=PIPE,
    )
    output, errors = await process.communicate()
    log = (kept / "host.log").read_text()
    assert process.returncode == 0, (output, errors, log)
    facts = json.loads(output)
    assert facts["ok"]
    assert facts["calls"] == facts["answered"] > 1000
    zero = ("lost", "duplicated", "reordered", "failed", "stale_answers", "mixed_answers")
    assert [facts[key] for key in zero] == [0] * len(zero)
    assert facts["state_ok"]
    outcomes = [report["outcome"] for report in facts["reloads"]]
    assert outcomes == ["committed", "rolled_back", "rejected", "committed"]
    assert facts["state"]["versions"] == ["1.0", "2.0", "5.0"]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_an_interrupted_demo_leaves_no_process_behind(
    tmp_path: Path, number: signal.Signals
) -> None:
    kept = tmp_path / "shop"
    process = await asyncio.create_subprocess_exec(
        *REPLANK,
        *("demo", "--seconds", "30", "--keep", str(kept)),
        stdout=PIPE,
        stderr=PIPE,
    )
    assert process.stdout is not None
    while b" answered " not in await process.stdout.readline():
        assert process.returncode is None
    host = json.loads((kept / ".replank" / "control.json").read_bytes())["pid"]
    process.send_signal(number)
    _, errors = await process.communicate()
    assert process.returncode == 130, errors
    assert b"have been stopped" in errors
    with pytest.raises(ProcessLookupError):
        os.kill(host, 0)


@pytest.mark.timeout(60)
async def test_a_port_in_use_is_told(tmp_path: Path) -> None:
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        *REPLANK, *("demo", "--seconds", "4", "--port", str(port)), stdout=PIPE, stderr=PIPE
    )
    _, errors = await process.communicate()
    server.close()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(server.wait_closed(), 1)
    assert process.returncode == 1
    assert str(port).encode() in errors


@pytest.mark.timeout(120)
async def test_state_is_exact_after_each_of_twenty_reloads(tmp_path: Path) -> None:
    result = await stateful_reload(tmp_path, reloads=20)
    assert result.ok, result.lines()
    assert (result.committed, result.rolled_back) == (16, 4)


@pytest.mark.timeout(120)
async def test_eight_modules_reload_at_once_and_none_waits_for_the_busy_one(
    tmp_path: Path,
) -> None:
    result = await concurrent_reload(tmp_path, modules=8, rounds=2)
    assert result.ok, result.lines()
    assert result.at_once == 8
    assert result.others_ms < result.held_ms
