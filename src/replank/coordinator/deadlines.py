"""How long each part of a transaction may take."""

from __future__ import annotations

from replank.config import Config
from replank.coordinator.phases import SPECS, Where
from replank.coordinator.transaction import Transaction
from replank.report import Phase


def limit_of(tx: Transaction, phase: Phase, where: Where, config: Config) -> float:
    """Return the seconds that a part of a phase may take.

    Args:
        tx: The transaction.
        phase: Its phase.
        where: In the window or in the pause.
        config: Deadlines.
    """
    if phase is Phase.DRAIN:
        return drain_limit(tx, config)
    if phase is Phase.SNAPSHOT and where == "window":
        return config.reload.window_timeout_s
    limit_s = SPECS[phase].deadline_s(config.reload)
    if phase is not Phase.PREPARE:
        return limit_s
    if any(one.slot.config.tests for one in tx.each()):
        limit_s += config.reload.tests_timeout_s
    typed = sum(one.slot.config.checker(config.reload) is not None for one in tx.each())
    return limit_s + typed * config.reload.type_check_timeout_s


def drain_limit(tx: Transaction, config: Config) -> float:
    """Return the seconds that the calls in flight in these modules get."""
    return max(config.drain_timeout_s(name) for name in tx.names)
