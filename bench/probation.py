"""What probation does with planted faults, and with nothing: `python -m bench.probation`.

A whole host, with the probe on and every limit of `[probation]` at its default. Callers call on
and on; the version that fails is committed, trips and is sent back by itself. Planted are 5 % of
errors, three times the latency (1 ms, then 3 ms, of waiting), and a slow leak of 10 kB a call.

- `rollback_s`: from the commit to the old version serving again, median and longest.
- `hurt`: the calls that noticed: those that failed, those that took the longer time; of the leak
  none does, so what was kept in memory stands there instead (`held_mb`).
- `sent_back`: how many of the trials were noticed within 20 s; the other columns are of these.
- `lost`: answered writes that are missing afterwards; must be 0.

Then `unchanged`: the same code again, only its label is new, on ten modules side by side, while
something else takes the processor and the event loop in bursts. None may be sent back.

What it does not show: faults that come after the probation, and a leak of C code.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

from replank.config import Config, ReloadConfig
from replank.host import Host
from replank.instrumentation.events import Event, ProbationEnded, ReloadEnded
from replank.report import ReloadReport

CALLERS = 8
MODULES = 10
LEAKED_BYTES = 10_000
UNCHANGED_S = 3.0
GIVEN_UP_S = 20.0
"""Seconds after which a planted fault counts as not noticed."""

TILL = """
import asyncio, random
from replank import Module
KEPT = []
DICE = random.Random({seed})
class Till(Module, version="{label}"):
    cents: int = 0
    async def pay(self, cents: int) -> int:
        await asyncio.sleep({wait_s})
        self.cents += cents
        {fault}
        return self.cents
    async def total(self) -> int:
        return self.cents
"""
ERRORS = "if DICE.random() < 0.05: raise RuntimeError('planted')"
LEAK = f"KEPT.append(bytes({LEAKED_BYTES}))"
FAULTS = {
    "5 % errors": {"fault": ERRORS},
    "3 times the latency": {"wait_s": 0.003},
    "a leak of 10 kB a call": {"fault": LEAK},
}
BURSTS = """
import random, sys, time
dice = random.Random(int(sys.argv[1]))
while True:
    until = time.monotonic() + dice.uniform(0.01, 0.3)
    while time.monotonic() < until: pass
    time.sleep(dice.uniform(0.01, 0.3))
"""


def till(label: str, *, seed: int, fault: str = "pass", wait_s: float = 0.001) -> str:
    return TILL.format(label=label, seed=seed, fault=fault, wait_s=wait_s)


@dataclass
class Callers:
    """Callers of one module, for as long as the block runs."""

    host: Host
    name: str
    answered: int = 0
    failed: int = 0
    slow: int = 0
    _stop: bool = field(default=False)

    @asynccontextmanager
    async def calling(self, seed: int, count: int = CALLERS) -> AsyncIterator[Callers]:
        tasks = [asyncio.create_task(self._call(random.Random(seed + n))) for n in range(count)]
        try:
            yield self
        finally:
            self._stop = True
            await asyncio.gather(*tasks)

    async def _call(self, dice: random.Random) -> None:
        while not self._stop:
            began = perf_counter()
            try:
                await self.host[self.name].pay(1)
                self.answered += 1
            except RuntimeError:
                self.failed += 1
            self.slow += perf_counter() - began >= 0.003
            await asyncio.sleep(dice.uniform(0.001, 0.005))


@dataclass
class Told:
    """What the host tells of one module's reloads."""

    ended: asyncio.Queue[ReloadEnded] = field(default_factory=asyncio.Queue)
    probations: asyncio.Queue[ProbationEnded] = field(default_factory=asyncio.Queue)

    def note(self, event: Event) -> None:
        if isinstance(event, ReloadEnded):
            self.ended.put_nowait(event)
        elif isinstance(event, ProbationEnded):
            self.probations.put_nowait(event)


async def planted(changes: dict, seed: int) -> dict:
    """Plant one fault; return what became of it."""
    with tempfile.TemporaryDirectory(prefix="replank-probation-") as folder:
        source = Path(folder) / "till.py"
        source.write_text(till("1", seed=seed))
        config = Config(reload=ReloadConfig(probation_s=60.0))
        async with Host({"till": source}, data_dir=Path(folder) / "data", config=config) as host:
            return await _planted(host, source, changes, seed)


async def _planted(host: Host, source: Path, changes: dict, seed: int) -> dict:
    told, callers = Told(), Callers(host, "till")
    async with callers.calling(seed):
        await asyncio.sleep(0.3)
        host.subscribe(told.note)
        report = await _reload(host, source, till("2", seed=seed, **changes))
        committed_at = perf_counter()
        assert report.committed, report.error
        before = (callers.answered, callers.failed, callers.slow)
        await told.ended.get()  # its own
        with contextlib.suppress(TimeoutError):  # then it was not noticed
            async with asyncio.timeout(GIVEN_UP_S):
                await told.ended.get()
        seconds = perf_counter() - committed_at
        answered, failed, slow = (
            now - was
            for now, was in zip(
                (callers.answered, callers.failed, callers.slow), before, strict=True
            )
        )
    written = callers.answered + callers.failed  # a failed call has written, as planted
    return {
        "seconds": seconds,
        "calls": answered + failed,
        "failed": failed,
        "slow": slow,
        "lost": written - await host["till"].total(),
        "back": host.status().modules[0].label == "1",
    }


