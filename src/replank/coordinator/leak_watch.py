"""Tell which purged generations stay in memory, and what holds them: one look for all of them.

A collection by hand is made once for all that wait for one, and what holds a generation is looked
for in a forked child: the search walks over every object of the process, step by step, and calls
would wait for each step.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import weakref
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from replank.config import ReloadConfig
from replank.forks import Fork, can_fork
from replank.instrumentation.events import Bus, GenerationLeaked
from replank.memory import gather_pages
from replank.verification.leaks import holders_of, told

_CHILD_SEARCH_S: Final = 10.0
_SEARCH_S: Final = 0.05
"""Where no child can be forked: nothing else runs meanwhile."""
_FORCE_BLOCKS_MAX: Final = 300_000
"""Memory blocks up to which a collection by hand is short, about ten milliseconds."""
_LOOK_EVERY_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Leak:
    """A generation that something keeps in memory after a full collection."""

    name: str
    generation: int
    alive: weakref.ref[Any]
    holders: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.name} (generation {self.generation}), held by {told(self.holders)}"


@dataclass(frozen=True, slots=True)
class _Purged:
    """A generation that should be gone after the next full collection."""

    name: str
    generation: int
    alive: weakref.ref[Any]
    collections: int
    deadline: float


class LeakWatch:
    """Look whether purged generations are gone after a full collection of the garbage collector.

    Args:
        bus: Is told of those that stay.
        config: After how many seconds a collection is made by hand.
    """

    def __init__(self, bus: Bus, config: ReloadConfig) -> None:
        self._bus = bus
        self._config = config
        self._purged: list[_Purged] = []
        self._leaks: list[Leak] = []
        self._task: asyncio.Task[None] | None = None

    @property
    def looking(self) -> bool:
        """Whether some purged generations have not been looked for yet."""
        return self._task is not None and not self._task.done()

    @property
    def leaks(self) -> tuple[Leak, ...]:
        """The generations that were found to stay in memory, and do."""
        self._leaks = [leak for leak in self._leaks if leak.alive() is not None]
        return tuple(self._leaks)

    def expect(self, name: str, generation: int, alive: weakref.ref[Any]) -> None:
        """Begin to look for a purged generation; returns at once.

        Args:
            name: The module's name.
            generation: Its number.
            alive: Some object of it.
        """
        limit_s = self._config.leak_check_s
        if limit_s <= 0:
            return
        loop = asyncio.get_running_loop()
        deadline = loop.time() + limit_s
        self._purged.append(_Purged(name, generation, alive, _full_collections(), deadline))
        if not self.looking:
            self._task = loop.create_task(self._watch(), name="look for leaks")

    async def close(self) -> None:
        """Look no further."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _watch(self) -> None:
        clock = asyncio.get_running_loop().time
        while self._purged:
            left_s = min(one.deadline for one in self._purged) - clock()
            await asyncio.sleep(min(_LOOK_EVERY_S, left_s) if left_s > 0 else 0)
            self._purged = [one for one in self._purged if one.alive() is not None]
            self._collect_when_due(clock())
            count = _full_collections()
            due = [one for one in self._purged if one.collections != count]
            self._purged = [one for one in self._purged if one.collections == count]
            for one in due:
                await self._report(one)
            if not due and left_s <= 0:
                # A large heap takes long to collect: there the collector itself says when.
                await asyncio.sleep(_LOOK_EVERY_S)

    def _collect_when_due(self, now: float) -> None:
        count = _full_collections()
        late = any(one.deadline <= now and one.collections == count for one in self._purged)
        if late and sys.getallocatedblocks() <= _FORCE_BLOCKS_MAX:
            gc.collect()

    async def _report(self, one: _Purged) -> None:
        try:
            holders = await _holders(one.alive)
        except Exception as error:  # other people's objects may raise at anything
            holders = (f"something that could not be looked at: {type(error).__name__}: {error}",)
        if holders is not None:
            self._leaks.append(Leak(one.name, one.generation, one.alive, holders))
            self._bus.publish(
                GenerationLeaked(name=one.name, generation=one.generation, holders=holders)
            )


async def _holders(alive: weakref.ref[Any]) -> tuple[str, ...] | None:
    """Return the chain that keeps an object alive; None when it is gone."""
    if alive() is None:
        return None
    if not can_fork():
        if sys.getallocatedblocks() <= _FORCE_BLOCKS_MAX:
            return holders_of(alive, _SEARCH_S)
        return ("something: the process is too large to be searched while calls wait",)
    await gather_pages()
    child = Fork(lambda: _searched(alive), "the search for what holds an old generation")
    answer = await child.answer(2 * _CHILD_SEARCH_S)
    return msgspec.msgpack.decode(answer, type=tuple[str, ...] | None)


def _searched(alive: weakref.ref[Any]) -> bytes:
    """Search, in a child: it may take its time."""
    gc.unfreeze()  # what is frozen has no referrers to tell
    return msgspec.msgpack.encode(holders_of(alive, _CHILD_SEARCH_S))


def _full_collections() -> int:
    return int(gc.get_stats()[-1]["collections"])


__all__ = ["Leak", "LeakWatch"]
