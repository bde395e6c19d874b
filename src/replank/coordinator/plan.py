"""Say what a reload would do, from what Prepare and the rehearsal have found."""

from __future__ import annotations

from time import perf_counter

from replank.coordinator.transaction import Participant, Transaction
from replank.errors import MigrationError
from replank.report import ErrorReport, ModulePlan, Phase, Plan


def plan_of(tx: Transaction, error: ErrorReport | None) -> Plan:
    """Return the plan of a transaction that went as far as it could without making calls wait.

    Args:
        tx: The transaction, before it is taken back.
        error: Why it would be rejected, or None.
    """
    return Plan(
        modules=tuple(_module_plan(one) for one in tx.each()),
        accepted=error is None,
        error=error,
        warnings=tuple(tx.warnings),
        seconds=perf_counter() - tx.started,
    )


def refuse_long_pause(tx: Transaction, limit_s: float) -> None:
    """Refuse a reload for which calls would wait too long.

    Args:
        tx: The transaction; its copies were made and measured.
        limit_s: Seconds that the pause may take.

    Raises:
        MigrationError: It would be longer.
    """
    predicted_s = sum(one.state.predicted_pause_s for one in tx.each())
    if predicted_s > limit_s:
        largest = max(tx.each(), key=lambda one: one.state.predicted_pause_s)
        raise MigrationError(
            "the pause would be longer than allowed",
            module=largest.name,
            phase=Phase.PREPARE,
            found=f"about {predicted_s:.3f} s for {largest.state.records} records, "
            "measured on the real state",
            expected=f"at most reload.max_pause_s = {limit_s:g}",
            do="keep the records in a Table, or raise reload.max_pause_s",
        )


def _module_plan(one: Participant) -> ModulePlan:
    old, new = one.old, one.candidate
    definition = (new or old).definition
    return ModulePlan(
        name=one.name,
        version_from=old.definition.label,
        version_to=new.definition.label if new else "",
        digest_from=old.version.digest,
        digest_to=one.version.digest if one.version else "",
        generation_from=old.number,
        schema_from=old.definition.schema.version,
        schema_to=new.definition.schema.version if new else 0,
        schema_changes=one.schema_changes,
        contract_changes=tuple(map(str, one.contract_changes)),
        steps=tuple(one.migration.steps) if one.migration else (),
        carried=definition.carried,
        snapshotted=tuple(n for n in definition.state_names if n not in definition.carried),
        mode=one.transfer.mode if one.transfer else "eager",
        records=one.transfer.records if one.transfer else 0,
        predicted_pause_s=one.transfer.predicted_pause_s if one.transfer else 0.0,
        downgrade=one.migration.reversible if one.migration else False,
        unchanged=one.version is not None and one.version.digest == old.version.digest,
    )
