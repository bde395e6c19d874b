"""Make generations in processes of their own, for one host."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final
from weakref import WeakKeyDictionary

from replank.code.store import Stored, Version
from replank.config import ModuleConfig
from replank.isolation.host_side import RemoteWorker
from replank.isolation.nursery import Nursery
from replank.isolation.remote import RemoteGeneration, VersionOf
from replank.isolation.remote_lane import RemoteLane
from replank.isolation.wanted import Load
from replank.isolation.watch import Watch
from replank.traffic.gate import Gate

_HARD_TIMES: Final = 2
"""Private memory that is refused at once, as a multiple of what is watched."""

OnLost = Callable[[RemoteGeneration, RemoteWorker], None]
TaskFailed = Callable[[str, str, BaseException], None]


class Isolation:
    """Starts workers, and watches them.

    Args:
        folder: Where snapshots lie.
        write_limit_s: Seconds that writing a large state may take.
        task_failed: Told a module, the name of a spawned task in it, and what it raised.
    """

    def __init__(self, folder: Path, write_limit_s: float, task_failed: TaskFailed) -> None:
        self._folder = folder
        self._write_limit_s = write_limit_s
        self._task_failed = task_failed
        self._nursery = Nursery()
        self._generations: WeakKeyDictionary[RemoteWorker, RemoteGeneration]
        self._generations = WeakKeyDictionary()
        self._watching: set[asyncio.Task[None]] = set()
        self.on_lost: OnLost | None = None
        """Told of a worker that ended unasked."""

    async def start(self) -> None:
        """Have the nursery ready.

        Raises:
            UsageError: This system has none.
        """
        await self._nursery.start()

    async def make(
        self,
        gate: Gate,
        number: int,
        version: Version,
        code: bytes | None,
        limits: Callable[[], ModuleConfig],
        load_limit_s: float,
        version_of: VersionOf,
    ) -> RemoteGeneration:
        """Load a version in a process of its own.

        Args:
            gate: The module's gate.
            number: The generation's number.
            version: What to load.
            code: What the probe compiled.
            limits: Returns what the module's process may take.
            load_limit_s: Seconds for loading it.
            version_of: Finds a stored version by its digest.

        Raises:
            ModuleError: It does not load there.
        """
        worker = await self._worker(gate.module, number, version, code, limits, load_limit_s)
        lane = RemoteLane(gate, number)
        generation = RemoteGeneration(number, version, lane, worker, version_of)
        self._generations[worker] = generation
        return generation

    async def again(
        self,
        generation: RemoteGeneration,
        limits: Callable[[], ModuleConfig],
        load_limit_s: float,
    ) -> None:
        """Load a generation in another process; its own has ended.

        Raises:
            ModuleError: It does not load there.
        """
        name, version = generation.definition.name, generation.version
        worker = await self._worker(name, generation.number, version, None, limits, load_limit_s)
        worker.handles, worker.runtime = generation.worker.handles, generation.worker.runtime
        worker.resumable = generation.worker.resumable
        self._generations[worker] = generation
        generation.replaced(worker)

    async def close(self) -> None:
        """End every worker that is left, and the nursery."""
        for task in self._watching:
            task.cancel()
        workers = list(self._generations)
        for worker in workers:
            worker.let_go()
        await self._nursery.close()
        for worker in workers:
            await worker.obituary()

    async def _worker(
        self,
        name: str,
        number: int,
        version: Version,
        code: bytes | None,
        limits: Callable[[], ModuleConfig],
        load_limit_s: float,
    ) -> RemoteWorker:
        most = limits().isolation_memory_bytes
        wanted = Load(
            name=name,
            number=number,
            stored=Stored.of(version),
            code=code,
            folder=str(self._folder),
            write_limit_s=self._write_limit_s,
            log_level=logging.getLogger().getEffectiveLevel(),
        )
        worker = await RemoteWorker.start(
            self._nursery,
            wanted,
            load_limit_s,
            None if most is None else most * _HARD_TIMES,
            lambda task, error: self._task_failed(name, task, error),
            self._lost,
        )
        watching = asyncio.get_running_loop().create_task(
            Watch(worker, limits).run(), name=f"watch over the process of {name}"
        )
        self._watching.add(watching)
        watching.add_done_callback(self._watching.discard)
        return worker

    def _lost(self, worker: RemoteWorker) -> None:
        generation = self._generations.get(worker)
        if generation is not None and generation.worker is worker and self.on_lost is not None:
            self.on_lost(generation, worker)


__all__ = ["Isolation"]
