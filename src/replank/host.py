"""The host: owns modules, wires them, and answers every request for a reload."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import msgspec

from replank.code.loader import Loader
from replank.code.probe import Probe
from replank.code.store import VersionStore
from replank.code.trust import check_keys
from replank.config import Config, ModuleConfig, load_config
from replank.coordinator.coordinator import ReloadCoordinator
from replank.coordinator.exchange import ExchangesState, StateExchange
from replank.coordinator.prepare import Workshop
from replank.coordinator.recovery import Startup
from replank.coordinator.shutdown import Shutdown
from replank.coordinator.slot import Routes, WayBack, status_of
from replank.coordinator.slots import SlotMaker
from replank.coordinator.transaction import Participant, Transaction
from replank.definition import Definition
from replank.errors import ConfigError, UsageError
from replank.instrumentation.events import (
    Bus,
    HostStarted,
    HostStopped,
    Listener,
    PhaseEnded,
    PhaseEvent,
    PhaseStarted,
)
from replank.instrumentation.status import HostStatus
from replank.journal.embedded import INBOX_FILE, EmbeddedPort
from replank.journal.journal import JOURNAL_FILE, Journal
from replank.journal.lock import DataDirLock
from replank.module import Runtime
from replank.report import Plan, ReloadReport
from replank.scheduling.probations import KeepsProbations, back_of
from replank.scheduling.scheduler import ReloadScheduler, Request, Target, Ticket, expecting
from replank.state.keeper import StateKeeper
from replank.threads import in_thread
from replank.traffic.handle import Handle, check_arguments
from replank.traffic.messages import Message
from replank.verification.watchdog import Watchdog

What = str | Iterable[str] | Mapping[str, str | os.PathLike[str] | None]


class Host(ExchangesState, KeepsProbations):
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
        self._slots = SlotMaker(self._routes, self._keeper, self._port, self.bus, self.config)
        tested = any(module.tests for module in self.config.modules.values())
        self._probe = Probe() if self.config.reload.probe or tested else None
        self._workshop = Workshop(
            store=VersionStore(self.data_dir / "versions"),
            loader=Loader(),
            probe=self._probe,
            watchdog=Watchdog(),
            config=self.config.reload,
            runtime=lambda slot: Runtime(slot.name, self, slot.tasks.spawn),
            next_generation=self._journal.next_generation,
            trust=self.config.trust,
        )
        self._coordinator = ReloadCoordinator(
            self._routes, self._workshop, self._journal, self.bus, self.config
        )
        self._coordinator.on_trip = self._tripped
        self._scheduler = ReloadScheduler(self._run, self._routes.tied_to)
        self._exchange = StateExchange(self._coordinator, self._scheduler.exclusively)

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
        allow_breaking: str | Iterable[str] = (),
        expect_changes: str | Iterable[str] = (),
        expect: str | Mapping[str, str] | None = None,
    ) -> Ticket:
        """Replace the code of one or more modules, as one transaction.

        Args:
            what: A name, several names, or by name the path of a source elsewhere (None for the
                module's own).
            reason: Who or what asked, for the history.
            on_phase: Is told as phases of this reload begin and end.
            allow_breaking: Calls that may change although other modules use them: `deposit` or
                `ledger.deposit`; `*` for all.
            expect_changes: Queries whose replayed answers may change, named likewise.
            expect: The digest that was reviewed, "sha256:..."; by name for several modules. Any
                other source is rejected.

        Returns:
            A ticket; await it for the report. A failed reload is reported, not raised.

        Raises:
            UnknownModule: There is no such module.
            UsageError: Nothing was named.
        """
        targets = expecting(self._targets(what), expect)
        allowed, changes = _names(allow_breaking), _names(expect_changes)
        request = Request(targets, reason, on_phase, allowed, expect_changes=changes)
        return self._scheduler.submit(request)

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
            return self._submit(back_of(probation), "rollback", on_phase)
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

    async def plan(
        self,
        what: What,
        *,
        allow_breaking: str | Iterable[str] = (),
        expect_changes: str | Iterable[str] = (),
    ) -> Plan:
        """Say what a reload would do; nothing changes.

        Args:
            what: As for `reload`.
            allow_breaking: As for `reload`.
            expect_changes: As for `reload`.

        Raises:
            UnknownModule: There is no such module.
        """
        targets = self._targets(what)
        tx = self._transaction(targets, "plan")
        tx.allow_breaking, tx.expect_changes = _names(allow_breaking), _names(expect_changes)
        return await self._coordinator.plan(tx)

    async def history(self, limit: int = 20, module: str | None = None) -> tuple[ReloadReport, ...]:
        """Return the reports of the last reloads, newest first.

        Args:
            limit: How many at most.
            module: Only those in which this module took part.
        """
        return await in_thread(self._journal.history, limit, module)

    # -- insight ------------------------------------------------------------------------------

    def status(self) -> HostStatus:
        """Return what is true now."""
        return HostStatus(
            pid=os.getpid(),
            data_dir=str(self.data_dir),
            started_at=self._started_at,
            modules=tuple(
                status_of(slot, self._routes.current(name))
                for name, slot in sorted(self._routes.slots.items())
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
        if self.config.trust.require_signature:
            check_keys(self.config.trust.keys)
        self._lock.acquire()
        try:
            self._journal.open()
            if any(one.durable for one in self.config.modules.values()):
                self._port.open()
            for name, module in self.config.modules.items():
                self._routes.add(self._slots.make(name, module))
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
        await Shutdown(self._coordinator).run(limit_s)
        await self._release()
        self.bus.publish(HostStopped(pid=os.getpid()))

    async def _release(self) -> None:
        if self._probe is not None:
            await self._probe.close()
        await self._port.close()
        await self._journal.close()
        self._lock.release()

    # -- inside -------------------------------------------------------------------------------

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
        tx.allow_breaking, tx.cause = request.allow_breaking, request.cause
        tx.expect_changes = request.expect_changes
        if request.reason == "rollback":
            tx.back = self._way_back(request.targets)
        unsubscribe = self._listen(tx.id, request.on_phase)
        try:
            return await self._coordinator.run(tx)
        finally:
            unsubscribe()

    def _way_back(self, targets: Mapping[str, Target]) -> WayBack | None:
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
                expect=target.expect,
                old=self._routes.current(name),
            )
            for name, target in targets.items()
        }
        return Transaction(self._journal.next_id(), participants, reason, self.bus.publish)


def _names(given: str | Iterable[str]) -> frozenset[str]:
    return frozenset((given,) if isinstance(given, str) else given)
