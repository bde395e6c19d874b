"""Try an edit on a host under load, and keep the account."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

import msgspec

from replank.config import Config, ModuleConfig, ProbationConfig, ReloadConfig
from replank.host import Host
from replank.instrumentation.events import ReloadEnded
from replank.report import ReloadReport
from tests.corpus.edits import Edit
from tests.corpus.sources import SHOP, TILL

CALLERS = 6
QUICK = Config(
    reload=ReloadConfig(
        probe_timeout_s=2.0,
        probe_memory_bytes=256 * 1024 * 1024,
        verify_timeout_s=0.3,
        restore_timeout_s=0.3,
        probation_s=0.0,
        import_effects="reject",
    )
)


LATE = "probation"
"""Where an edit is caught that has served for a moment."""
ON_PROBATION = msgspec.structs.replace(
    QUICK,
    reload=msgspec.structs.replace(QUICK.reload, probation_s=30.0),
    probation=ProbationConfig(look_every_s=0.02, latency_for_s=0.2, leak_budget_bytes=200_000),
)


@dataclass(frozen=True)
class Verdict:
    """What became of one edit."""

    edit: Edit
    outcome: str
    phase: str
    error: str
    message: str
    answered: int
    failed: int
    lost: int
    seconds: float

    @property
    def as_expected(self) -> bool:
        """Whether it was caught where it had to be, or taken, and no caller noticed."""
        caught = self.phase in self.edit.phase.split("|") and self.error == self.edit.error
        right = self.outcome == self.edit.outcome and caught
        return right and self.failed == 0 and self.lost == 0 and self.answered > 0


@dataclass
class Callers:
    """Calls through the till and to the shop itself, for as long as the block runs."""

    host: Host
    answered: int = 0
    paid: int = 0
    failed: list[str] = field(default_factory=list)
    _stop: bool = False
    _busy: int = 0
    _go: asyncio.Event = field(default_factory=asyncio.Event)

    @asynccontextmanager
    async def calling(self) -> AsyncIterator[Callers]:
        self._go.set()
        tasks = [asyncio.create_task(self._call(f"owner-{n}")) for n in range(CALLERS)]
        try:
            yield self
        finally:
            self._stop = True
            await asyncio.gather(*tasks)

    async def some(self, count: int) -> None:
        """Return when so many more calls were answered, or one has failed."""
        goal = self.answered + count
        while self.answered < goal and not self.failed:
            await asyncio.sleep(0)

    @asynccontextmanager
    async def resting(self) -> AsyncIterator[None]:
        """Have no call of theirs under way inside."""
        self._go.clear()
        while self._busy:
            await asyncio.sleep(0)
        try:
            yield
        finally:
            self._go.set()

    async def _call(self, owner: str) -> None:
        calls = 0
        while not self._stop:
            await self._go.wait()
            calls += 1
            self._busy += 1
            try:
                if calls % 2:
                    await self.host["till"].sell(owner, 3)
                else:
                    await self.host["shop"].pay(owner, 3)
            except Exception as error:
                self.failed.append(f"{type(error).__name__}: {error}")
                return
            finally:
                self._busy -= 1
            self.paid += 3
            self.answered += 1
            await asyncio.sleep(0)


async def try_edits(
    edits: Iterable[Edit], folder: Path, *, isolated: bool = False
) -> list[Verdict]:
    """Try edits one after the other on one host: those that are taken are rolled back by hand.

    Args:
        edits: What to try.
        folder: An empty folder.
        isolated: Whether the shop runs in a process of its own.
    """
    shop, till = folder / "shop.py", folder / "till.py"
    shop.write_text(SHOP)
    till.write_text(TILL)
    kind = "process" if isolated else "none"
    modules = {
        "shop": ModuleConfig(source=str(shop), isolation=kind),
        "till": ModuleConfig(source=str(till)),
    }
    verdicts: list[Verdict] = []
    edits = list(edits)
    late = any(edit.phase == LATE for edit in edits)
    config = msgspec.structs.replace(
        ON_PROBATION if late else QUICK, modules=modules, data_dir=str(folder / "data")
    )
    async with Host(config=config) as host:
        callers = Callers(host)
        async with callers.calling():
            await callers.some(20)
            for edit in edits:
                verdicts.append(await _try(edit, host, callers, shop))
                if verdicts[-1].outcome == "committed":
                    (await host.rollback("shop")).raise_for_outcome()
    return verdicts


async def _sent_back(ended: asyncio.Queue[ReloadReport]) -> str:
    """Return why a version was sent back; empty when it was not, within ten seconds."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(10):
            while (report := await ended.get()).reason != "rollback":
                pass
            return report.cause
    return ""


async def _try(edit: Edit, host: Host, callers: Callers, shop: Path) -> Verdict:
    answered, failed = callers.answered, len(callers.failed)
    shop.write_text(edit.source)
    ended: asyncio.Queue[ReloadReport] = asyncio.Queue()
    unsubscribe = host.subscribe(
        lambda event: isinstance(event, ReloadEnded) and ended.put_nowait(event.report)
    )
    began = perf_counter()
    report: ReloadReport = await host.reload("shop")
    back = await _sent_back(ended) if edit.phase == LATE and report.committed else None
    unsubscribe()
    seconds = perf_counter() - began
    await callers.some(20)
    async with callers.resting():
        lost = callers.paid - await host["shop"].total()
    error = report.error
    return Verdict(
        edit=edit,
        outcome="rolled_back" if back else str(report.outcome),
        phase=LATE if back else str(error.phase) if error else "",
        error="tripped" if back else error.kind if error else "",
        message=back or (error.message if error else ""),
        answered=callers.answered - answered,
        failed=len(callers.failed) - failed,
        lost=lost,
        seconds=seconds,
    )
