"""`replank modules test-stateful-reload`: state over 100 reloads, forth and back."""

from __future__ import annotations

import asyncio
import statistics
import time
from pathlib import Path
from typing import Any

import msgspec

from replank.demo.accounting import Books, Verdict
from replank.demo.story import lay
from replank.host import Host
from replank.report import Outcome, ReloadReport

SETTLE_S = 10.0
CALLERS = 4
GAP_S = 0.001
FAULTS_KEPT = 10


class StatefulResult(msgspec.Struct, frozen=True, kw_only=True):
    """What `test-stateful-reload` found."""

    reloads: int
    committed: int
    rolled_back: int
    calls: int
    messages: int
    pause_ms_median: float
    pause_ms_max: float
    seconds: float
    faults: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether every reload ended as it must, with the state exact."""
        return not self.faults

    def to_dict(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        return {"ok": self.ok, **msgspec.to_builtins(self)}

    def lines(self) -> list[str]:
        """Return the summary for people."""
        return [
            (
                f"{self.reloads} reloads in {self.seconds:.1f} s: {self.committed} committed, "
                f"{self.rolled_back} rolled back (as they must)"
            ),
            f"state verified after each: {self.calls} calls and {self.messages} messages, "
            + ("all on the books, once and in order" if self.ok else "NOT all as they must be"),
            f"pause: median {self.pause_ms_median:.2f} ms, longest {self.pause_ms_max:.2f} ms",
            *(f"FAULT {fault}" for fault in self.faults),
            "ok" if self.ok else "FAILED",
        ]


async def stateful_reload(folder: Path, *, reloads: int = 100) -> StatefulResult:
    """Reload a ledger forth and back, and compare its state with our own books each time.

    Args:
        folder: An empty folder.
        reloads: How many.
    """
    sources = {version: lay(folder, "ledger", version) for version in ("v1", "v2", "v3")}
    started = time.monotonic()
    async with Host({"ledger": sources["v1"]}, data_dir=folder / ".replank") as host:
        bench = LedgerBench(host, sources)
        for number in range(reloads):
            await bench.turn(number)
    pauses = [max(report.pause_s, report.closed_s) * 1000 for report in bench.reports]
    outcomes = [report.outcome for report in bench.reports]
    return StatefulResult(
        reloads=len(bench.reports),
        committed=outcomes.count(Outcome.COMMITTED),
        rolled_back=outcomes.count(Outcome.ROLLED_BACK),
        calls=bench.last.calls.sent if bench.last else 0,
        messages=bench.last.messages.sent if bench.last else 0,
        pause_ms_median=round(statistics.median(pauses), 3),
        pause_ms_max=round(max(pauses), 3),
        seconds=round(time.monotonic() - started, 2),
        faults=tuple(bench.faults[:FAULTS_KEPT]),
    )


class LedgerBench:
    """One ledger under test, with our own books beside it.

    Args:
        host: The host that runs it.
        sources: Source file of each version.
    """

    # up, a version that fails its check, back by rollback, up again, down by an ordinary reload
    PLAN = (
        ("v2", Outcome.COMMITTED, "2.0"),
        ("v3", Outcome.ROLLED_BACK, "2.0"),
        ("rollback", Outcome.COMMITTED, "1.0"),
        ("v2", Outcome.COMMITTED, "2.0"),
        ("v1", Outcome.COMMITTED, "1.0"),
    )

    def __init__(self, host: Host, sources: dict[str, Path]) -> None:
        self.host = host
        self.sources = sources
        self.books = Books()
        self.reports: list[ReloadReport] = []
        self.faults: list[str] = []
        self.last: Verdict | None = None
        self._reloading = False

    async def turn(self, number: int) -> None:
        """Write, reload while writing, and compare."""
        move, outcome, label = self.PLAN[number % len(self.PLAN)]
        what = f"reload {number + 1} ({move})"
        self._reloading = True
        async with asyncio.TaskGroup() as group:
            for caller in range(CALLERS):
                group.create_task(self._call(f"deposit-{caller}"))
            group.create_task(self._send("message-0"))
            if move == "rollback":
                report = await self.host.rollback("ledger")
            else:
                report = await self.host.reload({"ledger": self.sources[move]})
            self._reloading = False
        self.reports.append(report)
        if report.outcome is not outcome:
            why = report.error.message if report.error else "no error"
            self.faults.append(f"{what}: {report.outcome} instead of {outcome}: {why}")
        statement = await self._settled()
        self._compare(what, statement, label)

    def _compare(self, what: str, statement: dict[str, Any], label: str) -> None:
        verdict = self.last = self.books.close(statement, {"senders": {}}, seconds=0.0)
        if statement["version"] != label:
            self.faults.append(f"{what}: version {statement['version']} serves, not {label}")
        if not verdict.state_ok:
            self.faults.append(f"{what}: the state is not what was written: {verdict}")
        if not (verdict.calls.clean and verdict.messages.clean):
            self.faults.append(f"{what}: calls {verdict.calls}, messages {verdict.messages}")

    async def _call(self, sender: str) -> None:
        """Deposit as long as the reload runs, and once after it."""
        while True:
            last = not self._reloading
            number, owner, cents = self._next(sender)
            try:
                await self.host["ledger"].deposit(sender, number, owner, cents)
            except Exception as error:
                self.books.refused(sender, number, f"{type(error).__name__}: {error}")
            else:
                self.books.answered(owner, cents, started=0.0, now=0.0)
            if last:
                return
            await asyncio.sleep(GAP_S)

    async def _send(self, sender: str) -> None:
        """Send messages as long as the reload runs."""
        while self._reloading:
            number, owner, cents = self._next(sender)
            await self.host["ledger"].send.deposit(sender, number, owner, cents)
            self.books.answered(owner, cents, started=0.0, now=0.0)
            await asyncio.sleep(GAP_S)

    def _next(self, sender: str) -> tuple[int, str, int]:
        number = self.books.leaves(sender)
        return number, f"customer-{number % 50}", 1 + number % 997

    async def _settled(self) -> dict[str, Any]:
        """Return the ledger's statement when the messages that wait have been handled."""
        statement: dict[str, Any]
        try:
            async with asyncio.timeout(SETTLE_S):
                while True:
                    statement = await self.host["ledger"].statement()
                    if statement["serial"] >= self.books.accepted:
                        return statement
                    await asyncio.sleep(0)
        except TimeoutError:
            return statement


__all__ = ["StatefulResult", "stateful_reload"]
