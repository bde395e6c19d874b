"""What a broken candidate costs the callers of the version that serves: `python -m bench.broken`.

Every broken file of `tests/fixtures/modules/broken` is offered 20 times under calls on a fixed
timetable (1,000 a second in the host's own process; a call's wait counts from when it was due), and
after each the next good edit. One JSON line for each file: how the reloads ended, the longest wait
of a call meanwhile and how many waited for more than 5 ms; the last line is the same time without a
reload, the calls that failed, and whether the module's own sum is that of all answered calls.

Not shown: what several cores or sockets add. On a shared machine read the waits beside those of the
quiet time of the same run, which lie in the last line.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from time import perf_counter
from typing import Any

from bench.reload import MODULES, Client
from replank import Host
from replank.config import Config, ReloadConfig

LATE_S = 0.005
QUIET_S = 5.0
CONFIG = Config(reload=ReloadConfig(probe_timeout_s=1.0, probe_memory_bytes=256 * 1024 * 1024))


class Accountant(Client):
    """Keeps the sum of the numbers whose calls were answered."""

    answered = 0

    async def call(self, sender: str, due: float) -> None:
        number = self.number
        try:
            await self.counter.add_inline(sender, number)
            self.answered += number
        except Exception:
            self.failed += 1
        self.latencies.append(perf_counter() - due)


def waits(latencies: list[float]) -> dict[str, float]:
    """Say how long calls waited."""
    return {
        "calls": len(latencies),
        "median_ms": round(latencies[len(latencies) // 2] * 1e3, 3),
        "longest_ms": round(latencies[-1] * 1e3, 3),
        "over_5_ms": sum(one > LATE_S for one in latencies),
    }


class Case:
    """One broken file, offered again and again.

    Args:
        host: Serves the counter from `source`.
        source: Path of the module's source.
        client: Calls it.
    """

    def __init__(self, host: Host, source: Path, client: Accountant) -> None:
        self.host, self.source, self.client = host, source, client
        self.turn = 0

    async def offer(self, broken: Path, times: int) -> dict[str, Any]:
        """Offer a file, then a good edit, and say what it cost."""
        outcomes: Counter[str] = Counter()
        mended = 0
        latencies: list[float] = []
        slowest_s = 0.0
        for _ in range(times):
            shutil.copy(broken, self.source)
            await asyncio.sleep(0.02)
            self.client.take()
            began = perf_counter()
            report = await self.host.reload("counter")
            slowest_s = max(slowest_s, perf_counter() - began)
            latencies += self.client.take()
            outcomes[str(report.outcome)] += 1
            self.turn += 1
            shutil.copy(MODULES / ("v2.py" if self.turn % 2 else "v1.py"), self.source)
            mended += (await self.host.reload("counter")).committed
        facts = {"candidate": broken.stem, "times": times, "outcomes": dict(outcomes)}
        slowest = {"slowest_answer_s": round(slowest_s, 3)}
        return {**facts, "next_edit_committed": mended, **slowest, **waits(sorted(latencies))}


async def measure(names: list[str], times: int, rate: int) -> None:
    """Print a line for each broken file, and one for the whole run."""
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "counter.py"
        shutil.copy(MODULES / "v1.py", source)
        async with Host({"counter": source}, data_dir=f"{folder}/data", config=CONFIG) as host:
            client = Accountant(host["counter"], rate)
            calling = asyncio.create_task(client.run())
            await asyncio.sleep(1.0)
            client.take()
            await asyncio.sleep(QUIET_S)
            quiet = waits(client.take())
            case = Case(host, source, client)
            for name in names:
                row = await case.offer(MODULES.parent / "broken" / f"{name}.py", times)
                print(json.dumps(row), flush=True)
            client.running = False
            await calling
            account = await host["counter"].account()
    last = {
        "case": "broken candidates",
        "python": platform.python_version(),
        "load_1min": [round(load_before, 2), round(os.getloadavg()[0], 2)],
        "calls_per_s": rate,
        "failed_calls": client.failed,
        "sum_is_exact": account["sum"] == client.answered,
        "without_a_reload": quiet,
    }
    print(json.dumps(last), flush=True)


def main() -> None:
    every = sorted(one.stem for one in (MODULES.parent / "broken").glob("*.py"))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(every)}")
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--rate", type=int, default=1_000, help="calls a second")
    options = parser.parse_args()
    if unknown := set(options.names) - set(every):
        parser.error(f"no such candidates: {', '.join(sorted(unknown))}")
    asyncio.run(measure(options.names or every, options.times, options.rate))


if __name__ == "__main__":
    main()
