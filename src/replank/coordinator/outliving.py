"""What outlives a drain: seal the state that it would write to, and tell the operator of it."""

from __future__ import annotations

from replank.coordinator.transaction import Transaction


def seal_outlived(tx: Transaction) -> None:
    """Seal every old generation that calls or streams go on in; undone when the reload fails.

    Args:
        tx: A transaction whose drain has ended.
    """
    assert tx.drained is not None, "nothing was drained"
    for blocker in (*tx.drained.cancelled, *tx.drained.detached):
        tx.warnings.append(f"outlived the drain: {blocker}")
    for one in tx.each():
        if one.old.lane.outlived:
            tx.on_undo(f"unseal the state of {one.name}", one.old.seal_off(one.state.moved))


__all__ = ["seal_outlived"]
