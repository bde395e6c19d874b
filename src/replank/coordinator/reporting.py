"""Say how a transaction ended, and what was proven before its gates opened."""

from __future__ import annotations

from time import perf_counter

import msgspec

from replank.coordinator.explain import explain
from replank.coordinator.transaction import Transaction
from replank.report import Certificate, ErrorReport, Outcome, ReloadReport, describe


def failure_of(tx: Transaction, error: BaseException) -> ErrorReport:
    """Return what went wrong, with the candidate's own file and line where it was at fault.

    Args:
        tx: The transaction, before it is taken back.
        error: What was raised.
    """
    serves = ", ".join(one.old.label for one in tx.each())
    module = tx.names[0] if len(tx.names) == 1 else None
    explain(error, [one.candidate for one in tx.each() if one.candidate is not None])
    return describe(error, phase=tx.phase, module=module, serves=serves)


def report_of(
    tx: Transaction,
    outcome: Outcome,
    error: ErrorReport | None = None,
    undo_errors: tuple[str, ...] = (),
) -> ReloadReport:
    """Return the report of a transaction that has ended.

    Args:
        tx: The transaction.
        outcome: How it ended.
        error: Why it did not commit.
        undo_errors: What failed while it was taken back.
    """
    if error is not None and undo_errors:
        error = msgspec.structs.replace(error, undo_errors=undo_errors)
    held = tx.held.values()
    return ReloadReport(
        id=tx.id,
        outcome=outcome,
        modules=tuple(one.report() for one in tx.each()),
        phases=tx.phase_reports(),
        reason=tx.reason,
        cause=tx.cause,
        started_at=tx.started_at,
        # Calls that came while the loop itself was busy wait in a socket, where nobody counts.
        pause_s=max((max(one.longest_wait_s, one.closed_s) for one in held), default=0.0),
        closed_s=max((one.closed_s for one in held), default=0.0),
        total_s=perf_counter() - tx.started,
        calls_held=sum(one.calls for one in held),
        messages_held=tx.messages_held,
        streams_carried=sum(one.streams.carried for one in held),
        streams_ended=sum(one.streams.ended for one in held),
        streams_finishing=sum(one.streams.finishing for one in held),
        error=error,
        warnings=tuple(tx.warnings),
        certificate=certificate_of(tx) if outcome is Outcome.COMMITTED else None,
    )


def certificate_of(tx: Transaction) -> Certificate:
    """Return what was proven before the gates opened.

    Args:
        tx: A transaction that was committed.
    """
    slots = [one.slot for one in tx.each()]
    return Certificate(
        records_migrated=sum(one.state.records for one in tx.each()),
        checks_run=tx.checks_passed,
        checks_passed=tx.checks_passed,
        state_digest_before=tx.digests[0],
        state_digest_after=tx.digests[1],
        messages_in=sum(slot.inbox.accepted for slot in slots),
        messages_answered=sum(slot.inbox.handled + slot.inbox.failed for slot in slots),
        messages_queued=sum(slot.inbox.queued for slot in slots),
        longest_wait_s=max((one.longest_wait_s for one in tx.held.values()), default=0.0),
        longest_call_before_s=max(slot.gate.longest_call_s for slot in slots),
    )
