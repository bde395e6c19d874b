"""`replank modules test-concurrent-reload`: many modules at once, none waits for another."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import msgspec

from replank.config import Config, ReloadConfig
from replank.demo.accounting import Sent, Tally, compare
from replank.demo.story import lay
from replank.host import Host
from replank.instrumentation.events import Event, ReloadEnded, ReloadStarted
from replank.report import ReloadReport

CALLERS = 4
HOLD_S = 1.0
TIMES_SLOWEST = 3.0
HOLD_MAX_S = 60.0
FAULTS_KEPT = 10


class ConcurrentResult(msgspec.Struct, frozen=True, kw_only=True):
    """What `test-concurrent-reload` found."""

    modules: int
    rounds: int
    reloads: int
    at_once: int
    """The most reloads that ran at one moment."""
    held_ms: float
    """How long the reload of the one busy module took."""
    others_ms: float
    """How long the slowest other reload took meanwhile."""
    calls: int
    pause_ms_max: float
    elapsed_s: float
    """All rounds, from the first request to the last answer."""
    added_up_s: float
    """The same reloads, one after the other."""
    faults: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether all ran at once and nothing was lost."""
        return not self.faults

    def to_dict(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        return {"ok": self.ok, **msgspec.to_builtins(self)}

    def lines(self) -> list[str]:
        """Return the summary for people."""
        return [
            (
                f"{self.modules} modules, {self.reloads} reloads in {self.rounds} rounds; "
                f"{self.at_once} ran at the same time"
            ),
            (
                f"{self.elapsed_s:.2f} s in all; one after the other they add up to "
                f"{self.added_up_s:.2f} s"
            ),
            (
                f"one module was busy: its reload took {self.held_ms:.0f} ms, the slowest "
                f"other one {self.others_ms:.0f} ms meanwhile"
            ),
            f"{self.calls} calls meanwhile, "
            + ("each answered once and in order" if self.ok else "NOT all as they must be")
            + f"; longest pause {self.pause_ms_max:.2f} ms (the busy module left out)",
            *(f"FAULT {fault}" for fault in self.faults),
            "ok" if self.ok else "FAILED",
        ]


async def concurrent_reload(folder: Path, *, modules: int = 8, rounds: int = 5) -> ConcurrentResult:
    """Reload many modules at once, under load, one of them busy.

    Args:
        folder: An empty folder.
        modules: How many modules.
        rounds: How often each is reloaded.
    """
    sources = {version: lay(folder, "counter", version) for version in ("v1", "v2")}
    names = [f"counter{number + 1}" for number in range(modules)]
    config = Config(reload=ReloadConfig(drain_timeout_s=HOLD_MAX_S))
    async with Host(
        dict.fromkeys(names, sources["v1"]), config=config, data_dir=folder / ".replank"
    ) as host:
        overlap = Overlap()
        unsubscribe = host.subscribe(overlap.note)
        load = CounterLoad(host, names)
        async with asyncio.TaskGroup() as group:
            load.start(group)
            began = time.monotonic()
            reports: list[list[ReloadReport]] = []
            for number in range(rounds):
                target = sources["v2" if number % 2 == 0 else "v1"]
                # In the last round one module is busy: for so long that on a machine of this
                # speed all others have ended by far, if they do not wait for it.
                slowest_s = max((one.total_s for done in reports for one in done), default=0.0)
                hold_s = _hold_s(slowest_s) if number == rounds - 1 else None
                reports.append(await reload_all(host, names, target, hold_s=hold_s))
            elapsed = time.monotonic() - began
            load.stopping = True
        unsubscribe()
        calls = await load.compare()
    return summary(reports, overlap, load, modules=modules, calls=calls, elapsed_s=elapsed)


async def reload_all(
    host: Host, names: list[str], target: Path, *, hold_s: float | None
) -> list[ReloadReport]:
    """Ask for the reload of each module, all at once; each is a transaction of its own.

    Args:
        host: The host.
        names: The modules.
        target: The source they all change to.
        hold_s: Seconds of a call of the first module that is in flight, and that its reload must
            wait for; none when None.
    """
    held = None if hold_s is None else asyncio.create_task(host[names[0]].hold(hold_s))
    await asyncio.sleep(0)  # the call enters before the gate closes

    async def one(name: str) -> ReloadReport:
        report: ReloadReport = await host.reload({name: target})
        return report

    reports = await asyncio.gather(*(one(name) for name in names))
    if held is not None:
        await held
    return list(reports)


def _hold_s(slowest_s: float) -> float:
    return min(max(HOLD_S, TIMES_SLOWEST * slowest_s), HOLD_MAX_S / 2)


def summary(
    reports: list[list[ReloadReport]],
    overlap: Overlap,
    load: CounterLoad,
    *,
    modules: int,
    calls: int,
    elapsed_s: float,
) -> ConcurrentResult:
    """Judge what was seen."""
    flat = [report for one_round in reports for report in one_round]
    faults = load.faults + [
        f"{report.modules[0].name}: {report.outcome}: {report.error and report.error.message}"
        for report in flat
        if not report.committed
    ]
    held, *others = reports[-1]
    slowest = max(report.total_s for report in others)
    if overlap.most < modules:
        faults.append(f"only {overlap.most} of {modules} reloads ran at the same time")
    if slowest >= held.total_s:
        faults.append("a reload took as long as that of the busy module: it waited for it")
    return ConcurrentResult(
        modules=modules,
        rounds=len(reports),
        reloads=len(flat),
        at_once=overlap.most,
        held_ms=round(held.total_s * 1000, 1),
        others_ms=round(slowest * 1000, 1),
        calls=calls,
        pause_ms_max=round(
            max(max(r.pause_s, r.closed_s) for r in flat if r is not held) * 1000, 3
        ),
        elapsed_s=round(elapsed_s, 3),
        added_up_s=round(sum(report.total_s for report in flat), 3),
        faults=tuple(faults[:FAULTS_KEPT]),
    )


class Overlap:
    """Count how many reloads run at the same time, from the host's events."""

    def __init__(self) -> None:
        self.running = 0
        self.most = 0

    def note(self, event: Event) -> None:
        """Take one event."""
        if isinstance(event, ReloadStarted):
            self.running += 1
            self.most = max(self.most, self.running)
        elif isinstance(event, ReloadEnded):
            self.running -= 1


class CounterLoad:
    """Call every counter all the time, and keep our own notes.

    Args:
        host: The host.
        names: The modules to call.
    """

    def __init__(self, host: Host, names: list[str]) -> None:
        self.host = host
        self.names = names
        self.stopping = False
        self.faults: list[str] = []
        self._sent = {name: {f"caller-{n}": Sent() for n in range(CALLERS)} for name in names}

    def start(self, group: asyncio.TaskGroup) -> None:
        """Start the callers."""
        for name, senders in self._sent.items():
            for sender, sent in senders.items():
                group.create_task(self._call(name, sender, sent))

    async def compare(self) -> int:
        """Compare each counter's own account with ours.

        Returns:
            How many calls were made.
        """
        calls = 0
        for name, senders in self._sent.items():
            statement = await self.host[name].statement()
            tally = Tally()
            for sender, sent in senders.items():
                compare(sent, statement["senders"].get(sender, []), tally)
            calls += tally.sent
            if not tally.clean or statement["count"] != tally.sent:
                self.faults.append(f"{name}: counted {statement['count']}, but {tally}")
        return calls

    async def _call(self, name: str, sender: str, sent: Sent) -> None:
        while not self.stopping:
            sent.last += 1
            try:
                await self.host[name].increment(sender, sent.last)
            except Exception as error:
                sent.refused.add(sent.last)
                self.faults.append(f"{name}: {type(error).__name__}: {error}")
            await asyncio.sleep(0.001)


__all__ = ["ConcurrentResult", "concurrent_reload"]
