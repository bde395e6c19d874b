"""The host: owns modules, wires them, and answers every request for a reload."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self, cast

import msgspec

from replank.code.loader import Loader
from replank.code.probe import Probe
from replank.code.store import VersionStore
from replank.code.trust import check_keys
from replank.config import Config, ModuleConfig, WhenBusy, load_config
from replank.coordinator.calling import CallsByName
from replank.coordinator.choices import choose
from replank.coordinator.coordinator import ReloadCoordinator
from replank.coordinator.exchange import ExchangesState, StateExchange
from replank.coordinator.prepare import Workshop
from replank.coordinator.quarantine import KeepsQuarantine, Readmission
from replank.coordinator.recovery import Startup
from replank.coordinator.rehearsal import Rehearsal
from replank.coordinator.restarts import Restarts
from replank.coordinator.shutdown import Shutdown
from replank.coordinator.slot import Routes, status_of
from replank.coordinator.slots import SlotMaker
from replank.coordinator.transaction import Participant, Transaction
from replank.definition import Definition
from replank.errors import ConfigError, UsageError
from replank.instrumentation.events import (
    Bus,
    HostStarted,
    HostStopped,
    Listener,
    PhaseEvent,
)
from replank.instrumentation.status import HostStatus
from replank.instrumentation.telemetry import Telemetry
from replank.isolation.service import Isolation
from replank.journal.embedded import INBOX_FILE, EmbeddedPort
from replank.journal.journal import JOURNAL_FILE, Journal
from replank.journal.lock import DataDirLock
from replank.live_config import ConfigFile, ReloadsConfig
from replank.module import Runtime
from replank.report import Plan, ReloadReport
from replank.scheduling.asking import SchedulesReloads
from replank.scheduling.clock import Clock, SystemClock
from replank.scheduling.desk import RECENT, ScheduleDesk, What
from replank.scheduling.entries import Priority
from replank.scheduling.probations import KeepsProbations
from replank.scheduling.scheduler import ReloadScheduler, Request, Target, expecting
from replank.scheduling.ticket import Ticket
from replank.state.keeper import StateKeeper
from replank.state.parking import FOLDER as PARKED
from replank.state.parking import ParkedStore
from replank.state.quarantine import FOLDER as QUARANTINE
from replank.state.quarantine import Quarantine
from replank.threads import in_thread
from replank.traffic.beat import Beat
from replank.traffic.handle import Handle
from replank.verification.watchdog import Watchdog


def _with_modules(
    config: Config,
    modules: Mapping[str, str | os.PathLike[str]],
    data_dir: str | os.PathLike[str] | None,
) -> Config:
    """Return a configuration with what was given beside it on top."""
    named = {name: ModuleConfig(source=str(path)) for name, path in modules.items()}
    if not (config.modules or named):
        raise ConfigError("the host has no modules", do='name one: Host({"ledger": "ledger.py"})')
    return msgspec.structs.replace(
        config,
        modules={**config.modules, **named},
        data_dir=str(config.data_dir if data_dir is None else data_dir),
    )


class Host(
    CallsByName, ExchangesState, KeepsProbations, KeepsQuarantine, ReloadsConfig, SchedulesReloads
):
    """Run modules and replace them while calls and messages keep arriving.

    Args:
        modules: By name, the file or package folder of each module.
        data_dir: Folder of the journal, the stored versions and the snapshots; one host each.
        config: Everything else; `modules` and `data_dir` given here come on top of it.
        clock: What time the schedule goes by; the machine's own by default.

    Use it as an async context manager, on the event loop that will run the modules.
    """

    def __init__(
        self,
        modules: Mapping[str, str | os.PathLike[str]] | None = None,
        *,
        data_dir: str | os.PathLike[str] | None = None,
        config: Config | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.config = _with_modules(config or Config(), modules or {}, data_dir)
        self.data_dir = Path(self.config.data_dir).absolute()
        self.bus = Bus()
        self._telemetry = Telemetry(self.config.telemetry, self.bus)
        self.recent, self.tally = self._telemetry.recent, self._telemetry.tally
        self._routes = Routes()
        self._started_at = ""
        self._beat = Beat()
        self._watchers = []
        self.config_file = None
        self._lock = DataDirLock(self.data_dir)
        self._journal = Journal(
            self.data_dir / JOURNAL_FILE,
            busy_timeout_s=self.config.storage.busy_timeout_s,
            reloads_kept=self.config.storage.reloads_kept,
        )
        self._keeper = StateKeeper(
            self.data_dir / "snapshots",
            self._journal,
            kept=self.config.storage.snapshots_kept,
            limit_s=self.config.storage.fork_timeout_s,
        )
        self._port = EmbeddedPort(
            self.data_dir / INBOX_FILE, busy_timeout_s=self.config.storage.busy_timeout_s
        )
        self._slots = SlotMaker(self._routes, self._keeper, self._port, self.bus, self.config)
        folder, limit_s = self.data_dir / "snapshots", self.config.storage.fork_timeout_s
        self._isolation = Isolation(folder, limit_s, self._slots.task_failed)
        self._probe, self._workshop = self._make_workshop()
        self._coordinator = ReloadCoordinator(
            self._routes, self._workshop, self._journal, self.bus, self.config
        )
        self._coordinator.on_trip = self._tripped
        self._restarts = Restarts(
            self._routes, self._coordinator.candidates, self._keeper, self._isolation, self.bus
        )
        self._scheduler = self._make_scheduler()
        self._desk = ScheduleDesk(
            self._scheduler,
            self._routes,
            self.bus,
            self.config,
            self.data_dir,
            clock or SystemClock(),
        )
        self._readmission = Readmission(
            self._routes, self._workshop.quarantine, self._scheduler.exclusively
        )
        self._exchange = StateExchange(
            self._coordinator, self._scheduler.exclusively, self.data_dir
        )

    @classmethod
    def open(cls, path: str | os.PathLike[str] = "replank.toml") -> Self:
        """Make a host from a configuration file; start it with `async with`.

        Args:
            path: The TOML file.

        Raises:
            ConfigError: The file is missing or wrong.
        """
        host = cls(config=load_config(path))
        host.config_file = ConfigFile(Path(path), host.config)
        return host

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
        priority: Priority = "normal",
        at: datetime | str | None = None,
        after_s: float | None = None,
        quiet_wait_s: float | None = None,
        retries: int | None = None,
        when_busy: WhenBusy | None = None,
        **choices: Any,
    ) -> Ticket:
        """Replace the code of one or more modules, as one transaction.

        Args:
            what: A name, several names, or by name the path of a source elsewhere (None for the
                module's own).
            reason: Who or what asked, for the history.
            on_phase: Is told as phases of this reload begin and end.
            allow_breaking: Calls that may change although other modules use them: `deposit` or
                `ledger.deposit`; `*` for all.
            choices: For this reload instead of the configuration: `on_bad_record`,
                `quarantine_max`, `mode`, and `over_limits=True` to let it exceed `max_pause_s` and
                `max_memory_bytes`.
            expect_changes: Queries whose replayed answers may change, named likewise.
            expect: The digest that was reviewed, "sha256:..."; by name for several modules. Any
                other source is rejected.
            priority: "low", "normal", "high" or "critical"; the last passes over every policy.
            at: When; see `schedule`, which survives a restart.
            after_s: Seconds from now.
            quiet_wait_s: Seconds to wait for quiet traffic at most.
            retries: How often to try again when busy calls or the disk stopped it.
            when_busy: What becomes of it while its modules, or modules tied to them, are being
                reloaded; `reload.when_busy` of the configuration by default.

        Returns:
            A ticket; await it for the report. A failed reload is reported, not raised.

        Raises:
            UnknownModule: There is no such module.
            UsageError: Nothing was named, the time cannot be read, or a choice is not known.
        """
        wishes = self._desk.wishes(
            priority=priority,
            at=at,
            after_s=after_s,
            quiet_wait_s=quiet_wait_s,
            retries=retries,
        )
        chosen = choose(**choices)
        targets, allowed = expecting(self._targets(what), expect), _names(allow_breaking)
        request = Request(targets, reason, on_phase, allowed, chosen, _names(expect_changes))
        request.when_busy = when_busy or self.config.reload.when_busy
        return self._desk.agenda.submit(request, wishes)

    async def plan(
        self,
        what: What,
        *,
        allow_breaking: str | Iterable[str] = (),
        expect_changes: str | Iterable[str] = (),
        rehearse: bool = False,
        **choices: Any,
    ) -> Plan:
        """Say what a reload would do; nothing changes.

        Args:
            what: As for `reload`.
            allow_breaking: As for `reload`.
            expect_changes: As for `reload`.
            rehearse: Try all of it, with every record and check, on a forked copy of this process:
                the host stands still for the fork only, some milliseconds.
            choices: As for `reload`.

        Raises:
            UnknownModule: There is no such module.
            UsageError: A rehearsal was asked for, and this system cannot copy a process.
        """
        chosen = choose(**choices)
        targets = self._targets(what)
        tx = self._transaction(targets, "plan")
        tx.allow_breaking, tx.expect_changes = _names(allow_breaking), _names(expect_changes)
        tx.choices = chosen
        if not rehearse:
            return await self._coordinator.plan(tx)
        work = Rehearsal(self._coordinator).plan
        request = Request(targets, "rehearsal", work=lambda: work(tx))
        return cast("Plan", await self._scheduler.submit(request))

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
            await self._desk.load()
            if any(one.isolated for one in self.config.modules.values()):
                await self._isolation.start()
            if self._probe is not None:
                await self._probe.start()
            await Startup(self._coordinator, self._keeper).run()
        except BaseException:
            await self._release()
            raise
        self._beat.start()
        self._telemetry.start({name: slot.gate for name, slot in self._routes.slots.items()})
        self._started_at = datetime.now(UTC).isoformat()
        self._desk.start(self._journal.history(RECENT))
        self.bus.publish(HostStarted(pid=os.getpid(), modules=self.names()))

    async def stop(self, deadline_s: float | None = None) -> None:
        """Drain, stop every module, and keep the state for the next start.

        Args:
            deadline_s: Seconds for calls in flight and queued messages; the configured
                `stop_timeout_s` by default. What is queued still is kept for the next start.
        """
        limit_s = self.config.stop_timeout_s if deadline_s is None else deadline_s
        for watcher in self._watchers:
            await watcher.stop()
        await self._desk.stop()
        self._end_canaries()
        await self._scheduler.stop()
        await self._restarts.close()
        await Shutdown(self._coordinator).run(limit_s)
        await self._release()
        self._telemetry.stop()
        self._beat.stop()
        self.bus.publish(HostStopped(pid=os.getpid()))

    async def _release(self) -> None:
        await self._isolation.close()
        if self._probe is not None:
            await self._probe.close()
        await self._port.close()
        await self._desk.close()
        await self._journal.close()
        self._lock.release()

    # -- inside -------------------------------------------------------------------------------

    def _make_scheduler(self) -> ReloadScheduler:
        return ReloadScheduler(
            self._run,
            self._routes.tied_to,
            uses=self._routes.uses_of,
            next_id=self._journal.next_id,
        )

    def _make_workshop(self) -> tuple[Probe | None, Workshop]:
        tested = any(module.tests for module in self.config.modules.values())
        probe = Probe() if self.config.reload.probe or tested else None
        workshop = Workshop(
            store=VersionStore(self.data_dir / "versions"),
            loader=Loader(),
            probe=probe,
            watchdog=Watchdog(),
            config=self.config.reload,
            runtime=lambda slot: Runtime(slot.name, self, slot.tasks.spawn),
            next_generation=self._journal.next_generation,
            cache=self.data_dir / "cache",
            isolation=self._isolation,
            trust=self.config.trust,
            quarantine=Quarantine(self.data_dir / QUARANTINE),
            parked=ParkedStore(self.data_dir / PARKED),
        )
        return probe, workshop

    def _targets(self, what: What) -> dict[str, Target]:
        if isinstance(what, str):
            what = (what,)
        named = dict(what) if isinstance(what, Mapping) else dict.fromkeys(what)
        if not named:
            raise UsageError("no module was named", expected=", ".join(self.names()))
        for name in named:
            self._routes.slot(name)
        return {name: Target(None if path is None else Path(path)) for name, path in named.items()}

    async def _run(self, request: Request) -> ReloadReport:
        tx = self._transaction(request.targets, request.reason, request.id)
        tx.allow_breaking, tx.cause = request.allow_breaking, request.cause
        tx.expect_changes, tx.choices = request.expect_changes, request.choices
        if request.reason == "rollback":
            tx.back = self._way_back(request.targets)
        if request.on_phase is None:
            return await self._coordinator.run(tx)
        unsubscribe = self.bus.subscribe_phases(tx.id, request.on_phase)
        try:
            return await self._coordinator.run(tx)
        finally:
            unsubscribe()

    def _transaction(
        self, targets: Mapping[str, Target], reason: str, tx_id: str | None = None
    ) -> Transaction:
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
        tx_id = tx_id or self._journal.next_id()
        return Transaction(tx_id, participants, reason, self.bus.publish)


def _names(given: str | Iterable[str]) -> frozenset[str]:
    return frozenset((given,) if isinstance(given, str) else given)
