"""What a reload of a module with a small state costs its callers: `python -m bench.reload`.

An open-loop client makes 5,000 calls a second on a fixed timetable, in the host's own process: call
i is due at i / rate and its latency counts from then, so a stall is felt by all that came due. The
module is reloaded 100 times between two versions whose state has another shape, with the probe on.

One JSON line: pause and total time of the reloads, what one flush of the disk takes, each phase,
and the longest wait of a caller during the reloads beside the longest without one in the same run.
Not shown: sockets and several cores. Read times as upper bounds on a shared machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path
from time import perf_counter

from replank import Host, Phase

MODULES = Path(__file__).parents[1] / "tests" / "fixtures" / "modules" / "counter"


class Client:
    """Calls on a timetable; keeps the latencies."""

    def __init__(self, counter, rate: int) -> None:
        self.counter, self.rate = counter, rate
        self.number, self.latencies, self.running = 0, [], True
        self.pending: set[asyncio.Task] = set()
        self.failed = 0

    async def run(self) -> None:
        due = perf_counter()
        while self.running:
            now = perf_counter()
            while due <= now:
                self.number += 1
                task = asyncio.create_task(self.call(f"caller-{self.number % 50}", due))
                self.pending.add(task)
                task.add_done_callback(self.pending.discard)
                due += 1 / self.rate
            await asyncio.sleep(max(0.0, due - perf_counter()))
        await asyncio.gather(*self.pending)

    async def call(self, sender: str, due: float) -> None:
        try:
            await self.counter.add_inline(sender, self.number)
        except Exception:
            self.failed += 1
        self.latencies.append(perf_counter() - due)

    def take(self) -> list[float]:
        taken, self.latencies = sorted(self.latencies), []
        return taken


def milliseconds(values: list[float]) -> dict[str, float]:
    return {
        "median_ms": round(statistics.median(values) * 1e3, 3),
        "p95_ms": round(values[int(len(values) * 0.95)] * 1e3, 3),
        "max_ms": round(values[-1] * 1e3, 3),
    }


def medians(phases: dict[str, list[float]]) -> dict[str, float]:
    return {name: round(statistics.median(values) * 1e3, 3) for name, values in phases.items()}


def flush_ms(folder: str, times: int = 50) -> dict[str, float]:
    """Time a flush of what a commit record writes: whatever a pause does, it has one of these."""
    taken = []
    with (Path(folder) / "flushed").open("wb", buffering=0) as file:
        for _ in range(times):
            time.sleep(0.01)  # as long as others of a disk's users rest
            file.write(bytes(24 * 1024))
            began = perf_counter()
            os.fdatasync(file.fileno()) if hasattr(os, "fdatasync") else os.fsync(file.fileno())
            taken.append(perf_counter() - began)
    return milliseconds(sorted(taken))


async def measure(reloads: int, rate: int) -> dict:
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        flush = flush_ms(folder)
        async with Host({"counter": MODULES / "v1.py"}, data_dir=folder) as host:
            client = Client(host["counter"], rate)
            running = asyncio.create_task(client.run())
            await asyncio.sleep(1.0)
            client.take()
            await asyncio.sleep(2.0)
            quiet = client.take()
            reports = []
            for turn in range(reloads):
                source = MODULES / ("v2.py" if turn % 2 == 0 else "v1.py")
                reports.append(await host.reload({"counter": source}))
                await asyncio.sleep(0.05)
            busy = client.take()
            client.running = False
            await running
    paused: dict[str, list[float]] = {}
    serving: dict[str, list[float]] = {}
    for phase in (one for report in reports for one in report.phases):
        if phase.name is Phase.PREPARE:  # no call waits for any of it
            seconds = phase.seconds + phase.window_seconds
            serving.setdefault(phase.name.value, []).append(seconds)
            continue
        paused.setdefault(phase.name.value, []).append(phase.seconds)
        if phase.window_seconds:
            serving.setdefault(phase.name.value, []).append(phase.window_seconds)
    return {
        "case": "reload of a small state",
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "load_1min": [round(load_before, 2), round(os.getloadavg()[0], 2)],
        "calls_per_s": rate,
        "reloads": len(reports),
        "committed": sum(one.committed for one in reports),
        "failed_calls": client.failed,
        "flush": flush,
        "pause": milliseconds(sorted(one.pause_s for one in reports)),
        "total": milliseconds(sorted(one.total_s for one in reports)),
        "phases_serving_median_ms": medians(serving),
        "phases_paused_median_ms": medians(paused),
        "wait_of_a_call_without_reload": milliseconds(quiet),
        "wait_of_a_call_during_reloads": milliseconds(busy),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reloads", type=int, default=100)
    parser.add_argument("--rate", type=int, default=5_000, help="calls a second")
    arguments = parser.parse_args()
    print(json.dumps(asyncio.run(measure(arguments.reloads, arguments.rate))), flush=True)


if __name__ == "__main__":
    main()
