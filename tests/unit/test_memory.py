"""Before a fork the memory lies in large pages, where the kernel can, and nothing else changes."""

from __future__ import annotations

import errno
import mmap
import subprocess
import sys

import pytest

from replank import memory
from replank.memory import gather_now, gather_pages

PROGRAM = """
import os, sys
from replank.memory import gather_now
def large():
    with open("/proc/self/smaps") as file:
        return sum(int(line.split()[1]) for line in file if line.startswith("AnonHugePages:"))
state = {n: [n, str(n)] for n in range(300_000)}
before, gathered = large(), gather_now()
assert all(state[n] == [n, str(n)] for n in range(300_000))
print(before, gathered // 1024, large())
"""


@pytest.fixture(autouse=True)
def _untried(monkeypatch):
    monkeypatch.setattr(memory, "_impossible", [])


@pytest.mark.skipif(sys.platform != "linux", reason="large pages are gathered on Linux alone")
def test_what_is_in_use_is_gathered_and_stays_what_it_is() -> None:
    if not can_gather():
        pytest.skip("this kernel cannot gather pages")
    said = subprocess.check_output([sys.executable, "-c", PROGRAM], text=True)
    before, gathered, after = map(int, said.split())
    assert gathered > 20 * 1024  # of the 40 MB
    assert after - before > gathered / 2


def can_gather() -> bool:
    part = mmap.mmap(-1, 8 * 1024 * 1024, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    part.write(b"x" * len(part))
    gather_now()
    return not memory._impossible


async def test_a_small_process_is_left_as_it_is(monkeypatch) -> None:
    monkeypatch.setattr(memory, "gather_now", lambda: pytest.fail("it was gathered"))
    monkeypatch.setattr(memory, "resident_bytes", lambda: memory.GATHER_FROM_BYTES - 1)
    await gather_pages()


async def test_a_kernel_that_cannot_is_asked_once(monkeypatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(memory, "resident_bytes", lambda: memory.GATHER_FROM_BYTES)
    monkeypatch.setattr(memory, "_parts", lambda: iter([(0, 8 << 20)]))
    monkeypatch.setattr(memory, "_collapse", lambda at: asked.append(at) or errno.EINVAL)
    for _ in range(3):
        await gather_pages()
    assert asked == [0]


def test_a_part_for_which_there_is_no_large_page_is_passed_over(monkeypatch) -> None:
    answers = {2 << 20: errno.ENOMEM, 4 << 20: 0, 6 << 20: errno.EAGAIN}
    monkeypatch.setattr(memory, "_parts", lambda: iter([((2 << 20) - 4096, (8 << 20) + 4096)]))
    monkeypatch.setattr(memory, "_collapse", answers.pop)
    assert gather_now() == 2 << 20
    assert not answers
    assert not memory._impossible


def test_a_system_that_tells_nothing_of_its_memory_has_none_gathered(monkeypatch) -> None:
    def refused(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr("builtins.open", refused)
    assert gather_now() == 0
