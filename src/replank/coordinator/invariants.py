"""When invariants are asked: in the rehearsal, and again while calls wait, if that is quick."""

from __future__ import annotations

from collections.abc import Mapping

from replank.coordinator.transaction import Participant, Transaction
from replank.isolation.invariants import RemoteInvariants
from replank.isolation.transfer import RemoteTransfer
from replank.state.quiet import read_quietly
from replank.verification.invariants import Invariants
from replank.verification.watchdog import Watchdog

_LONG_S = 0.05
"""Seconds that an invariant may hold the event loop in the rehearsal without being told of."""


async def rehearse(
    tx: Transaction, watchdog: Watchdog, limit_s: float, quick_s: Mapping[str, float]
) -> list[str]:
    """Ask both versions of each module, on copies brought to this instant.

    For the modules of this process nothing is awaited in between; of one in another process the
    copy and the answers about it are made in one turn of that process's loop.

    Args:
        tx: The transaction; its candidates hold the copies.
        watchdog: Interrupts what does not end.
        limit_s: Seconds for each answer.
        quick_s: Seconds above which one is not asked again in the pause, by the state's mode.

    Returns:
        What holds, as `ledger.total`.

    Raises:
        CheckError: One does not hold.
    """
    if tx.back is not None:
        return []  # it has served before, and its state was followed write by write
    for one in tx.each():
        one.invariants = _asked_of(one, watchdog)
    held = _rehearse_here(tx, limit_s)
    for one in tx.each():
        if isinstance(one.invariants, RemoteInvariants):
            held += [f"{one.name}.{name}" for name in await one.invariants.rehearse(limit_s)]
    for one in tx.each():
        if one.invariants is not None:
            _note_times(tx, one, one.invariants, quick_s[one.state.mode])
    tx.checks_passed += len(held)
    return held


def _asked_of(one: Participant, watchdog: Watchdog) -> Invariants | RemoteInvariants | None:
    old, new = one.old.definition, one.new.definition
    if isinstance(one.state, RemoteTransfer):
        far = RemoteInvariants(one.name, one.state, set(old.invariants) & set(new.invariants))
        return far if far.names else None
    asked = Invariants(one.name, old, new, (one.old.methods, one.new.methods), watchdog)
    return asked if asked.names else None


def _rehearse_here(tx: Transaction, limit_s: float) -> list[str]:
    held: list[str] = []
    here = [one for one in tx.each() if isinstance(one.invariants, Invariants)]
    if here:
        for one in tx.each():
            one.state.align()
    for one in here:
        assert isinstance(one.invariants, Invariants), "it was chosen by that"
        with read_quietly(one.old.values().values()):
            held += [f"{one.name}.{name}" for name in one.invariants.rehearse(limit_s)]
    return held


def _note_times(
    tx: Transaction, one: Participant, asked: Invariants | RemoteInvariants, quick_s: float
) -> None:
    asked.leave_out([name for name, seconds in asked.seconds.items() if seconds > quick_s])
    tx.warnings += asked.warnings
    tx.warnings += [
        f"{one.name}: invariant {name} held the event loop for {took * 1e3:.0f} ms"
        for name, took in asked.seconds.items()
        if took > _LONG_S
    ]


def note(tx: Transaction, limit_s: float) -> None:
    """Ask the versions that served, now that nothing is in flight.

    One in another process is asked with its snapshot.
    """
    for one in tx.each():
        if isinstance(one.invariants, Invariants):
            one.invariants.note(limit_s)


async def verify(tx: Transaction, limit_s: float) -> list[str]:
    """Ask the candidates, which hold the state now.

    Returns:
        What holds, as `ledger.total`.

    Raises:
        CheckError: One does not hold.
    """
    held: list[str] = []
    for one in tx.each():
        if isinstance(one.invariants, RemoteInvariants):
            held += [f"{one.name}.{name}" for name in await one.invariants.verify(limit_s)]
        elif one.invariants is not None:
            held += [f"{one.name}.{name}" for name in one.invariants.verify(limit_s)]
    tx.checks_passed += len(held)
    return held
