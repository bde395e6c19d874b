"""What must hold after every step of a simulated run, and what must hold at its end."""

from __future__ import annotations

import asyncio
from collections.abc import Container
from typing import Any

from replank.coordinator.phases import REHEARSED
from replank.report import Outcome

PAUSE = 1 + len(REHEARSED)
"""The first step of the course in which calls wait."""


HOP_S_MAX = 0.05
"""Longer than a chain that gets on stands in one place: whatever is outside takes 20 ms at most."""


class Broken(AssertionError):
    """A rule does not hold."""


def must(holds: object, what: str) -> None:
    if not holds:
        raise Broken(what)


def must_serve(code: Any, what: str) -> None:
    """Ask that a generation is the one that serves, and its gate not past its drain."""
    lane = code.lane
    must(lane.gate.lane is lane, f"{what} in {code.private_name}, which does not serve")
    must(lane.state != "quiet", f"{what} in the quiet {code.private_name}")


def check_step(world: Any) -> None:
    """Check what must hold between any two steps; it runs after each, so it calls little."""
    table = world.host._routes._table
    for name, slot in world.host._routes._slots.items():
        gate = slot.gate
        serving = gate.lane
        current = table.get(name)
        if serving.open and (current is None or current.lane is not serving):
            raise Broken(f"{name} {serving.generation} is open and is not the one that serves")
        for lane in world.loaded[name]:
            if lane.open and lane is not serving:
                raise Broken(f"two generations of {name} are open")
        inbox = slot.inbox
        if inbox.accepted != inbox.handled + inbox.failed + inbox.queued and not inbox._ending:
            raise Broken(f"a message of {name} is in no place, or in two")
    for tx in world.active.values():
        if tx.course.at >= PAUSE:
            check_transaction(world, tx, table)


def check_transaction(world: Any, tx: Any, table: Any) -> None:
    """Ask that all modules of a transaction change together, and serve only what is committed."""
    news = [table.get(one.name) is one.candidate for one in tx.participants.values()]
    must(all(news) or not any(news), f"half of {tx.id} serves")
    if all(news):
        for one in tx.participants.values():
            gate = one.slot.gate
            if gate.lane is one.candidate.lane and gate.lane.open:
                row = world.disk.journal.reloads.get(tx.id)
                must(row and row.state == "committed", f"{tx.id} serves and is not committed")


def check_report(world: Any, tx: Any, report: Any) -> None:
    """Ask that a reload ended in one of the three ways, and that the journal agrees."""
    must(report.outcome in tuple(Outcome), f"{tx.id} ended {report.outcome}")
    row = world.disk.journal.reloads.get(tx.id)
    recorded = None if row is None else row.state
    if report.outcome is Outcome.COMMITTED:
        must(recorded == "committed", f"{tx.id} is reported committed, recorded {recorded}")
    else:
        must(recorded != "committed", f"{tx.id} is reported {report.outcome}, but is committed")
    if report.outcome is Outcome.REJECTED:
        must(report.calls_held == 0, f"{tx.id} was rejected, and calls waited")


def stuck_chains(world: Any, names: Container[str]) -> list[int]:
    """Return the calls that a drain of these modules waits for, and that do not get on."""
    now = world.loop.time()
    return [
        op.number
        for op in world.ops
        if op.call == "visit" and op.runs and op.end == "open"  # it hops from module to module
        if any(name in names for name, _ in op.seen)  # another chain may wait at the closed gates
        if now - op.stepped_at > HOP_S_MAX
    ]


def check_drain(world: Any, tx: Any, report: Any) -> None:
    """Ask that no drain waits in vain: a chain in flight must be let through to its end.

    A chain that gets on may be longer than the drain: it goes down again as often as the seed gives.
    """
    if report.error is None or (report.error.phase, report.error.kind) != ("drain", "PhaseTimeout"):
        return
    began, ended = world.spans[tx.id]
    others = [span for tx_id, span in world.spans.items() if tx_id != tx.id]
    if any(span[0] < ended and (span[1] > began or span[0] == span[1]) for span in others):
        return  # a chain may wait at the gates of another reload
    must(not world.stuck[tx.id], f"{tx.id} waited in vain for {report.error.found}")
    in_flight = [
        op
        for op in world.ops
        if op.call in ("linger", "visit") and op.runs and op.invoked_at < ended
        if op.returned_at is None or op.returned_at > began
    ]
    must(in_flight, f"{tx.id} waited for {report.error.found}, which had ended")


def check_rest(world: Any) -> None:
    """Ask that after all work every gate is open and one generation of each module serves."""
    host = world.host
    must(not host._scheduler.running and not host._scheduler.waiting, "a reload never ended")
    committed = host._journal.committed()
    for name, slot in host._routes.slots.items():
        current = host._routes.current(name)
        must(slot.gate.is_open, f"the gate of {name} is closed at the end")
        must(slot.gate.waiting == 0, f"a call of {name} waits at the open gate")
        must(current.lane is slot.gate.lane, f"{name} is called and not the one that serves")
        must(
            committed[name].digest == current.version.digest,
            f"{current.label} serves, but {committed[name].digest} is committed",
        )
        must(world.pumps[name] == 1, f"{world.pumps[name]} tasks of {name} run, not one")
        must(slot.tasks.running == 2, f"{slot.tasks.running} tasks and timers of {name} run")
        must(not slot.persistence.moment.locked(), f"{name} can never be saved again")
        loaded = [one for one in world.codes[name] if one.module is not None]
        lingering = [one for one in loaded if one.lane is not current.lane]
        must(
            all(one.lane.chains for one in lingering),
            f"an old generation of {name} is never unloaded",
        )


def check_end(world: Any) -> None:
    """Ask that a stopped host has left nothing behind."""
    left = [task for task in world.loop.unfinished if task is not asyncio.current_task()]
    must(not left, f"tasks are left: {sorted(task.get_name() for task in left)}")
    for op in world.ops:
        must(op.end != "open", f"call {op.number} was never answered")
        if op.end == "refused" and op.call != "visit":  # what it calls may be refused
            must(op.runs == 0, f"call {op.number} was refused and ran")
        if op.end == "answered":
            must(op.runs == 1, f"call {op.number} was answered and ran {op.runs} times")
    must(all(ticket.done for ticket in world.tickets), "a request was never answered")
    must(not world.loop.problems, f"nobody looked at {world.loop.problems[:1]}")


def check_history(world: Any) -> None:
    """Ask that what clients saw is explained by some order of the calls, key by key."""
    for name, history in world.history.items():
        violations = history.check()
        must(not violations, f"{name}: {'; '.join(map(str, violations))}")
