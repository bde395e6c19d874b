"""The watch over a worker, by a clock of the test's own."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from replank.config import ModuleConfig
from replank.isolation.watch import Watch

MIB = 1024 * 1024


class Worker:
    """A worker that answers, or does not."""

    def __init__(self, *, answers: bool = True, memory: int = 0, cpu_a_beat: float = 0.0) -> None:
        self.alive = True
        self.answers = answers
        self.memory = memory
        self.cpu = 0.0
        self.cpu_a_beat = cpu_a_beat
        self.resumable: tuple[str, ...] = ()
        self.state_size = (0, 0)
        self.ended = ""
        self.pings = 0

    async def request(self, name: str, *args: Any) -> Any:
        assert (name, args) == ("ping", ())
        self.pings += 1
        if not self.answers:
            await asyncio.Event().wait()
        return ("pump",), (3, 4)

    async def abort(self, because: str) -> None:
        self.ended, self.alive = because, False

    def resident_bytes(self) -> int:
        return self.memory

    def cpu_s(self) -> float:
        self.cpu += self.cpu_a_beat
        return self.cpu


class Clock:
    """Time that passes when it is waited for."""

    def __init__(self, worker: Worker, beats: int) -> None:
        self.now = 0.0
        self.worker = worker
        self.left = beats

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.left -= 1
        if not self.left:
            self.worker.alive = False
        for _ in range(3):
            await asyncio.sleep(0)

    def __call__(self) -> float:
        return self.now


async def watched(worker: Worker, beats: int = 50, **limits: Any) -> str:
    config = ModuleConfig(source="m.py", isolation="process", **limits)
    clock = Clock(worker, beats)
    await Watch(worker, lambda: config, clock.sleep, clock).run()
    return worker.ended


async def test_one_that_answers_and_takes_little_is_left_alone():
    worker = Worker(memory=10 * MIB, cpu_a_beat=0.4)
    limits = {"isolation_memory_bytes": 11 * MIB, "isolation_cpu_share": 0.5}
    assert await watched(worker, **limits) == ""
    assert (worker.resumable, worker.state_size, worker.pings) == (("pump",), (3, 4), 49)


@pytest.mark.parametrize(
    ("worker", "limits", "said"),
    [
        (
            Worker(answers=False),
            {"isolation_hang_s": 2.0},
            "its event loop did not turn for 2 s (isolation_hang_s = 2)",
        ),
        (
            Worker(memory=11 * MIB),
            {"isolation_memory_bytes": 10 * MIB},
            "it took 11 MiB of memory (isolation_memory_bytes = 10 MiB)",
        ),
        (
            Worker(cpu_a_beat=0.9),
            {"isolation_cpu_share": 0.8, "isolation_cpu_s": 5.0},
            "it used 0.90 processors for 5 s (isolation_cpu_share = 0.8)",
        ),
    ],
    ids=["hangs", "memory", "processor"],
)
async def test_one_that_hangs_or_takes_too_much_is_ended_and_told_why(worker, limits, said):
    assert await watched(worker, **limits) == said


async def test_a_short_burst_is_no_reason():
    worker = Worker(cpu_a_beat=0.9)
    assert await watched(worker, 4, isolation_cpu_share=0.8, isolation_cpu_s=5.0) == ""
