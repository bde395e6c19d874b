"""Say what a reload would do, from what Prepare and the rehearsal have found."""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter

from replank.config import ReloadConfig
from replank.coordinator.transaction import Participant, Transaction
from replank.errors import MigrationError
from replank.report import ErrorReport, ModulePlan, Phase, Plan
from replank.state.bad_policy import REPORTED


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


def refuse_over_limits(tx: Transaction, config: ReloadConfig) -> None:
    """Refuse a reload that is expected to pause too long or to take too much memory.

    Args:
        tx: The transaction; nothing was copied yet.
        config: The limits.

    Raises:
        MigrationError: It would; the error has the numbers.
    """
    costs = {one.name: one.state.meter.expected.cost for one in tx.each() if one.state.meter}
    if tx.choices.over_limits or not costs:
        return
    _refuse_pause(
        {name: cost.pause_s for name, cost in costs.items()}, tx, config, "by a sample of it"
    )
    wanted, limit = sum(cost.memory_bytes for cost in costs.values()), config.max_memory_bytes
    if limit is not None and wanted > limit:
        name = max(costs, key=lambda name: costs[name].memory_bytes)
        raise MigrationError(
            "the reload would take more memory than allowed",
            module=name,
            phase=Phase.PREPARE,
            found=f"about {wanted:,} bytes more, {costs[name].memory_bytes:,} of them for {name}",
            expected=f"at most reload.max_memory_bytes = {limit:,}",
            do="raise reload.max_memory_bytes, or reload once with --over-limits",
        )


def refuse_long_pause(tx: Transaction, config: ReloadConfig) -> None:
    """Refuse a reload for which calls would wait too long.

    Args:
        tx: The transaction; its copies were made and measured.
        config: The limits.

    Raises:
        MigrationError: They would; the error has the numbers.
    """
    if not tx.choices.over_limits:
        measured = {one.name: one.state.predicted_pause_s for one in tx.each()}
        _refuse_pause(measured, tx, config, "measured on the real state")


def _refuse_pause(
    seconds: Mapping[str, float], tx: Transaction, config: ReloadConfig, how: str
) -> None:
    predicted_s = sum(seconds.values())
    if predicted_s <= config.max_pause_s:
        return
    name = max(seconds, key=lambda name: seconds[name])
    meter = tx.participants[name].state.meter
    isolated = tx.participants[name].slot.config.isolated
    advice = (
        "keep less in it, or run it in the host, where a Table travels in a window"
        if isolated
        else "keep the records in a Table"
    )
    longest = "; ".join(meter.expected.notes) if meter else ""
    raise MigrationError(
        "the pause would be longer than allowed",
        module=name,
        phase=Phase.PREPARE,
        found=f"about {predicted_s:.3f} s, {how}" + (f"; {longest}" if longest else ""),
        expected=f"at most reload.max_pause_s = {config.max_pause_s:g}",
        do=f"{advice}, raise reload.max_pause_s, or reload once with --over-limits",
    )


def _module_plan(one: Participant) -> ModulePlan:
    old, new = one.old, one.candidate
    definition = (new or old).definition
    bad = one.transfer.bad_records() if one.transfer else []
    meter = one.transfer.meter if one.transfer else None
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
        state_bytes=meter.expected.state_bytes if meter else 0,
        predicted=meter.expected.cost if meter else None,
        measured=meter.measured if meter else None,
        notes=meter.expected.notes if meter else (),
        quarantined=sum(not each.filled for each in bad),
        defaulted=sum(bool(each.filled) for each in bad),
        bad_records=tuple(each.report() for each in bad[:REPORTED]),
        unchanged=one.version is not None and one.version.digest == old.version.digest,
    )
