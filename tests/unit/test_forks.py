"""A forked child works on a copy of one moment, touches nothing, and never outlives its parent."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from replank.errors import InternalError, MigrationError, PhaseTimeout
from replank.forks import ChildDied, Fork, can_fork

LIMIT_S = 30.0


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


async def test_the_child_sees_one_moment_and_its_answer_comes_back_whole() -> None:
    state = {"n": 1}
    fork = Fork(lambda: f"{state['n']}".encode() * 300_000, "the child")
    state["n"] = 2
    assert await fork.answer(LIMIT_S) == b"1" * 300_000
    assert fork.pause_s > 0
    assert gone(fork.pid)


async def test_the_loop_serves_while_the_child_works() -> None:
    read, write = os.pipe()
    fork = Fork(lambda: os.read(read, 1), "the child", keep=[read])
    answer = asyncio.ensure_future(fork.answer(LIMIT_S))
    for _ in range(50):
        await asyncio.sleep(0)
    assert not answer.done()
    os.write(write, b"x")
    assert await answer == b"x"
    os.close(read)
    os.close(write)


async def test_an_error_of_ours_comes_back_with_all_its_facts() -> None:
    def work() -> bytes:
        raise MigrationError("a step", module="m", found="\udc80", expected="e", do="d")

    with pytest.raises(MigrationError) as raised:
        await Fork(work, "the child").answer(LIMIT_S)
    error = raised.value
    assert (error.what, error.module, error.expected, error.do) == ("a step", "m", "e", "d")


async def test_any_other_error_is_told_with_its_type() -> None:
    def work() -> bytes:
        raise SystemExit("leave")

    with pytest.raises(InternalError, match="SystemExit: leave"):
        await Fork(work, "the child").answer(LIMIT_S)


async def test_a_child_that_is_killed_or_exits_is_told() -> None:
    def work() -> bytes:
        os.kill(os.getpid(), signal.SIGKILL)
        return b""

    with pytest.raises(ChildDied, match="exit status -9"):
        await Fork(work, "the child").answer(LIMIT_S)
    with pytest.raises(ChildDied, match="exit status 7"):
        await Fork(lambda: os._exit(7), "the child").answer(LIMIT_S)


async def test_what_asks_the_host_to_stop_lets_the_child_finish() -> None:
    def work() -> bytes:
        for one in (signal.SIGINT, signal.SIGTERM):
            os.kill(os.getpid(), one)
        return b"finished"

    assert await Fork(work, "the child").answer(LIMIT_S) == b"finished"


async def test_a_child_that_never_ends_is_ended() -> None:
    fork = Fork(lambda: signal.pause() or b"", "the child")
    with pytest.raises(PhaseTimeout, match="did not end in time"):
        await fork.answer(0.05)
    assert gone(fork.pid)


async def test_who_no_longer_waits_ends_the_child() -> None:
    fork = Fork(lambda: signal.pause() or b"", "the child")
    waiting = asyncio.ensure_future(fork.answer(LIMIT_S))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert gone(fork.pid)


async def test_a_connection_that_the_parent_closes_ends_although_the_child_lives() -> None:
    ours, theirs = socket.socketpair()
    read, write = os.pipe()
    fork = Fork(lambda: os.read(read, 1), "the child", keep=[read])
    theirs.sendall(b"still here")
    assert ours.recv(20) == b"still here"
    ours.close()
    theirs.settimeout(10)
    assert theirs.recv(1) == b""
    os.write(write, b"x")
    assert await fork.answer(LIMIT_S) == b"x"
    for fd in (read, write):
        os.close(fd)
    theirs.close()


async def test_every_descriptor_of_the_parent_leads_nowhere_in_the_child(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file:
        number = file.fileno()

        def work() -> bytes:
            os.write(number, b"never")
            return bytes(Path(f"/proc/self/fd/{number}").readlink())

        assert await Fork(work, "the child").answer(LIMIT_S) == os.devnull.encode()
    assert (tmp_path / "file").read_text() == ""


async def test_the_collector_is_as_before_and_threads_do_not_matter() -> None:
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    try:
        assert gc.isenabled()
        assert await Fork(lambda: str(gc.isenabled()).encode(), "x").answer(LIMIT_S) == b"False"
        assert gc.isenabled()
    finally:
        stop.set()
        thread.join()


async def test_a_process_that_cannot_be_copied_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> int:
        raise BlockingIOError("no more processes")

    before = set(Path("/proc/self/fd").iterdir())
    monkeypatch.setattr(os, "fork", refuse)
    with pytest.raises(BlockingIOError):
        Fork(lambda: b"", "the child")
    assert set(Path("/proc/self/fd").iterdir()) == before
    assert can_fork()
    loop: Any = asyncio.get_running_loop()
    loop.runs_alone = True
    assert not can_fork()
    del loop.runs_alone
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not can_fork()


ORPHAN = """
import asyncio, os, signal, sys
from replank.forks import Fork
async def main():
    out = os.dup(1)
    Fork(lambda: (os.write(out, b"alive"), signal.pause()) and b"", "x", keep=[out])
    os.close(out)
    signal.pause()
asyncio.run(main())
"""


def test_a_child_ends_with_its_parent_even_by_kill_9() -> None:
    process = subprocess.Popen([sys.executable, "-c", ORPHAN], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.read(5) == b"alive"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.stdout.read() == b""  # ends only when the child's copy is closed, too
    process.stdout.close()
