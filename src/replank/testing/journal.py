"""The journal in memory: for simulations; verified by the same tests as the one on disk."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Final, Self, TypeVar

import msgspec

from replank.errors import InternalError, JournalError
from replank.journal.records import Committed, Participant, SnapshotRecord, utc_now
from replank.report import ErrorReport, ModuleReport, Outcome, ReloadReport

T = TypeVar("T")

ENDED: Final = ("rolled_back", "rejected", "undone")


@dataclass(slots=True)
class _Reload:
    """One row of the history."""

    epoch: int
    state: str
    reason: str
    started_at: str
    participants: tuple[Participant, ...]
    report: ReloadReport | None = None


@dataclass(slots=True)
class MemoryDisk:
    """What outlives a crash: hand it to the journal of the next life."""

    reloads: dict[str, _Reload] = field(default_factory=dict)
    commits: list[Committed] = field(default_factory=list)
    serving: dict[str, int] = field(default_factory=dict)
    snapshots: list[SnapshotRecord] = field(default_factory=list)
    last_epoch: int = 0


def _nothing(_: str) -> None:
    """Have no faults."""


class MemoryJournal:
    """Do what `Journal` does, for as long as its disk lives.

    Args:
        disk: What an earlier life has left; a new one when None.
        reloads_kept: As for `Journal`.
        hook: Called with "begin", "commit", "finish", "state", "snapshot" or "recover" before that
            is done, and with the same word and " done" afterwards, when the disk has it; what it
            raises is raised to the caller. That is where a simulation puts its faults.
    """

    def __init__(
        self,
        disk: MemoryDisk | None = None,
        *,
        reloads_kept: int = 10_000,
        hook: Callable[[str], None] = _nothing,
    ) -> None:
        self.disk = MemoryDisk() if disk is None else disk
        self._reloads_kept = reloads_kept
        self._hook = hook
        # One thread, as the writer of the real one; a simulated loop starts none.
        self._writer: ThreadPoolExecutor | None = None
        self._last_id = 0
        self._last_generation: dict[str, int] = {}

    def open(self) -> Self:
        """Begin a life."""
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="replank-journal")
        numbers = [int(one[1:]) for one in self.disk.reloads if one[1:].isdigit()]
        self._last_id = max([self.disk.last_epoch, *numbers])
        used = [
            (p.module, p.generation) for r in self.disk.reloads.values() for p in r.participants
        ]
        used += [(one.module, one.generation) for one in self.disk.commits]
        for module, generation in used:
            self._last_generation[module] = max(generation, self._last_generation.get(module, 0))
        return self

    async def close(self) -> None:
        """End the life; the disk stays."""
        self.close_blocking()

    def close_blocking(self) -> None:
        """Do what `close` does where no event loop runs."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.shutdown(wait=True)

    # -- what a reload writes -----------------------------------------------------------------

    async def begin(
        self,
        tx_id: str,
        modules: Iterable[Participant],
        reason: str,
        started_at: str | None = None,
    ) -> None:
        """Write the intent; see `Journal.begin`."""
        participants = tuple(modules)
        started = started_at or utc_now()
        await self._submit("begin", lambda: self._begin(tx_id, participants, reason, started))

    async def commit(
        self,
        tx_id: str,
        modules: Iterable[Committed],
        snapshots: Iterable[SnapshotRecord] = (),
    ) -> None:
        """Write THE commit record; see `Journal.commit`."""
        committed, taken = tuple(modules), tuple(snapshots)
        await self._submit("commit", lambda: self._commit(tx_id, committed, taken))

    def commit_now(
        self,
        tx_id: str,
        modules: Iterable[Committed],
        snapshots: Iterable[SnapshotRecord] = (),
    ) -> None:
        """Do what `commit` does on the calling thread; see `Journal.commit_now`."""
        self._open_or_raise()
        committed, taken = tuple(modules), tuple(snapshots)
        self._do("commit", lambda: self._commit(tx_id, committed, taken))

    async def finish(self, tx_id: str, report: ReloadReport) -> None:
        """Write how a reload ended; see `Journal.finish`."""
        await self._submit("finish", lambda: self._finish(tx_id, report))

    async def state(self, tx_id: str) -> str | None:
        """Return the state of a transaction; see `Journal.state`."""
        return await self._submit("state", lambda: self._state(tx_id))

    async def record_snapshot(self, snapshot: SnapshotRecord) -> None:
        """Make a durable snapshot known; see `Journal.record_snapshot`."""
        await self._submit("snapshot", lambda: self._record(snapshot))

    async def forget_snapshot(self, path: str) -> None:
        """Forget a snapshot; see `Journal.forget_snapshot`."""
        await self._submit("snapshot", lambda: self._forget(path))

    # -- what a start and an operator read ----------------------------------------------------

    def committed(self) -> dict[str, Committed]:
        """Return what serves, by module."""
        self._open_or_raise()
        return {name: self.disk.commits[at] for name, at in sorted(self.disk.serving.items())}

    def previous(self, module: str) -> Committed | None:
        """Return the version before the present one; see `Journal.previous`."""
        self._open_or_raise()
        if module not in self.disk.serving:
            return None
        present = self.disk.commits[self.disk.serving[module]].digest
        earlier = (c for c in reversed(self.disk.commits) if c.module == module)
        return next((one for one in earlier if one.digest != present), None)

    def recover(self) -> list[str]:
        """Undo what a crash cut off; see `Journal.recover`."""
        self._open_or_raise()
        return self._do("recover", self._recover)

    def _recover(self) -> list[str]:
        lines = [
            _recovered(tx_id, one, self.committed())
            for tx_id, one in self.disk.reloads.items()
            if one.state == "prepared" or one.report is None
        ]
        for tx_id in list(self.disk.reloads)[: -self._reloads_kept]:
            del self.disk.reloads[tx_id]
        return lines

    def latest_snapshots(self, module: str) -> tuple[SnapshotRecord, ...]:
        """Return the known snapshots of a module, newest first."""
        self._open_or_raise()
        return tuple(one for one in reversed(self.disk.snapshots) if one.module == module)

    def all_snapshots(self) -> tuple[SnapshotRecord, ...]:
        """Return the known snapshots of all modules, newest first."""
        self._open_or_raise()
        return tuple(reversed(self.disk.snapshots))

    def history(self, limit: int = 20, module: str | None = None) -> tuple[ReloadReport, ...]:
        """Return the reports of the last reloads, newest first."""
        self._open_or_raise()
        found = [
            one.report
            for one in reversed(self.disk.reloads.values())
            if one.report is not None
            and (module is None or any(p.module == module for p in one.participants))
        ]
        return tuple(found[:limit])

    def next_id(self) -> str:
        """Return a new reload's id."""
        self._last_id += 1
        return f"r{self._last_id}"

    def next_generation(self, module: str) -> int:
        """Return the number of a module's next generation."""
        number = self._last_generation.get(module, 0) + 1
        self._last_generation[module] = number
        return number

    # -- the disk -----------------------------------------------------------------------------

    def _open_or_raise(self) -> ThreadPoolExecutor:
        if self._writer is None:
            raise JournalError("the journal is closed", do="start the host again")
        return self._writer

    async def _submit(self, what: str, work: Callable[[], T]) -> T:
        writer = self._open_or_raise()
        return await asyncio.get_running_loop().run_in_executor(writer, self._do, what, work)

    def _do(self, what: str, work: Callable[[], T]) -> T:
        self._hook(what)
        result = work()
        self._hook(f"{what} done")
        return result

    def _insert(
        self, tx_id: str, state: str, participants: tuple[Participant, ...], *said: str
    ) -> _Reload:
        self.disk.last_epoch += 1
        row = _Reload(self.disk.last_epoch, state, said[0], said[1], participants)
        self.disk.reloads[tx_id] = row
        return row

    def _begin(
        self, tx_id: str, participants: tuple[Participant, ...], reason: str, started: str
    ) -> None:
        if tx_id in self.disk.reloads:
            raise InternalError("the journal refused a record that contradicts itself", found=tx_id)
        self._insert(tx_id, "prepared", participants, reason, started)

    def _commit(
        self, tx_id: str, modules: tuple[Committed, ...], snapshots: tuple[SnapshotRecord, ...]
    ) -> None:
        found = self._state(tx_id)
        if found != "prepared":
            raise InternalError(
                f"reload {tx_id} cannot commit",
                found=found or "no such transaction",
                expected="prepared",
            )
        self.disk.reloads[tx_id].state = "committed"
        for module in modules:
            self.disk.serving[module.module] = len(self.disk.commits)
            self.disk.commits.append(msgspec.structs.replace(module, tx=tx_id))
        for snapshot in snapshots:
            self._record(snapshot)

    def _finish(self, tx_id: str, report: ReloadReport) -> None:
        found = self._state(tx_id)
        if report.committed != (found == "committed") or found in ENDED:
            raise InternalError(
                f"the report of reload {tx_id} contradicts the journal",
                found=f"outcome {report.outcome}, journal {found or 'nothing'}",
            )
        if found is None:
            took_part = tuple(
                Participant(one.name, one.digest_from, one.digest_to, one.generation_to)
                for one in report.modules
            )
            started = report.started_at or utc_now()
            self._insert(tx_id, "prepared", took_part, report.reason, started)
        row = self.disk.reloads[tx_id]
        row.state, row.report = str(report.outcome), report

    def _state(self, tx_id: str) -> str | None:
        row = self.disk.reloads.get(tx_id)
        return None if row is None else row.state

    def _record(self, snapshot: SnapshotRecord) -> None:
        self._forget(snapshot.path)
        self.disk.snapshots.append(snapshot)

    def _forget(self, path: str) -> None:
        self.disk.snapshots = [one for one in self.disk.snapshots if one.path != path]


