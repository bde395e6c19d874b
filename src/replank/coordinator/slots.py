"""Make the place of each module in the host: gate, queue, tasks, handle, and its saving."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path

from replank.config import Config, ModuleConfig
from replank.config_kinds import PersistPolicy
from replank.coordinator.slot import Routes, Slot
from replank.instrumentation.events import Bus, MessageFailed, TimerFailed, Warned
from replank.isolation.remote import RemoteGeneration
from replank.isolation.remote_frozen import RemoteFrozen
from replank.isolation.tasks import RemoteTasks
from replank.journal.embedded import EmbeddedPort
from replank.report import ErrorReport, describe
from replank.state.keeper import Frozen, StateKeeper
from replank.state.persistence import Persistence
from replank.traffic.drain import Drain
from replank.traffic.durable import DurableInbox
from replank.traffic.gate import Gate
from replank.traffic.handle import Handle
from replank.traffic.messages import Inbox, Mark, Message
from replank.traffic.recent import Recent
from replank.traffic.tasks import Tasks
from replank.traffic.threaded import ThreadPool

Held = Frozen | RemoteFrozen
"""A state of one moment, here or in its worker."""

_QUIET_S = 0.25
"""Seconds that calls may wait for a save; a module busy for longer is saved the next time."""


class SlotMaker:
    """Make slots.

    Args:
        routes: Knows which generation serves.
        keeper: Writes snapshots.
        port: Holds durable messages.
        bus: Is told what fails beside the calls.
        config: Limits.
    """

    def __init__(
        self, routes: Routes, keeper: StateKeeper, port: EmbeddedPort, bus: Bus, config: Config
    ) -> None:
        self._routes = routes
        self._keeper = keeper
        self._port = port
        self._bus = bus
        self._config = config

    def make(self, name: str, module: ModuleConfig) -> Slot:
        """Return the slot of one module.

        Args:
            name: Its name.
            module: Its configuration.
        """
        gate = Gate(name, waiting_max=module.max_waiting)
        if module.threads:
            gate.threads = ThreadPool(name, module.max_threads)
        inbox = self._inbox(name, module, gate)
        persistence = self._persistence(name, module, gate, inbox)
        kind = RemoteTasks if module.isolated else Tasks
        tasks = kind(lambda task, error: self.task_failed(name, task, error))
        source = Path(module.source).absolute()
        recent = None
        if module.replay:
            recent = Recent(name, calls_max=module.replay, bytes_max=module.replay_bytes)
        handle = Handle(name, inbox, recent.serve if recent is not None else None)
        return Slot(name, source, module, gate, inbox, tasks, handle, persistence, recent=recent)

    def _inbox(self, name: str, module: ModuleConfig, gate: Gate) -> Inbox:
        def failed(message: Message, error: BaseException) -> None:
            self._message_failed(name, message, error)

        if not module.durable:
            return Inbox(gate, messages_max=module.max_messages, on_failure=failed)
        return DurableInbox(
            gate,
            self._port,
            calls=lambda: self._routes.current(name).definition.calls,
            messages_max=module.max_messages,
            on_failure=failed,
            snapshots_kept=self._config.storage.snapshots_kept,
        )

    def _persistence(
        self, name: str, module: ModuleConfig, gate: Gate, inbox: Inbox
    ) -> Persistence[Held]:
        async def approach() -> None:
            generation = self._routes.current(name)
            if isinstance(generation, RemoteGeneration):
                await generation.approach()
            else:
                await self._keeper.approach(name, generation)

        def freeze(mark: Mark) -> Held | Awaitable[Held]:
            generation = self._routes.current(name)
            if isinstance(generation, RemoteGeneration):
                return generation.freeze(mark)
            return self._keeper.freeze(name, generation, generation.version.digest, mark)

        def failed(reason: str, error: BaseException) -> None:
            text = f"saving the state ({reason}) failed: {type(error).__name__}: {error}"
            self._bus.publish(Warned(text=text, module=name))

        async def write(held: Held, kind: str) -> None:
            if isinstance(held, RemoteFrozen):
                await held.write(self._keeper, kind)
            else:
                await self._keeper.write(held, kind)

        # An isolated module comes back from its last snapshot: there must be one.
        least: PersistPolicy = "commit" if module.isolated else "stop"
        persistence: Persistence[Held] = Persistence(
            name,
            inbox=inbox,
            approach=approach,
            freeze=freeze,
            write=write,
            quiet=lambda: _quiet(gate),
            policy=least if module.persist == "stop" else module.persist,
            interval_s=module.persist_interval_s,
            on_failure=failed,
        )
        if isinstance(inbox, DurableInbox):
            inbox.ask_save = lambda: persistence.request("inbox")
        return persistence

    def _message_failed(self, name: str, message: Message, error: BaseException) -> None:
        self._bus.publish(
            MessageFailed(module=name, call=message.call, error=self._described(name, error))
        )

    def task_failed(self, name: str, task: str, error: BaseException) -> None:
        """Tell of a timer or task that raised.

        Args:
            name: The module.
            task: The timer or task.
            error: What it raised.
        """
        self._bus.publish(TimerFailed(module=name, timer=task, error=self._described(name, error)))

    def _described(self, name: str, error: BaseException) -> ErrorReport:
        generation = self._routes.find(name)
        serves = generation.label if generation else ""
        return describe(error, phase="serve", module=name, serves=serves)


@asynccontextmanager
async def _quiet(gate: Gate) -> AsyncIterator[None]:
    """Give a context in which nothing is in flight in one module."""
    drain = Drain([gate])
    drain.close()
    try:
        await drain.wait(_QUIET_S, {})
        yield
    finally:
        drain.reopen()
