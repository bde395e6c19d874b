"""Who uses the simulated host: callers, senders, operators; and the lives of one seed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from replank.errors import CallAborted, HostStopped, Overloaded, StateSealed, UsageError
from replank.testing.history import Kind, Operation, Reloaded, Sent
from replank.testing.simulation import bury, virtual_clocks
from tests.simulation import parts, rules
from tests.simulation.parts import Disk, FakeVersion
from tests.simulation.rules import must
from tests.simulation.world import REGISTERS, Crashed, Op, Plan, SimHost, World

CALLS = (
    "read",
    "write",
    "write",
    "add",
    "add",
    "add_inline",
    "visit",
    "visit",
    "linger",
    "improve",
)
ASYNC_PLACES = tuple(place for place in parts.PLACES if place not in parts.PLAIN)
CLIMBS = 0.25
"""Part of the calls, where modules are tied, that go through all of them."""
GUARDED = frozenset({"on_start", "on_stop", "check rehearsal", "check pause"})
"""Places in the author's code that the watchdog guards: it may do anything."""


@dataclass
class Result:
    """What one seed came to; equal for equal seeds."""

    steps: int = 0
    lives: int = 0
    calls: int = 0
    messages: int = 0
    outcomes: tuple[str, ...] = ()
    crashes: int = 0
    histories: int = 0
    """Of one module in a life that ended well: each was explained by some order of its calls."""
    time: float = 0.0


