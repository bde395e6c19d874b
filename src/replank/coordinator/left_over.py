"""Put on the disk what a committed transaction leaves behind: bad records, and what was parked."""

from __future__ import annotations

from replank.coordinator.prepare import Workshop
from replank.coordinator.transaction import Participant, Transaction
from replank.isolation.transfer import RemoteTransfer
from replank.state.holder import Transfer
from replank.state.manager import Parked, parked_by
from replank.state.quarantine import Quarantine
from replank.threads import in_thread


async def keep_left_over(tx: Transaction, workshop: Workshop) -> None:
    """Keep what has no place in the state that serves now; calls go on meanwhile.

    No state is saved before this has returned: a record is in a snapshot or here.

    Args:
        tx: A transaction that was committed.
        workshop: Knows where to put it.
    """
    for one in tx.each():
        try:
            await _keep_bad_records(tx, one, workshop.quarantine)
            if tx.goes_back(one):
                schema = one.old.definition.schema
                one.slot.parked[schema.fingerprint] = await parked_of(one.state)
                parked = dict(one.slot.parked)
                await in_thread(workshop.parked.write, one.name, one.new.definition.schema, parked)
        except Exception as error:
            tx.warnings.append(
                f"what {one.new.definition.label} of {one.name} has no room for is not on the "
                f"disk: {type(error).__name__}: {error}"
            )


async def parked_of(state: Transfer) -> Parked:
    """Return what a way to an older version had no room for, wherever the state is.

    Args:
        state: A transfer to an older version, committed and not yet settled.
    """
    return await state.parked() if isinstance(state, RemoteTransfer) else await parked_by(state)


async def _keep_bad_records(tx: Transaction, one: Participant, quarantine: Quarantine) -> None:
    if tx.back is not None:  # what had not come up serves again
        before = tx.back.participants[one.name].quarantined
        if before:
            await in_thread(quarantine.remove, before)
    if records := one.state.bad_records():
        old = one.old.definition
        one.quarantined = await in_thread(
            quarantine.keep, one.name, tx.id, old.label, old.schema, records
        )


__all__ = ["keep_left_over"]
