"""Bring an isolated module back whose process has ended: from its last snapshot, not for ever.

The gate closes in the same moment in which the end is noticed, so that calls and messages wait.
Those that were in the process get an error that says what happened; those that wait enter the next
process, in their order. A module whose process ends again and again stays down, until somebody
reloads it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from copy import copy
from functools import partial
from time import monotonic, perf_counter

from replank.coordinator.candidates import Candidates
from replank.coordinator.slot import Routes, Slot
from replank.errors import ModuleDown, ReplankError
from replank.instrumentation.events import Bus, Warned, WorkerEnded, WorkerGaveUp, WorkerRestarted
from replank.isolation.host_side import RemoteWorker
from replank.isolation.remote import RemoteGeneration
from replank.isolation.service import Isolation
from replank.report import describe
from replank.state.keeper import StateKeeper


class Restarts:
    """Starts the processes of isolated modules again.

    Args:
        routes: Knows which generation serves.
        candidates: Runs `on_start`.
        keeper: Finds snapshots.
        isolation: Starts processes.
        bus: Is told.
    """

    def __init__(
        self,
        routes: Routes,
        candidates: Candidates,
        keeper: StateKeeper,
        isolation: Isolation,
        bus: Bus,
    ) -> None:
        self._routes = routes
        self._candidates = candidates
        self._keeper = keeper
        self._isolation = isolation
        self._bus = bus
        self._ends: dict[str, deque[float]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False
        isolation.on_lost = self._lost

    async def close(self) -> None:
        """Start nothing more."""
        self._closing = True
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _lost(self, generation: RemoteGeneration, worker: RemoteWorker) -> None:
        """Note at once that a process has ended; nothing enters from now on."""
        slot = self._routes.slots.get(generation.definition.name)
        serves = self._routes.find(generation.definition.name) is generation
        if self._closing or slot is None or not serves:
            # A candidate, or one that is retired: whoever asks it is told.
            generation.gave_up(_not_there(generation, "its process has ended"))
            return
        generation.lost()
        if slot.gate.lane is generation.lane:  # else a reload is about to open it, or to go back
            slot.gate.interrupt()
        work = self._bring_back(slot, generation, worker)
        task = asyncio.get_running_loop().create_task(work, name=f"restart of {slot.name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _bring_back(
        self, slot: Slot, generation: RemoteGeneration, worker: RemoteWorker
    ) -> None:
        began = perf_counter()
        how = await worker.obituary()
        async with slot.persistence.moment:
            if slot.gate.lane is not generation.lane:
                generation.gave_up(_not_there(generation, "another version serves"))
                return
            self._bus.publish(WorkerEnded(module=slot.name, pid=worker.process.pid, how=how))
            slot.gate.close()
            try:
                serves = await self._again(slot, generation, how)
                if not serves:
                    self._stay_down(slot, generation)
            except BaseException:  # the host stops: nobody waits for it any more
                generation.gave_up(_not_there(generation, "the host is stopping"))
                raise
            finally:
                generation.resumed()
                slot.gate.reopen()
        if serves:
            saved_at = generation.last_saved[1] if generation.last_saved else ""
            pid, seconds = generation.worker.process.pid, perf_counter() - began
            self._bus.publish(
                WorkerRestarted(module=slot.name, pid=pid, saved_at=saved_at, seconds=seconds)
            )

    async def _again(self, slot: Slot, generation: RemoteGeneration, how: str) -> bool:
        """Start processes until one serves; returns False when it is tried no more."""
        ends = self._ends.setdefault(slot.name, deque())
        in_a_row = 0
        while True:
            now, config = monotonic(), slot.config
            ends.append(now)
            while ends[0] < now - config.isolation_restart_window_s:
                ends.popleft()
            if len(ends) > config.isolation_restarts:
                generation.gave_up(_gave_up(slot, generation, len(ends), how))
                return False
            if in_a_row or len(ends) > 1:
                await asyncio.sleep(config.isolation_backoff_s * 2 ** min(in_a_row, 10))
            in_a_row += 1
            try:
                await self._start(slot, generation)
            except Exception as error:  # whatever its code raises now
                generation.worker.let_go()
                how = getattr(error, "what", f"{type(error).__name__}: {error}")
                text = f"its process could not be started again: {how}"
                self._bus.publish(Warned(text=text, module=slot.name))
            else:
                return True

    async def _start(self, slot: Slot, generation: RemoteGeneration) -> None:
        workshop = self._candidates.workshop
        limit_s = workshop.config.probe_timeout_s
        await self._isolation.again(generation, lambda: slot.config, limit_s)
        kept = await generation.load_kept(self._keeper, _unused)
        for line in kept.warnings:
            self._bus.publish(Warned(text=line, module=slot.name))
        if "on_start" in generation.methods:
            hook = partial(generation.while_back, "on_start")
            with workshop.watchdog:
                await self._candidates.guarded_start(generation, hook)
        await generation.note_undeclared()
        slot.inbox.rewind(kept.inbox_position, kept.messages)
        generation.note("resume", generation.worker.resumable)

    def _stay_down(self, slot: Slot, generation: RemoteGeneration) -> None:
        """Refuse calls; messages wait, from where the last snapshot has seen them."""
        error = generation.down or _not_there(generation, "it was not started again")
        generation.gave_up(error)
        slot.gate.refuse(lambda: copy(error))
        slot.inbox.rewind(generation.last_mark.position, generation.last_mark.messages)
        described = describe(error, phase="serve", module=slot.name, serves=generation.label)
        self._bus.publish(WorkerGaveUp(module=slot.name, error=described))


async def _unused(_: str) -> tuple[()]:
    return ()


def _not_there(generation: RemoteGeneration, why: str) -> ReplankError:
    return ModuleDown(why, module=generation.definition.name, found=generation.label)


def _gave_up(slot: Slot, generation: RemoteGeneration, ends: int, how: str) -> ReplankError:
    window_s = slot.config.isolation_restart_window_s
    return ModuleDown(
        f"its process ended {ends} times within {window_s:g} s, and is not started again",
        module=slot.name,
        found=f"the last time: {how}",
        expected=f"at most isolation_restarts = {slot.config.isolation_restarts}",
        serves=f"nothing; {generation.label} was the last",
        do=f"mend it and reload it: replank reload {slot.name}",
    )


__all__ = ["Restarts"]