class Clients:
    """Everybody who uses one life of the host.

    Args:
        world: The life.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.plan = world.plan
        self.rng = world.rng
        self.outcomes: list[str] = []
        self.sent = world.disk.sent

    async def live(self) -> None:
        """Start, work, and stop in order."""
        world, host = self.world, self.world.host
        await host.start()
        if world.lives:
            self.check_recovery()
        for name in self.plan.names:
            self.take_over(name)
        world.loop.on_step = world.on_step
        busy = 1 if world.lives else 3
        jobs = [self.caller(f"caller-{world.lives}-{i}", busy) for i in range(self.plan.callers)]
        jobs += [self.sender(i, busy) for i in range(self.plan.senders)]
        if not world.lives:
            jobs += [self.operator() for _ in range(1 + (self.rng.random() < 0.3))]
        await asyncio.gather(*jobs)
        for ticket in world.tickets:
            await self.outcome(ticket)
        await self.settled()
        rules.check_rest(world)
        await host.stop(self.rng.choice((0.3, 0.0001)))
        rules.check_end(world)
        self.close_history()

    def take_over(self, name: str) -> None:
        """Begin the history with what was on the disk."""
        kept = self.world.disk.kept.get(name)
        history = self.world.history[name]
        values: dict[str, Any] = kept.values if kept is not None else {}
        history.initial = {
            f"{name}.{key}": value
            for kind in ("registers", "counters")
            for key, value in values.get(kind, {}).items()
        }

    def check_recovery(self) -> None:
        """Ask that after a crash each reload is wholly done or wholly undone."""
        host, journal = self.world.host, self.world.disk.journal
        for tx_id, row in journal.reloads.items():
            must(row.state != "prepared", f"recovery has left {tx_id} half done")
            must(row.report is not None, f"recovery has not told of {tx_id}")
            commits = {one.module for one in journal.commits if one.tx == tx_id}
            wanted = {one.module for one in row.participants}
            must(
                commits == (wanted if row.state == "committed" else set()),
                f"{tx_id} is {row.state}, and {sorted(commits)} of {sorted(wanted)} are committed",
            )
        for name, committed in host._journal.committed().items():
            serving = host._routes.current(name)
            must(serving.version.digest == committed.digest, f"another {name} was started")

    async def settled(self) -> None:
        """Return when nothing is left to do."""
        host = self.world.host
        while True:
            slots = host._routes.slots.values()
            busy = (
                any(slot.inbox.queued for slot in slots)
                or any(not slot.gate.is_open or slot.persistence.moment.locked() for slot in slots)
                or host._coordinator.retirement.leaving
                or host._scheduler.running
                or any(slot.probation and not slot.probation._over for slot in slots)
            )
            if not busy:
                await asyncio.sleep(0.1)  # a thread that loads what nobody wants any more
                return
            must(self.world.loop.time() < 40.0, f"it never comes to rest: {self.restless()}")
            await asyncio.sleep(0.05)

    def restless(self) -> str:
        host = self.world.host
        slots = {
            name: (slot.inbox.queued, slot.gate.is_open, slot.gate.lane.state)
            for name, slot in host._routes.slots.items()
        }
        retiring = host._coordinator.retirement.leaving
        held = [
            name for name, slot in host._routes.slots.items() if slot.persistence.moment.locked()
        ]
        kept = [
            slot.name
            for slot in host._routes.slots.values()
            if slot.probation and not slot.probation._over
        ]
        return f"{slots}, {retiring} retiring, {host._scheduler.running} reloading, saving {held}, kept {kept}"

    def close_history(self) -> None:
        world = self.world
        for op in world.ops:
            self.note(op)
        for tx in world.transactions.values():
            self.note_reload(tx)
        for name in self.plan.names:
            self.note_messages(name)
        rules.check_history(world)

    def note_messages(self, name: str) -> None:
        """Take the state's own account, and what the next life would handle, for what was done."""
        world = self.world
        kept = world.disk.kept[name]
        done = [(str(sender), number) for sender, number in kept.values["handled"]]
        left = [one["args"] for one in kept.messages]
        left += [
            msgspec.msgpack.decode(entry.payload)["args"]
            for entry in world.disk.port._streams.get(f"inbox/{name}", ())
            if entry.position > kept.inbox_position
        ]
        history = world.history[name]
        history.handled = [*done, *((str(sender), number) for sender, number in left)]
        history.sent = [
            replace(one, accepted=None) if (name, one.sender, one.number) in world.cut else one
            for one in self.sent.get(name, ())
        ]

    def crash(self) -> None:
        """Note what nobody knows any more: messages that were only in memory."""
        for name in self.plan.names:
            if not self.plan.durable[name]:
                sent = self.sent.get(name, [])
                sent[:] = [replace(one, accepted=None) for one in sent]

    # -- callers ------------------------------------------------------------------------------

    async def caller(self, process: str, calls: int) -> None:
        world = self.world
        for _ in range(self.rng.randrange(1, calls + 2)):
            await world.loop.pause()
            op = self.new_op(process)
            chance = self.rng.random()
            task = asyncio.ensure_future(self.call(op))
            if chance < 0.1:
                await asyncio.sleep(world.loop.latency() * 2)
                if not task.done():
                    op.end = "cancelled" if op.end == "open" else op.end
                    task.cancel()
            await asyncio.wait((task,))
            if not task.cancelled():
                task.result()

    def new_op(self, process: str) -> Op:
        call = self.rng.choice(CALLS if self.rng.random() < 0.3 else CALLS[:8])
        module = self.rng.choice(self.plan.names)
        if self.plan.tied and self.rng.random() < CLIMBS:
            call, module = "visit", self.plan.names[-1]  # from the top, over all of them
        op = Op(len(self.world.ops) + 1, process, module, call)
        if call in ("read", "write"):
            op.key = self.rng.choice(REGISTERS)
        elif call in ("add", "add_inline"):
            op.key = "n"
        op.argument = op.number if call == "write" else self.rng.randrange(1, 5)
        self.world.ops.append(op)
        return op

    async def call(self, op: Op) -> None:
        world = self.world
        handle = world.host[op.module]
        world.arrived[op.module] += 1
        op.arrival = world.arrived[op.module]
        op.invoked_at = world.loop.time()
        try:
            if op.call in ("visit", "improve"):
                answer = await getattr(handle, op.call)(op)
            elif op.call == "read":
                answer = await handle.read(op, op.key)
            elif op.call == "linger":
                answer = await handle.linger(op, self.rng.choice((0.05, 0.6)))
            else:
                answer = await getattr(handle, op.call)(op, op.key, op.argument)
        except (Overloaded, HostStopped):
            op.end = "refused"
        except StateSealed:
            op.end = "sealed"  # it outlived its version: it ran, and its write is refused
        except CallAborted:
            op.end = "cancelled"  # by the drain policy of the module
        except asyncio.CancelledError:
            op.end = "cancelled"  # by its caller
            raise
        else:
            if op.end == "open":
                op.end, op.answer = "answered", answer
                op.returned_at = world.loop.time()

    def note(self, op: Op) -> None:
        """Put a call into the history of its module."""
        kinds = {"read": Kind.READ, "write": Kind.WRITE, "add": Kind.ADD, "add_inline": Kind.ADD}
        history = self.world.history[op.module]
        if op.end in ("refused", "sealed") or op.runs == 0:
            return  # it must have had no effect: one that it had would be unexplained
        known = op.returned_at if op.end == "answered" and not op.outlived else None
        kind = kinds.get(op.call, Kind.READ)
        key = f"{op.module}.{op.key}" if op.key else f"visit {op.number}"
        answer = op.answer if op.key else 0
        seen = () if op.outlived else tuple(op.seen)
        history.operations.append(
            Operation(op.process, key, kind, op.argument, answer, op.invoked_at, known, seen)
        )

    # -- senders ------------------------------------------------------------------------------

    async def sender(self, number: int, busy: int) -> None:
        world = self.world
        name = str(number + 10 * world.lives)
        for count in range(self.rng.randrange(1, busy * 3)):
            module = self.rng.choice(self.plan.names)
            if self.rng.random() < 0.5:
                await world.loop.pause()
            sends = world.host[module].send.note(int(name), count)
            account = self.sent.setdefault(module, [])
            account.append(Sent(name, count, None))  # until it is known
            place = len(account) - 1
            task = asyncio.ensure_future(sends)
            gives_up = self.rng.random() < 0.2
            if gives_up:
                await asyncio.sleep(world.loop.latency())
                task.cancel()
            await asyncio.wait((task,))
            accepted: bool | None = True
            if task.cancelled():
                # Accepted and handled, or on its way to the disk, before the sender could know.
                begun = (module, name, count) in world.handled or self.plan.durable[module]
                accepted = None if begun else False
            elif task.exception() is not None:
                must(isinstance(task.exception(), HostStopped), f"sending: {task.exception()!r}")
                accepted = False
            account[place] = Sent(name, count, accepted)

    # -- operators ----------------------------------------------------------------------------

    async def operator(self) -> None:
        world, rng = self.world, self.rng
        for _ in range(self.plan.reloads):
            await world.loop.pause()
            if rng.random() < 0.15:
                try:
                    ticket = world.host.rollback(rng.choice(self.plan.names))
                except UsageError:
                    continue
                world.tickets.append(ticket)
            else:
                ticket = self.reload()
            if rng.random() < 0.8:
                await self.outcome(ticket)
        if rng.random() < 0.1:
            await world.host.plan(self.plan.names[0])

    def reload(self) -> Any:
        world, rng = self.world, self.rng
        count = rng.randrange(1, len(self.plan.names) + 1)
        names = rng.sample(self.plan.names, count)
        versions = {name: world.new_version(name) for name in names}
        if rng.random() < 0.6:
            for _ in range(rng.choice((1, 1, 1, 2))):
                place, kind = draw_fault(rng)
                versions[rng.choice(names)].faults[place] = kind
        if rng.random() < 0.1:
            what = rng.choice(parts.JOURNAL_PLACES)
            world.journal_faults[what] = rng.choice(("raise", "raise", "cancel", "crash"))
        return world.ask(versions)

    async def outcome(self, ticket: Any) -> None:
        world = self.world
        try:
            report = await ticket
        except HostStopped:
            must(world.cancelled & ticket.modules, "a reload was cancelled by nobody")
            return
        self.outcomes.append(str(report.outcome))
        if report.outcome == "superseded":
            must(report.id not in world.transactions, f"{report.id} was superseded and runs")
            newer = report.superseded_by
            must(newer not in ("", report.id), f"{report.id} was superseded by nobody")
            return
        tx = world.transactions[report.id]
        rules.check_report(world, tx, report)
        rules.check_drain(world, tx, report)

    def note_reload(self, tx: Any) -> None:
        """Put a reload into the history of each of its modules."""
        row = self.world.disk.journal.reloads.get(tx.id)
        committed = row is not None and row.state == "committed"
        generations = {
            one.name: (one.old.number, one.candidate.number if one.candidate else 0)
            for one in tx.each()
        }
        if tx.id not in self.world.spans:
            return  # only a plan
        noted = Reloaded(tx.id, generations, committed, *self.world.spans[tx.id])
        for name in self.plan.names:
            self.world.history[name].reloads.append(noted)


