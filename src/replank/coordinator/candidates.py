"""What the coordinator does with candidates: make them, wire them, start them, take them back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from math import inf
from typing import Any

from replank.code.generation import Generation
from replank.code.trust import require_digest
from replank.coordinator.contracts import judge_calls, judge_contracts
from replank.coordinator.plan import refuse_over_limits
from replank.coordinator.prepare import Workshop, check_uses
from replank.coordinator.slot import Routes, WayBack
from replank.coordinator.transaction import Participant, Transaction
from replank.coordinator.type_checks import check_types
from replank.errors import ModuleError, ReplankError, SchemaError
from replank.journal.records import Committed
from replank.journal.records import Participant as Intent
from replank.report import Phase
from replank.state.limits import Mode, OnBadRecord, StateLimits
from replank.state.manager import Grace, make_return
from replank.state.sharing import PartsShared
from replank.traffic.calls import Chain
from replank.traffic.handle import Handle
from replank.verification.checks import is_cancelled
from replank.verification.effects import Effects


class Candidates:
    """Everything that happens to the candidates of a transaction.

    Args:
        routes: The routing table.
        workshop: Stores, probes and loads versions.
    """

    def __init__(self, routes: Routes, workshop: Workshop) -> None:
        self.routes = routes
        self.workshop = workshop

    async def prepare(
        self, tx: Transaction, let_go: Callable[[Transaction], Awaitable[None]]
    ) -> None:
        """Load every candidate, check how they fit together, and find the way of their state.

        Args:
            tx: The transaction.
            let_go: Ends what the last reloads have kept of the state; only now, for a candidate
                that does not load or fit must change nothing.

        Raises:
            ReplankError: The first thing that does not fit.
        """
        tx.on_undo("take back what the candidates started", lambda: self._take_back(tx))
        try:
            async with asyncio.TaskGroup() as group:
                for one in tx.each():
                    group.create_task(self._make(tx, one))
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        await judge_contracts(tx, self.routes)
        self._check_uses(tx)
        if tx.reason != "rollback":
            await judge_calls(tx, self.routes)
        await check_types(tx, self.routes, self.workshop)
        await let_go(tx)
        await asyncio.sleep(0)  # each of these computes for milliseconds: calls get their turn
        await self.find_ways(tx)
        self._wire_for_rehearsal(tx)
        await asyncio.sleep(0)

    async def find_ways(self, tx: Transaction, grace: Grace | None = None) -> None:
        """Find how each module's state gets from the old generation to the candidate.

        Args:
            tx: The transaction; its candidates are loaded.
            grace: Waits until every call that runs now has ended; by default the module's own.

        Raises:
            SchemaError: There is no way.
        """
        for one in tx.each():
            tx.warnings += await one.old.undeclared_warnings()
            await self._choose_transfer(tx, one, self._limits(tx, one), grace)
        refuse_over_limits(tx, self.workshop.config)

    async def copy_whole(self, tx: Transaction, one: Participant, error: PartsShared) -> None:
        """Have a state copied in the pause after all: its records share what a window would part.

        Args:
            tx: The transaction.
            one: Whose state it is; its window is given up.
            error: What is shared; raised again when another mode was asked for.
        """
        limits = self._limits(tx, one)
        if limits.mode is not Mode.AUTO or one.state.mode != "windowed":
            raise error
        one.state.abandon()
        await one.state.settle()  # frees what was copied, in slices
        await self._choose_transfer(tx, one, replace(limits, mode=Mode.EAGER), None)
        tx.warnings.append(f"{one.name}: the whole state is copied in the pause: {error.what}")

    async def _choose_transfer(
        self, tx: Transaction, one: Participant, limits: StateLimits, grace: Grace | None
    ) -> None:
        one.migration, one.transfer = await one.old.way_to(
            one.new,
            limits=limits,
            grace=grace or one.old.lane.grace,
            parked=one.slot.parked.get(one.new.definition.schema.fingerprint),
            going_back=tx.reason == "rollback",
            goes_back=tx.goes_back(one),
        )
        tx.on_undo(f"drop the copy of {one.name}", one.transfer.abandon)

    async def prepare_return(self, tx: Transaction, probation: WayBack) -> None:
        """Take the old generations of a probation as candidates: they have served before."""
        await probation.hand_over()
        tx.on_undo("keep the old state in step again", probation.resume)
        tx.on_undo("take back what on_start did", lambda: self._take_back(tx))
        for one in tx.each():
            before = probation.participants[one.name]
            one.candidate, one.version = before.old, before.old.version
            one.migration = before.migration
            one.transfer = make_return(
                one.name,
                one.old,
                one.new,
                before.state,
                limits=self._limits(tx, one),
                grace=one.old.lane.grace,
            )
            tx.on_undo(f"drop the copy of {one.name}", one.transfer.abandon)
        await judge_contracts(tx, self.routes)

    @contextmanager
    def chain(self, tx: Transaction) -> Iterator[None]:
        """Let candidates call one another, and nobody else, while their gates are closed."""
        first, *others = (one.new.lane for one in tx.each())
        chain = Chain.of(first, "reload")
        for lane in others:
            chain.touch(lane)
        chain.begin()
        try:
            yield
        finally:
            chain.leave()

    async def start(self, tx: Transaction, one: Participant) -> None:
        """Let the candidate spawn tasks and run its `on_start`; the old tasks are held.

        Raises:
            ModuleError: `on_start` raised, or did not end in time.
        """
        tasks = one.slot.tasks
        tx.on_undo(f"end the candidate's tasks of {one.name}", lambda: self._give_back(one))
        if not one.new.started:
            tx.on_undo(f"stop the candidate of {one.name}", lambda: self.stop(one.new))
        one.new.wire(self.routes.handles(), self.workshop.runtime(one.slot))
        tasks.adopt(one.new.lane, one.new.methods)
        if not one.new.started:
            await self.run_on_start(one.new, tx.effects)

    async def run_on_start(self, generation: Generation, effects: Effects) -> None:
        """Run a generation's `on_start`, guarded.

        Args:
            generation: Whose.
            effects: Notes what it changes outside itself.

        Raises:
            ModuleError: It raised, or did not end in time.
        """
        hook = generation.methods.get("on_start")
        generation.started = True
        if hook is not None:
            await self.guarded_start(generation, generation.watched(effects, hook))
        await generation.note_undeclared()

    async def guarded_start(self, generation: Generation, hook: Callable[..., Any]) -> None:
        """Run what a generation starts with, and end it in time.

        Args:
            generation: Whose.
            hook: Its `on_start`.

        Raises:
            ModuleError: It raised, or did not end in time.
        """
        name = generation.definition.name
        limit_s = self.workshop.config.restore_timeout_s
        try:
            await self.workshop.watchdog.call(hook, limit_s, "on_start")
        except BaseException as error:
            if isinstance(error, ReplankError | GeneratorExit) or is_cancelled():
                raise
            raise ModuleError(
                f"on_start failed: {type(error).__name__}: {error}",
                module=name,
                phase=Phase.RESTORE,
                found=f"{type(error).__name__}: {error}",
                expected="an on_start that returns",
                do="mend on_start and reload again",
            ) from error

    async def stop(self, generation: Generation) -> None:
        """Run a generation's `on_stop`, guarded, if its `on_start` was begun."""
        hook = generation.methods.get("on_stop")
        if hook is None or not generation.started:
            return
        generation.started = False
        with self.workshop.watchdog:
            limit_s = self.workshop.config.restore_timeout_s
            try:
                await self.workshop.watchdog.call(hook, limit_s, "on_stop")
            except (asyncio.CancelledError, SystemExit, KeyboardInterrupt) as error:
                if is_cancelled():
                    raise
                raise ModuleError(  # a candidate must not end the host's loop
                    f"on_stop failed: {type(error).__name__}: {error}",
                    module=generation.definition.name,
                    do="mend on_stop",
                ) from error

    async def end_tasks(self, tx: Transaction) -> None:
        """End the tasks of the old generations; what fails is told."""
        for one in tx.each():
            try:
                one.resume = await one.slot.tasks.end_held()
            except Exception as error:
                tx.warnings.append(f"tasks of {one.name}: {type(error).__name__}: {error}")

    def run_tasks(self, one: Participant) -> None:
        """Start the timers of the candidate and go on with what the old generation ran."""
        one.slot.tasks.release()  # what it held has ended
        one.slot.tasks.start(_timers(one.new), one.resume)

    def intents(self, tx: Transaction) -> list[Intent]:
        """Return what the journal must know before anything is done."""
        return [
            Intent(one.name, one.old.version.digest, one.new.version.digest, one.new.number)
            for one in tx.each()
        ]

    def committed(self, tx: Transaction) -> list[Committed]:
        """Return what the commit record says."""
        return [commit_record(one.new) for one in tx.each()]

    async def _make(self, tx: Transaction, one: Participant) -> None:
        one.version = await self.workshop.stored(one.slot, one.source, one.digest)
        probed = one.digest is None  # a committed version was judged before
        if probed:
            require_digest(one.name, one.version, one.expect)
            one.signer = await self.workshop.signer_of(one.name, one.version)
            one.tests = await self.workshop.run_tests(one.slot, one.version)
            if one.tests is not None and not one.tests.passed:
                tx.warnings.append(f"{one.name}: every one of its tests was skipped")
        one.candidate = await self.workshop.make(one.slot, one.version, tx.effects, probed=probed)
        tx.warnings += tx.effects.take_notes()
        tx.on_undo(f"unload the candidate of {one.name}", one.candidate.unload)

    async def _take_back(self, tx: Transaction) -> None:
        taken = await tx.effects.take_back()
        names = ", ".join(one.name for one in tx.each())
        tx.warnings += [f"taken back, for {names} does not serve: {one}" for one in taken.done]
        tx.undo_left += [
            f"left behind by a {names} that does not serve: {one}" for one in taken.left
        ]

    async def _give_back(self, one: Participant) -> None:
        await one.slot.tasks.stop()
        one.slot.tasks.adopt(one.old.lane, one.old.methods)

    def _limits(self, tx: Transaction, one: Participant) -> StateLimits:
        config, own, chosen = self.workshop.config, one.slot.config, tx.choices
        most = chosen.quarantine_max
        return StateLimits(
            mode=_mode(one, chosen.mode or own.mode),
            windowed_from_records=config.windowed_from_records,
            pause_max_s=inf if chosen.over_limits else config.max_pause_s,
            memory_max_bytes=None if chosen.over_limits else config.max_memory_bytes,
            on_bad_record=OnBadRecord(chosen.on_bad_record or own.on_bad_record),
            quarantine_max=own.quarantine_max if most is None else most,
        )

    def _check_uses(self, tx: Transaction) -> None:
        """Check the candidates' uses, and those of every module that uses a candidate."""
        changed = {one.name: one.new.definition for one in tx.each()}
        for definition in changed.values():
            check_uses(definition, changed, self.routes)
        users = {user for name in changed for user in self.routes.users_of(name)}
        for user in sorted(users - changed.keys()):
            using = self.routes.current(user).definition
            check_uses(using, changed, self.routes, allowed=tx.allow_breaking)

    def _wire_for_rehearsal(self, tx: Transaction) -> None:
        """Have the candidates see one another, and what serves of all other modules."""
        handles = self.routes.handles()
        for one in tx.each():
            private = Handle(one.name, one.slot.inbox)
            private._serve(one.new.lane)
            handles[one.name] = private
        for one in tx.each():
            one.new.wire(handles, self.workshop.runtime(one.slot))


def commit_record(generation: Generation) -> Committed:
    """Return what the journal must know of a generation that serves."""
    definition = generation.definition
    return Committed(
        module=definition.name,
        digest=generation.version.digest,
        label=definition.label,
        generation=generation.number,
        schema_version=definition.schema.version,
        schema_dict=definition.schema.to_dict(),
        source=str(generation.version.source),
    )


def _mode(one: Participant, asked: str) -> Mode:
    """Return how a state may travel: no barrier holds while other threads write.

    Raises:
        SchemaError: A window was asked for, and the module's calls run in threads.
    """
    if not one.slot.config.threads:
        return Mode(asked)
    if asked in (Mode.WINDOWED, Mode.LAZY):
        raise SchemaError(
            "the state cannot be copied in a window while calls write from threads",
            module=one.name,
            phase=Phase.PREPARE,
            found=f'threads = true and mode = "{asked}"',
            do='say mode = "auto" or "eager"; it is copied in the pause, when no thread runs',
        )
    return Mode.EAGER


def _timers(generation: Generation) -> dict[str, float]:
    return {timer.name: timer.period_s for timer in generation.definition.timers}
