"""When invariants are asked: in the rehearsal, and again while calls wait, if that is quick."""

from __future__ import annotations

from collections.abc import Mapping

from replank.coordinator.transaction import Transaction
from replank.state.quiet import read_quietly
from replank.verification.invariants import Invariants
from replank.verification.watchdog import Watchdog

_LONG_S = 0.05
"""Seconds that an invariant may hold the event loop in the rehearsal without being told of."""


def rehearse(
    tx: Transaction, watchdog: Watchdog, limit_s: float, quick_s: Mapping[str, float]
) -> list[str]:
    """Ask both versions of each module, on copies brought to this instant; nothing is awaited.

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
        methods = (one.old.methods, one.new.methods)
        asked = Invariants(one.name, one.old.definition, one.new.definition, methods, watchdog)
        one.invariants = asked if asked.names else None
    if not any(one.invariants for one in tx.each()):
        return []
    for one in tx.each():
        one.state.align()
    held: list[str] = []
    for one in tx.each():
        if one.invariants is None:
            continue
        with read_quietly(one.old.values().values()):
            held += [f"{one.name}.{name}" for name in one.invariants.rehearse(limit_s)]
        seconds = one.invariants.seconds
        one.invariants.leave_out([n for n, s in seconds.items() if s > quick_s[one.state.mode]])
        tx.warnings += one.invariants.warnings
        tx.warnings += [
            f"{one.name}: invariant {name} held the event loop for {took * 1e3:.0f} ms"
            for name, took in seconds.items()
            if took > _LONG_S
        ]
    tx.checks_passed += len(held)
    return held


def note(tx: Transaction, limit_s: float) -> None:
    """Ask the versions that served, now that nothing is in flight."""
    for one in tx.each():
        if one.invariants is not None:
            one.invariants.note(limit_s)


def verify(tx: Transaction, limit_s: float) -> list[str]:
    """Ask the candidates, which hold the state now.

    Returns:
        What holds, as `ledger.total`.

    Raises:
        CheckError: One does not hold.
    """
    held = [
        f"{one.name}.{name}"
        for one in tx.each()
        if one.invariants is not None
        for name in one.invariants.verify(limit_s)
    ]
    tx.checks_passed += len(held)
    return held