def draw_fault(rng: random.Random) -> tuple[str, str]:
    """Draw where a version fails and how; only its author's code may do anything."""
    place = rng.choice(parts.PLACES)
    if place in GUARDED:
        return place, rng.choice(parts.KINDS)
    kinds = ["raise", "raise", "cancel", "crash"]
    if place not in parts.PLAIN:
        kinds += ["hang", "hang"]
    if place == "construct" or place.startswith("migrate"):
        kinds += ["exit", "own cancel"] if place == "construct" else ["exit"]
    return place, rng.choice(kinds)


Prepare = Callable[[World], None]


def run(seed: int, prepare: Prepare | None = None) -> Result:
    """Run one seed; in `simulated()`.

    Args:
        seed: Chooses everything.
        prepare: Called with each life before it begins: where a test plants its bug.

    Raises:
        Broken: A rule does not hold.
    """
    plan = Plan.draw(random.Random(seed))
    disk = Disk()
    result = Result()
    outcomes: list[str] = []
    while True:
        world = World(seed, plan, disk, result.lives)
        for name in plan.names:
            if not result.lives:
                world.add_version(FakeVersion(name, 0))
        clients = Clients(world)
        crashed = _live(world, clients, prepare)
        result.lives += 1
        result.crashes += crashed
        result.steps += world.loop.steps
        result.calls += len(world.ops)
        result.messages = sum(len(one) for one in disk.sent.values())
        result.time += world.loop.time()
        outcomes += clients.outcomes
        if not crashed:  # a crashed life's calls are judged by what the next one found
            result.histories += len(world.history)
            result.outcomes = tuple(outcomes)
            return result
        must(result.lives < 4, "it crashes again and again")


def _live(world: World, clients: Clients, prepare: Prepare | None) -> bool:
    """Live one life to its end; return whether it was a crash."""
    with virtual_clocks(world.loop.time):
        SimHost(world)
        if prepare is not None:
            prepare(world)
        try:
            world.loop.run_until_complete(clients.live())
        except Crashed:
            clients.crash()
            return True
        finally:
            world.life.dead = True
            bury(world.loop)
    return False
