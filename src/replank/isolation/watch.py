"""Watch over one worker: does its event loop turn, and what does it take."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

from replank.config_isolation import IsolationConfig

_BEAT_S: Final = 1.0
_BEATS_A_HANG: Final = 4
_MIB: Final = 1024 * 1024


class Watched(Protocol):
    """A worker, to whoever watches it."""

    resumable: tuple[str, ...]
    state_size: tuple[int, int]

    @property
    def alive(self) -> bool:
        """Whether it can be asked."""

    async def request(self, name: str, *args: Any) -> Any:
        """Ask for an operation."""

    async def abort(self, because: str) -> None:
        """End it because of what it does."""

    def resident_bytes(self) -> int:
        """Return the memory that it takes."""

    def cpu_s(self) -> float:
        """Return the CPU time that it has used, in seconds."""


class Watch:
    """Ends a worker that hangs or takes more than it may.

    Args:
        worker: Whom to watch.
        limits: Returns what it may take; they may change while it lives.
        sleep: Waits for so many seconds.
        clock: Returns the time, in seconds.
    """

    def __init__(
        self,
        worker: Watched,
        limits: Callable[[], IsolationConfig],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._worker = worker
        self._limits = limits
        self._sleep = sleep
        self._clock = clock
        self._asked: asyncio.Task[Any] | None = None
        self._missed = 0
        self._used: deque[tuple[float, float]] = deque()

    async def run(self) -> None:
        """Watch until it is gone."""
        try:
            while self._worker.alive:
                limits = self._limits()
                beat_s = min(_BEAT_S, limits.isolation_hang_s / _BEATS_A_HANG)
                await self._sleep(beat_s)
                if said := self._takes(limits) or self._hangs(limits, beat_s):
                    await self._worker.abort(said)
                    return
        finally:
            if self._asked is not None:
                self._asked.cancel()

    def _hangs(self, limits: IsolationConfig, beat_s: float) -> str:
        """Ask for a sign of life, one at a time; say so when it does not come.

        What is counted are beats of this loop, not seconds: a host that stood still itself has
        missed one beat, and read no answers.
        """
        if self._asked is not None and not self._asked.done():
            self._missed += 1
            if self._missed * beat_s < limits.isolation_hang_s:
                return ""
            return (
                f"its event loop did not turn for {self._missed * beat_s:g} s "
                f"(isolation_hang_s = {limits.isolation_hang_s:g})"
            )
        asked = self._asked
        if asked is not None and not asked.cancelled() and asked.exception() is None:
            self._worker.resumable, self._worker.state_size = asked.result()
        self._missed = 0
        self._asked = asyncio.get_running_loop().create_task(self._worker.request("ping"))
        # Seen, whatever comes of it: what it means when it fails, the link knows.
        self._asked.add_done_callback(lambda one: one.cancelled() or one.exception())
        return ""

    def _takes(self, limits: IsolationConfig) -> str:
        memory, most = self._worker.resident_bytes(), limits.isolation_memory_bytes
        if most is not None and memory > most:
            return (
                f"it took {memory / _MIB:.0f} MiB of memory "
                f"(isolation_memory_bytes = {most / _MIB:.0f} MiB)"
            )
        if limits.isolation_cpu_share is None:
            return ""
        now, used = self._clock(), self._worker.cpu_s()
        self._used.append((now, used))
        while len(self._used) > 1 and now - self._used[1][0] >= limits.isolation_cpu_s:
            self._used.popleft()
        began, before = self._used[0]
        share = (used - before) / (now - began) if now > began else 0.0
        if now - began < limits.isolation_cpu_s or share <= limits.isolation_cpu_share:
            return ""
        return (
            f"it used {share:.2f} processors for {now - began:.0f} s "
            f"(isolation_cpu_share = {limits.isolation_cpu_share:g})"
        )


__all__ = ["Watch", "Watched"]