async def _reload(host: Host, source: Path, text: str) -> ReloadReport:
    await asyncio.to_thread(source.write_text, text)
    return await host.reload("till")


def row(planted_: str, trials: list[dict]) -> dict:
    hurt = {"5 % errors": "failed", "3 times the latency": "slow"}.get(planted_)
    noticed = [one for one in trials if one["back"]] or trials
    seconds = [one["seconds"] for one in noticed]
    calls = [one["calls"] for one in noticed]
    found = {
        "planted": planted_,
        "trials": len(trials),
        "sent_back": sum(one["back"] for one in trials),
        "rollback_s": {
            "median": round(statistics.median(seconds), 2),
            "max": round(max(seconds), 2),
        },
        "calls_median": int(statistics.median(calls)),
        "lost": sum(one["lost"] for one in trials),
    }
    if hurt is not None:
        found["hurt_median"] = int(statistics.median(one[hurt] for one in noticed))
        found["hurt_max"] = max(one[hurt] for one in noticed)
    else:
        found["held_mb"] = round(max(calls) * LEAKED_BYTES / 1e6, 1)
    return found


@contextmanager
def noise(seed: int) -> Iterator[None]:
    """Take the processor in bursts, from another process."""
    other = subprocess.Popen([sys.executable, "-c", BURSTS, str(seed)])
    try:
        yield
    finally:
        other.kill()
        other.wait()


async def _hold_the_loop(dice: random.Random) -> None:
    """Hold the event loop for up to 8 ms now and then, as code does that computes."""
    while True:
        await asyncio.sleep(dice.uniform(0.01, 0.2))
        until = perf_counter() + dice.uniform(0, 0.008)
        while perf_counter() < until:
            pass


async def unchanged(trials: int, seed: int) -> dict:
    """Reload what has not changed, under noise; return how often it was sent back."""
    rounds = -(-trials // MODULES)
    told = Told()
    with tempfile.TemporaryDirectory(prefix="replank-probation-") as folder, noise(seed):
        sources = {f"till{n}": Path(folder) / f"till{n}.py" for n in range(MODULES)}
        for source in sources.values():
            source.write_text(till("0", seed=seed))
        config = Config(reload=ReloadConfig(probation_s=UNCHANGED_S))
        async with Host(sources, data_dir=Path(folder) / "data", config=config) as host:
            host.subscribe(told.note)
            holding = asyncio.create_task(_hold_the_loop(random.Random(seed)))
            reports = [
                report
                for number in range(1, rounds + 1)
                for report in await _round(host, sources, told, number, seed)
            ]
            holding.cancel()
    calls = [one for report in reports for one in report.calls if one.call == "pay"]
    return {
        "planted": "nothing, under noise",
        "trials": len(reports),
        "sent_back": sum(one.state == "tripped" for one in reports),
        "said_slower": sum(one.slower is not None for one in calls),
        "said_growing": sum(bool(one.growing) for one in reports),
        "judged": sum(one.unjudged is None for one in calls),
        "calls_looked_at": sum(one.calls_after for one in calls),
        "causes": [one.tripped for one in reports if one.tripped],
    }


async def _round(host: Host, sources: dict[str, Path], told: Told, number: int, seed: int) -> list:
    async with _all_calling(host, sources, seed):
        for source in sources.values():
            source.write_text(till(str(number), seed=seed))
        for report in await asyncio.gather(*(host.reload(name) for name in sources)):
            assert report.committed, report.error
        return [(await told.probations.get()).report for _ in sources]


@asynccontextmanager
async def _all_calling(host: Host, names: dict[str, Path], seed: int) -> AsyncIterator[None]:
    callers = [Callers(host, name).calling(seed, count=2) for name in names]
    for one in callers:
        await one.__aenter__()
    try:
        await asyncio.sleep(0.2)
        yield
    finally:
        for one in callers:
            await one.__aexit__(None, None, None)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=10, help="Trials of each planted fault.")
    parser.add_argument("--trials", type=int, default=100, help="Trials of an unchanged version.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="Two of each fault, 10 unchanged.")
    given = parser.parse_args()
    repeats, trials = (2, 10) if given.quick else (given.repeats, given.trials)
    python = ".".join(map(str, sys.version_info[:3]))
    rows = []
    for planted_, changes in FAULTS.items():
        found = [asyncio.run(planted(changes, given.seed + n)) for n in range(repeats)]
        rows.append(row(planted_, found))
        _say(rows[-1], python)
    rows.append(asyncio.run(unchanged(trials, given.seed)))
    _say(rows[-1], python)
    wrong = [one for one in rows[:-1] if one["sent_back"] != one["trials"] or one["lost"]]
    return 1 if wrong or rows[-1]["sent_back"] else 0


def _say(found: dict, python: str) -> None:
    print(json.dumps({"python": python, **found}), flush=True)
    print(f"load average {os.getloadavg()[0]:.1f}", file=sys.stderr)


if __name__ == "__main__":
    raise SystemExit(main())