def _recovered(tx_id: str, row: _Reload, serving: dict[str, Committed]) -> str:
    """Bring one reload that a crash cut off to its end."""
    names = ", ".join(one.module for one in row.participants)
    committed = row.state == "committed"
    row.state = "committed" if committed else "undone"
    row.report = ReloadReport(
        id=tx_id,
        outcome=Outcome.COMMITTED if committed else Outcome.ROLLED_BACK,
        modules=tuple(_module(one, serving.get(one.module)) for one in _by_name(row.participants)),
        reason=row.reason,
        started_at=row.started_at,
        error=None if committed else _UNDONE,
        warnings=("finished by recovery",) if committed else (),
    )
    if committed:
        return f"reload {tx_id} of {names} had committed when the host ended; it is finished now"
    return f"reload {tx_id} of {names} had not committed when the host ended; it was undone"


_UNDONE: Final = ErrorReport(
    phase="recovery",
    module=None,
    kind="HostEnded",
    message="the host ended before the commit record was written; nothing was changed",
)


def _by_name(participants: tuple[Participant, ...]) -> list[Participant]:
    return sorted(participants, key=lambda one: one.module)


def _module(one: Participant, serving: Committed | None) -> ModuleReport:
    serves = serving is not None and serving.digest == one.digest_to
    return ModuleReport(
        name=one.module,
        digest_from=one.digest_from,
        digest_to=one.digest_to,
        generation_to=one.generation,
        version_to=serving.label if serves and serving is not None else "",
    )


def copy_disk(disk: MemoryDisk) -> MemoryDisk:
    """Return a copy of a disk: what a crash at this moment leaves.

    Args:
        disk: It may go on changing.
    """
    return MemoryDisk(
        reloads={tx_id: replace(one) for tx_id, one in disk.reloads.items()},
        commits=list(disk.commits),
        serving=dict(disk.serving),
        snapshots=list(disk.snapshots),
        last_epoch=disk.last_epoch,
    )


__all__ = ["MemoryDisk", "MemoryJournal", "copy_disk"]
