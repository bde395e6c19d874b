"""Stop: drain everything, stop every module, and keep its state for the next start."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass

from replank.coordinator.coordinator import ReloadCoordinator
from replank.coordinator.slot import Slot
from replank.errors import ReplankError
from replank.instrumentation.events import Warned
from replank.traffic.drain import Drain


@dataclass(eq=False, slots=True)
class Shutdown:
    """Stop every module of a host.

    Args:
        coordinator: Lends its routes, candidates and bus.
    """

    coordinator: ReloadCoordinator

    async def run(self, limit_s: float) -> None:
        """Stop all modules; what fails is told, and the others go on.

        Args:
            limit_s: Seconds for calls in flight and queued messages; what is queued still is kept
                for the next start.
        """
        slots = list(self.coordinator.routes.slots.values())
        for slot in slots:
            if slot.probation is not None:
                await slot.probation.end()
        await asyncio.gather(*(slot.persistence.close() for slot in slots))
        await asyncio.gather(*(slot.inbox.settle(limit_s) for slot in slots))
        drain = Drain([slot.gate for slot in slots])
        drain.close()
        try:
            await drain.wait(limit_s, {slot.name: "cancel" for slot in slots})
        except ReplankError as error:
            self._warn(f"stopping all the same: {error}")
        for slot in slots:
            slot.gate.stop("it is stopping")
        for slot in slots:
            await self._stop(slot)
        await self.coordinator.retirement.close(limit_s)
        for slot in slots:
            if slot.gate.threads is not None:
                slot.gate.threads.close()

    async def _stop(self, slot: Slot) -> None:
        generation = self.coordinator.routes.current(slot.name)
        await slot.tasks.stop()
        await slot.inbox.stop()
        await self._attempt(slot.name, "on_stop", self.coordinator.candidates.stop(generation))
        await self._attempt(slot.name, "keeping the state", slot.persistence.finish())
        generation.unload()

    async def _attempt(self, module: str, what: str, action: Awaitable[None]) -> None:
        try:
            await action
        except Exception as error:
            self._warn(f"{what} failed: {type(error).__name__}: {error}", module)

    def _warn(self, text: str, module: str | None = None) -> None:
        self.coordinator.bus.publish(Warned(text=text, module=module))
