"""The host: owns modules, wires them, and answers every request for a reload."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import msgspec

from replank.code.loader import Loader
from replank.code.probe import Probe
from replank.code.store import VersionStore
from replank.config import Config, ModuleConfig, load_config
from replank.coordinator.coordinator import ReloadCoordinator
from replank.coordinator.prepare import Workshop
from replank.coordinator.probation import Probation
from replank.coordinator.recovery import Startup
from replank.coordinator.slot import Routes, Slot
from replank.coordinator.transaction import Participant, Transaction
from replank.definition import Definition
from replank.errors import ConfigError, ReplankError, UsageError
from replank.instrumentation.events import (
    Bus,
    HostStarted,
    HostStopped,
    Listener,
    MessageFailed,
    PhaseEnded,
    PhaseEvent,
    PhaseStarted,
    TimerFailed,
    Warned,
)
from replank.instrumentation.status import Gate as GateStatus
from replank.instrumentation.status import HostStatus, ModuleStatus
from replank.journal.embedded import INBOX_FILE, EmbeddedPort
from replank.journal.journal import JOURNAL_FILE, Journal
from replank.journal.lock import DataDirLock
from replank.module import Runtime
from replank.report import Plan, ReloadReport, describe
from replank.scheduling.scheduler import ReloadScheduler, Request, Target, Ticket
from replank.state.format import Snapshot
from replank.state.keeper import StateKeeper
from replank.state.persistence import Persistence
from replank.traffic.drain import Drain
from replank.traffic.durable import DurableInbox
from replank.traffic.gate import Gate
from replank.traffic.handle import Handle, check_arguments
from replank.traffic.messages import Inbox, Mark, Message
from replank.traffic.tasks import Tasks
from replank.verification.watchdog import Watchdog

What = str | Iterable[str] | Mapping[str, str | os.PathLike[str] | None]


class Host:
    """Run modules and replace them while calls and messages keep arriving.

    Args:
        modules: By name, the file or package folder of each module.
        data_dir: Folder of the journal, the stored versions and the snapshots; one host each.
        config: Everything else; `modules` and `data_dir` given here come on top of it.

    Use it as an async context manager, on the event loop that will run the modules.
    """

    def __init__(
        self,
        modules: Mapping[str, str | os.PathLike[str]] | None = None,
        *,
        data_dir: str | os.PathLike[str] | None = None,
        config: Config | None = None,
    ) -> None:
        config = config or Config()
        named = {name: ModuleConfig(source=str(path)) for name, path in (modules or {}).items()}
        self.config = msgspec.structs.replace(
            config,
            modules={**config.modules, **named},
            data_dir=str(config.data_dir if data_dir is None else data_dir),
        )
        if not self.config.modules:
            raise ConfigError(
                "the host has no modules", do='name one: Host({"ledger": "ledger.py"})'
            )
        self.data_dir = Path(self.config.data_dir).absolute()
        self.bus = Bus()
        self._routes = Routes()
        self._started_at = ""
        self._lock = DataDirLock(self.data_dir)
        self._journal = Journal(
            self.data_dir / JOURNAL_FILE,
            busy_timeout_s=self.config.storage.busy_timeout_s,
            reloads_kept=self.config.storage.reloads_kept,
        )
        self._keeper = StateKeeper(
            self.data_dir / "snapshots", self._journal, kept=self.config.storage.snapshots_kept
        )
        self._port = EmbeddedPort(
            self.data_dir / INBOX_FILE, busy_timeout_s=self.config.storage.busy_timeout_s
        )
        self._probe = Probe() if self.config.reload.probe else None
        self._workshop = Workshop(
            store=VersionStore(self.data_dir / "versions"),
            loader=Loader(),
            probe=self._probe,
            watchdog=Watchdog(),
            config=self.config.reload,
            runtime=self._runtime,
            next_generation=self._journal.next_generation,
        )
        self._coordinator = ReloadCoordinator(
            self._routes, self._workshop, self._journal, self.bus, self.config
        )
        self._scheduler = ReloadScheduler(self._run, self._routes.tied_to)

    @classmethod
    def open(cls, path: str | os.PathLike[str] = "replank.toml") -> Self:
        """Make a host from a configuration file; start it with `async with`.

        Args:
            path: The TOML file.

        Raises:
            ConfigError: The file is missing or wrong.
        """
        return cls(config=load_config(path))

    async def __aenter__(self) -> Self:
        """Start."""
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop, keeping the state for the next start."""
        await self.stop()

    # -- calls --------------------------------------------------------------------------------

    def __getitem__(self, name: str) -> Handle:
        """Return a module's handle; it never goes stale.

        Raises:
            UnknownModule: There is no such module.
        """
        return self._routes.slot(name).handle

    def names(self) -> tuple[str, ...]:
        """Return the modules' names, sorted."""
        return tuple(sorted(self._routes.slots or self.config.modules))

    def definition(self, name: str) -> Definition:
        """Return what the generation that serves offers.

        Raises:
            UnknownModule: There is no such module.
        """
        return self._routes.current(name).definition

    async def call(
        self,
        name: str,
        method: str,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Call a module by names, as a server does.

        Args:
            name: The module's name.
            method: The call's name.
            args: Positional arguments.
            kwargs: Keyword arguments.

        Raises:
            UnknownModule: There is no such module.
            UnknownCall: It has no such call.
        """
        return await getattr(self._routes.slot(name).handle, method)(*args, **(kwargs or {}))

    async def send(
        self,
        name: str,
        method: str,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> None:
        """Queue a message by names; returns when it is accepted.

        Args:
            name: The module's name.
            method: The call's name.
            args: Positional arguments.
            kwargs: Keyword arguments.

        Raises:
            UnknownModule: There is no such module.
            UnknownCall: It has no such call.
            WrongArguments: The arguments do not fit.
        """
        slot = self._routes.slot(name)
        call = self.definition(name).calls.get(method)
        if call is not None:
            check_arguments(name, method, call.signature, args, kwargs or {})
        await slot.inbox.put(Message(method, args, kwargs or {}))

    # -- reloads ------------------------------------------------------------------------------

    def reload(
        self,
        what: What,
        *,
        reason: str = "call",
        on_phase: Callable[[PhaseEvent], None] | None = None,
    ) -> Ticket:
        """Replace the code of one or more modules, as one transaction.

        Args:
            what: A name, several names, or by name the path of a source elsewhere (None for the
                module's own).
            reason: Who or what asked, for the history.
            on_phase: Is told as phases of this reload begin and end.

        Returns:
            A ticket; await it for the report. A failed reload is reported, not raised.

        Raises:
            UnknownModule: There is no such module.
            UsageError: Nothing was named.
        """
        return self._submit(self._targets(what), reason, on_phase)

    def rollback(
        self, name: str, *, on_phase: Callable[[PhaseEvent], None] | None = None
    ) -> Ticket:
        """Go back to the version committed before, keeping what was written since.

        Args:
            name: The module's name.
            on_phase: Is told as phases begin and end.

        Raises:
            UnknownModule: There is no such module.
            UsageError: It has no version before.
        """
        probation = self._routes.slot(name).probation
        if probation is not None and probation.returnable:
            targets = {one: Target() for one in probation.participants}
            return self._submit(targets, "rollback", on_phase)
        previous = self._journal.previous(name)
        if previous is None:
            raise UsageError(
                "there is no version to go back to",
                module=name,
                found="one committed version",
                serves=self._routes.current(name).label,
                do="reload a version first",
            )
        return self._submit({name: Target(digest=previous.digest)}, "rollback", on_phase)

    async def plan(self, what: What) -> Plan:
        """Say what a reload would do; nothing changes.

        Args:
            what: As for `reload`.

        Raises:
            UnknownModule: There is no such module.
        """
        targets = self._targets(what)
        return await self._coordinator.plan(self._transaction(targets, "plan"))

    async def history(self, limit: int = 20, module: str | None = None) -> tuple[ReloadReport, ...]:
        """Return the reports of the last reloads, newest first.

        Args:
            limit: How many at most.
            module: Only those in which this module took part.
        """
        return await asyncio.to_thread(self._journal.history, limit, module)

    # -- insight ------------------------------------------------------------------------------

    def status(self) -> HostStatus:
        """Return what is true now."""
        return HostStatus(
            pid=os.getpid(),
            data_dir=str(self.data_dir),
            started_at=self._started_at,
            modules=tuple(
                self._module_status(slot) for _, slot in sorted(self._routes.slots.items())
            ),
        )

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Have a function called with every event.

        Args:
            listener: Must not block; what it raises is logged.

        Returns:
            A function that ends the subscription.
        """
        return self.bus.subscribe(listener)

    # -- start and stop -----------------------------------------------------------------------

    async def start(self) -> None:
        """Start every module: the last committed version with its last durable state.

        Raises:
            DataDirBusy: Another host holds the data directory.
            ReplankError: A module cannot start; nothing serves then.
        """
        self._lock.acquire()
        try:
            self._journal.open()
            if any(one.durable for one in self.config.modules.values()):
                self._port.open()
            for name, module in self.config.modules.items():
                self._add_slot(name, module)
            if self._probe is not None:
                await self._probe.start()
            await Startup(self._coordinator, self._keeper).run()
        except BaseException:
            await self._release()
            raise
        self._started_at = datetime.now(UTC).isoformat()
        self.bus.publish(HostStarted(pid=os.getpid(), modules=self.names()))

    async def stop(self, deadline_s: float | None = None) -> None:
        """Drain, stop every module, and keep the state for the next start.

        Args:
            deadline_s: Seconds for calls in flight and queued messages; the configured
                `stop_timeout_s` by default. What is queued still is kept for the next start.
        """
        limit_s = self.config.stop_timeout_s if deadline_s is None else deadline_s
        await self._scheduler.stop()
        slots = list(self._routes.slots.values())
        await asyncio.gather(*(slot.persistence.close() for slot in slots))
        await asyncio.gather(*(slot.inbox.settle(limit_s) for slot in slots))
        drain = Drain([slot.gate for slot in slots])
        drain.close()
        try:
            await drain.wait(limit_s, {slot.name: "cancel" for slot in slots})
        except ReplankError as error:
            self.bus.publish(Warned(text=f"stopping all the same: {error}"))
        for slot in slots:
            slot.gate.stop("it is stopping")
        for slot in slots:
            await self._stop_module(slot)
        await self._coordinator.retirement.close(limit_s)
        await self._release()
        self.bus.publish(HostStopped(pid=os.getpid()))

    async def _stop_module(self, slot: Slot) -> None:
        """Stop one module and write its state; what fails is told, and the others go on."""
        generation = self._routes.current(slot.name)
        await slot.tasks.stop()
        await slot.inbox.stop()
        await self._attempt(slot.name, "on_stop", self._coordinator.candidates.stop(generation))
        await self._attempt(slot.name, "keeping the state", slot.persistence.finish())
        generation.unload()

    async def _attempt(self, module: str, what: str, action: Awaitable[None]) -> None:
        try:
            await action
        except Exception as error:
            text = f"{what} failed: {type(error).__name__}: {error}"
            self.bus.publish(Warned(text=text, module=module))

    async def _release(self) -> None:
        if self._probe is not None:
            await self._probe.close()
        await self._port.close()
        await self._journal.close()
        self._lock.release()

    # -- inside -------------------------------------------------------------------------------

    def _add_slot(self, name: str, module: ModuleConfig) -> None:
        gate = Gate(name, waiting_max=module.max_waiting)
        inbox = self._inbox(name, module, gate)
        persistence = self._persistence(name, module, gate, inbox)
        tasks = Tasks(lambda task, error: self._task_failed(name, task, error))
        source = Path(module.source).absolute()
        handle = Handle(name, inbox)
        self._routes.add(Slot(name, source, module, gate, inbox, tasks, handle, persistence))

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
            snapshots_kept=self.config.storage.snapshots_kept,
        )

    def _persistence(
        self, name: str, module: ModuleConfig, gate: Gate, inbox: Inbox
    ) -> Persistence[Snapshot]:
        def freeze(mark: Mark) -> Snapshot:
            generation = self._routes.current(name)
            return self._keeper.freeze(name, generation, generation.version.digest, mark)

        def failed(reason: str, error: BaseException) -> None:
            text = f"saving the state ({reason}) failed: {type(error).__name__}: {error}"
            self.bus.publish(Warned(text=text, module=name))

        persistence = Persistence(
            name,
            inbox=inbox,
            freeze=freeze,
            write=self._keeper.write,
            quiet=lambda: _quiet(gate),
            policy=module.persist,
            interval_s=module.persist_interval_s,
            on_failure=failed,
        )
        if isinstance(inbox, DurableInbox):
            inbox.ask_save = lambda: persistence.request("inbox")
        return persistence

    def _runtime(self, slot: Slot) -> Runtime:
        return Runtime(slot.name, self, slot.tasks.spawn)

    def _targets(self, what: What) -> dict[str, Target]:
        if isinstance(what, str):
            what = (what,)
        named = dict(what) if isinstance(what, Mapping) else dict.fromkeys(what)
        if not named:
            raise UsageError("no module was named", expected=", ".join(self.names()))
        for name in named:
            self._routes.slot(name)
        return {name: Target(None if path is None else Path(path)) for name, path in named.items()}

    def _submit(
        self,
        targets: Mapping[str, Target],
        reason: str,
        on_phase: Callable[[PhaseEvent], None] | None,
    ) -> Ticket:
        return self._scheduler.submit(Request(targets, reason, on_phase))

    async def _run(self, request: Request) -> ReloadReport:
        tx = self._transaction(request.targets, request.reason)
        if request.reason == "rollback":
            tx.back = self._way_back(request.targets)
        unsubscribe = self._listen(tx.id, request.on_phase)
        try:
            return await self._coordinator.run(tx)
        finally:
            unsubscribe()

    def _way_back(self, targets: Mapping[str, Target]) -> Probation | None:
        """Return the probation whose old generations can serve again, looked up when it begins."""
        probation = self._routes.slot(next(iter(targets))).probation
        if probation is None or not probation.returnable:
            return None
        return probation if probation.participants.keys() == targets.keys() else None

    def _listen(
        self, tx_id: str, on_phase: Callable[[PhaseEvent], None] | None
    ) -> Callable[[], None]:
        if on_phase is None:
            return lambda: None
        return self.bus.subscribe(
            lambda event: (
                on_phase(event)
                if isinstance(event, PhaseStarted | PhaseEnded) and event.id == tx_id
                else None
            )
        )

    def _transaction(self, targets: Mapping[str, Target], reason: str) -> Transaction:
        participants = {
            name: Participant(
                slot=self._routes.slot(name),
                source=target.source,
                digest=target.digest,
                old=self._routes.current(name),
            )
            for name, target in targets.items()
        }
        return Transaction(self._journal.next_id(), participants, reason, self.bus.publish)

    def _module_status(self, slot: Slot) -> ModuleStatus:
        generation = self._routes.current(slot.name)
        definition = generation.definition
        return ModuleStatus(
            name=slot.name,
            label=definition.label,
            digest=generation.version.digest,
            generation=generation.number,
            schema=definition.schema.version,
            gate=GateStatus.OPEN if slot.gate.is_open else GateStatus.CLOSED,
            in_flight=slot.gate.in_flight,
            waiting=slot.gate.waiting,
            calls=slot.gate.calls,
            messages_queued=slot.inbox.queued,
            messages_handled=slot.inbox.handled,
            messages_failed=slot.inbox.failed,
            source=str(slot.source),
            uses=tuple(use.module for use in definition.uses),
            started_at=generation.started_at,
        )

    def _message_failed(self, name: str, message: Message, error: BaseException) -> None:
        self.bus.publish(
            MessageFailed(module=name, call=message.call, error=self._described(name, error))
        )

    def _task_failed(self, name: str, task: str, error: BaseException) -> None:
        self.bus.publish(TimerFailed(module=name, timer=task, error=self._described(name, error)))

    def _described(self, name: str, error: BaseException) -> Any:
        generation = self._routes.find(name)
        serves = generation.label if generation else ""
        return describe(error, phase="serve", module=name, serves=serves)


_QUIET_S = 0.25
"""Seconds that calls may wait for a save; a module that is busy for longer is saved the next time."""


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
