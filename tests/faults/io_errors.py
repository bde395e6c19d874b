"""Have the k-th thing that goes to the disk fail, once or from then on; then mend the disk."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Awaitable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from replank.errors import ReplankError, StorageError
from replank.host import Host
from replank.instrumentation.events import Warned
from replank.report import Outcome, ReloadReport
from replank.testing.faults import DiskFaults, When
from tests.faults.crash_lives import CONFIG, NAMES, sources, write
from tests.faults.rig import forget_leaked

CODES = {"full": errno.ENOSPC, "error": errno.EIO}
WAYS: tuple[tuple[bool, When], ...] = ((False, "before"), (False, "after"), (True, "before"))
"""Once and not done, once although it was done, and from then on."""
STORAGE = ("StoreError", "JournalError", "SnapshotError", "StorageError", "SourceError")


@dataclass
class Life:
    """A host with two modules on a disk that fails, and what was found wrong with it."""

    folder: Path
    disk: DiskFaults
    found: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)
    calls: int = 0
    kept: set[int] = field(default_factory=lambda: {0})
    """What a start may find: how many calls the state has counted."""

    def make(self) -> Host:
        host = Host(sources(self.folder), data_dir=self.folder / "data", config=CONFIG)
        host.subscribe(
            lambda event: self.warnings.append(event.text) if isinstance(event, Warned) else None
        )
        return host

    async def start(self) -> None:
        """Start; when the disk does not let it, it says so, and starts when the disk is mended."""
        hits = self.disk.hits
        self.host = self.make()
        try:
            await self.host.start()
        except ReplankError as error:
            self._must_be_clear("start", error, hits)
            self.disk.heal()
            self.host = self.make()
            await self.host.start()
        except BaseException as error:
            self.found.append(f"start raised {error!r}")
            self.disk.heal()
            self.host = self.make()
            await self.host.start()

    async def reload(self, what: Awaitable[ReloadReport], labels: dict[str, str]) -> bool:
        hits = self.disk.hits
        report = await what
        if report.outcome is Outcome.COMMITTED:
            self.labels |= labels
        else:
            self._must_tell(report, hits)
        await self.check()
        return report.committed

    async def check(self) -> None:
        """Look at what serves, and make one call."""
        self.calls += 1
        await self.host["beta"].relay("caller", self.calls)
        for name in NAMES:
            state = await self.host[name].read()
            if state["label"] != self.labels[name]:
                self.found.append(f"{name}: {state['label']} serves, not {self.labels[name]}")
            if state["amount"] != self.calls or len(state["log"]) != self.calls:
                self.found.append(f"{name} has {state['amount']} of {self.calls} calls")
        for module in self.host.status().modules:
            if module.gate != "open" or module.waiting or module.in_flight:
                self.found.append(f"{module.name} is not at rest: {module}")

    async def stop(self) -> None:
        hits, told = self.disk.hits, len(self.warnings)
        try:
            await self.host.stop()
        except ReplankError as error:
            self._must_be_clear("stop", error, hits)
        except BaseException as error:
            self.found.append(f"stop raised {error!r}")
        failed = any("keeping the state failed" in text for text in self.warnings[told:])
        self.kept = self.kept | {self.calls} if failed or self.disk.hits > hits else {self.calls}

    def _must_be_clear(self, what: str, error: ReplankError, hits: int) -> None:
        if self.disk.hits == hits:
            self.found.append(f"{what} failed although the disk did not: {error}")
        if not isinstance(error, StorageError) and error.kind not in STORAGE:
            self.found.append(f"{what} raised {error.kind}: {error}")
        if not (error.do and error.found):
            self.found.append(f"{what} does not say what was found and what to do: {error!r}")

    def _must_tell(self, report: ReloadReport, hits: int) -> None:
        error = report.error
        assert error is not None
        if self.disk.hits == hits:
            self.found.append(f"a reload failed although the disk did not: {error}")
        if error.kind not in STORAGE or not (error.do and error.found and error.serves):
            self.found.append(f"a reload failed unclearly: {error}")
        if error.undo_errors:
            self.found.append(f"undo failed: {error.undo_errors}")


async def live(life: Life) -> None:
    """Start, reload one, reload both, go back, stop: each again when the disk refused it."""
    write(life.folder, "1")
    await life.start()
    life.labels = dict.fromkeys(NAMES, "1")
    await life.check()
    steps: list[tuple[dict[str, str], tuple[str, ...], dict[str, Any]]] = [
        ({"alpha": "2"}, ("alpha",), {}),
        ({"alpha": "3", "beta": "3"}, NAMES, {"schema": 2}),
    ]
    for labels, names, more in steps:
        write(life.folder, next(iter(labels.values())), names, **more)
        if not await life.reload(life.host.reload(names), labels):
            life.disk.heal()
            if not await life.reload(life.host.reload(names), labels):
                life.found.append("the next try failed too")
    if not await life.reload(life.host.rollback("beta"), {"beta": "1"}):
        life.disk.heal()
        if not await life.reload(life.host.rollback("beta"), {"beta": "1"}):
            life.found.append("the next rollback failed too")
    await life.stop()


async def run(folder: Path, at: int, error: str, *, lasting: bool, when: When) -> list[str]:
    """Live one life on a failing disk, then look at it on a mended one.

    Args:
        folder: An empty folder.
        at: The operation that fails, counted from 1; 0 for none.
        error: "full" or "error".
        lasting: Whether all later ones fail too, until a step has failed.
        when: Whether it is done before it fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    forget_leaked()
    with DiskFaults(folder / "data") as disk:
        life = Life(folder, disk)
        if at:
            disk.fail(at, code=CODES[error], lasting=lasting, when=when)
        await live(life)
        disk.heal()
        with contextlib.suppress(ReplankError):
            await life.start()
        if "start" not in " ".join(life.found):
            for name in NAMES:
                state = await life.host[name].read()
                if state["label"] != life.labels[name]:
                    life.found.append(f"started again, {state['label']} serves of {name}")
                if state["amount"] not in life.kept:
                    life.found.append(f"{name} kept {state['amount']}, expected {life.kept}")
            await life.host.stop()
    if leaked := forget_leaked():
        life.found.append(f"left in memory: {leaked}")
    return life.found


async def count(folder: Path) -> list[str]:
    """Return every operation of a life on a good disk."""
    folder.mkdir(parents=True, exist_ok=True)
    with DiskFaults(folder / "data") as disk:
        life = Life(folder, disk)
        await live(life)
        assert not life.found, life.found
        return [str(operation) for operation in disk.operations]
