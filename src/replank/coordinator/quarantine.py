"""Let an operator see the records that did not migrate, and take them back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Any

import msgspec

from replank.coordinator.slot import Routes
from replank.isolation.remote import RemoteGeneration
from replank.plain import show
from replank.report_state import ReadmissionReport
from replank.state.quarantine import Batch, Quarantine, Quarantined, listed
from replank.state.readmission import readmitting
from replank.threads import in_thread

Exclusively = Callable[[str, Callable[[], Awaitable[Any]]], Awaitable[Any]]
"""Does something with a module while no reload of it runs."""


class KeepsQuarantine:
    """The methods of a host for records that did not migrate."""

    _readmission: Readmission

    async def quarantined(self, name: str) -> tuple[Quarantined, ...]:
        """Return the records of a module that did not migrate and are kept, the oldest first.

        Raises:
            UnknownModule: There is no such module.
            SnapshotError: They cannot be read.
        """
        return await self._readmission.listed(name)

    async def take_back(
        self, name: str, keys: Collection[str] = (), *, discard: bool = False
    ) -> ReadmissionReport:
        """Migrate kept records again, with the steps of the code that serves, and put them in.

        Args:
            name: The module's name.
            keys: Only these, as `quarantined` shows them; all when empty.
            discard: Forget them instead.

        Raises:
            UnknownModule: There is no such module.
            SnapshotError: They cannot be read, or the state not saved: nothing is forgotten then.
        """
        return await self._readmission.take_back(name, frozenset(keys), discard=discard)


@dataclass(frozen=True, slots=True)
class Readmission:
    """What an operator may do with kept records.

    Args:
        routes: The routing table.
        quarantine: What is kept.
        exclusively: Keeps reloads of a module away meanwhile.
    """

    routes: Routes
    quarantine: Quarantine
    exclusively: Exclusively

    async def listed(self, name: str) -> tuple[Quarantined, ...]:
        """Return the kept records of a module."""
        self.routes.slot(name)
        return listed(await in_thread(self.quarantine.batches, name))

    async def take_back(
        self, name: str, keys: Collection[str], *, discard: bool
    ) -> ReadmissionReport:
        """Put kept records in, save the state, and only then forget them here."""
        slot = self.routes.slot(name)

        async def work() -> ReadmissionReport:
            report = ReadmissionReport(module=name)
            done: list[tuple[str, set[tuple[str, Any]]]] = []
            for batch in await in_thread(self.quarantine.batches, name):
                chosen = _chosen(batch, keys)
                taken, refused = (
                    ({(one.table, one.key) for one in chosen.records}, ())
                    if discard
                    else self._put_in(chosen)
                )
                done.append((batch.name, taken))
                report = msgspec.structs.replace(
                    report,
                    taken=report.taken + (0 if discard else len(taken)),
                    discarded=report.discarded + (len(taken) if discard else 0),
                    refused=(*report.refused, *refused),
                )
            if report.taken:
                await slot.persistence.save("quarantine")
            for batch_name, taken in done:
                if taken:
                    await in_thread(self.quarantine.remove, batch_name, taken)
            return report

        answer: ReadmissionReport = await self.exclusively(name, work)
        return answer

    def _put_in(self, batch: Batch) -> tuple[set[tuple[str, Any]], tuple[str, ...]]:
        """Migrate and insert, without giving the loop back: a call sees all of them or none."""
        generation = self.routes.current(batch.module)
        if isinstance(generation, RemoteGeneration):
            return set(), ("it runs in a process of its own now: put records in by a call of it",)
        taken, refused = set(), []
        try:
            readmit = readmitting(batch, generation.definition, generation.own)
        except Exception as error:
            return set(), (str(error),)
        values = generation.values()
        for one in batch.records:
            if one.filled:
                continue  # it serves already
            try:
                field, key, record = readmit(one)
            except Exception as error:
                what = getattr(error, "what", f"{type(error).__name__}: {error}")
                refused.append(f"{one.table}[{show(one.key)}]: {what}")
                continue
            if key in values[field]:
                refused.append(f"{one.table}[{show(one.key)}]: a record with this key serves")
                continue
            values[field][key] = record
            taken.add((one.table, one.key))
        return taken, tuple(refused)


def _chosen(batch: Batch, keys: Collection[str]) -> Batch:
    if not keys:
        return batch
    shown = zip(listed([batch]), batch.records, strict=True)
    chosen = tuple(record for line, record in shown if line.key in keys)
    return msgspec.structs.replace(batch, records=chosen)


__all__ = ["KeepsQuarantine", "Readmission"]
