"""What a start does with reloads that a crash cut off, and with history that is too long."""

from __future__ import annotations

import json
import sqlite3

from replank.journal import storage
from replank.journal.records import utc_now
from replank.report import ErrorReport, ModuleReport, Outcome, ReloadReport


def undo_unfinished(db: sqlite3.Connection) -> list[str]:
    """Mark what was begun and not committed as undone, and write the reports that are missing.

    Args:
        db: The writer's connection, in a transaction.

    Returns:
        One line for the operator for each reload concerned.
    """
    rows = db.execute(
        "SELECT id, modules, reason, state, started_at FROM transactions"
        " WHERE state = 'prepared' OR report IS NULL ORDER BY epoch"
    ).fetchall()
    lines = []
    for tx_id, modules, reason, state, started_at in rows:
        names = ", ".join(json.loads(modules))
        modules_seen = _modules_of(db, tx_id)
        if state == "committed":
            report = _late_report(tx_id, modules_seen, reason, started_at)
            lines.append(
                f"reload {tx_id} of {names} had committed when the host ended; it is finished now"
            )
        else:
            report = _undone_report(tx_id, modules_seen, reason, started_at)
            state = "undone"  # noqa: PLW2901 - the new state of this very row
            lines.append(
                f"reload {tx_id} of {names} had not committed when the host ended; it was undone,"
                " the versions before it serve"
            )
        db.execute(
            "UPDATE transactions SET state = ?, ended_at = ?, report = ? WHERE id = ?",
            (state, utc_now(), report.to_json(), tx_id),
        )
    return lines


def prune(db: sqlite3.Connection, keep: int) -> None:
    """Remove the oldest reloads from the history; what serves and what served before stay.

    Args:
        db: The writer's connection, in a transaction.
        keep: How many reloads stay.
    """
    db.execute(
        "DELETE FROM transactions WHERE epoch <="
        " (SELECT epoch FROM transactions ORDER BY epoch DESC LIMIT 1 OFFSET ?)",
        (keep,),
    )


def _modules_of(db: sqlite3.Connection, tx_id: str) -> tuple[ModuleReport, ...]:
    committed = storage.committed(db)
    rows = db.execute(
        "SELECT module, digest_from, digest_to, generation FROM participants WHERE tx = ?"
        " ORDER BY module",
        (tx_id,),
    )
    return tuple(
        ModuleReport(
            name=module,
            digest_from=digest_from,
            digest_to=digest_to,
            generation_to=generation,
            version_to=committed[module].label
            if module in committed and committed[module].digest == digest_to
            else "",
        )
        for module, digest_from, digest_to, generation in rows
    )


def _undone_report(
    tx_id: str, modules: tuple[ModuleReport, ...], reason: str, started_at: str
) -> ReloadReport:
    return ReloadReport(
        id=tx_id,
        outcome=Outcome.ROLLED_BACK,
        modules=modules,
        reason=reason,
        started_at=started_at,
        error=ErrorReport(
            phase="recovery",
            module=modules[0].name if len(modules) == 1 else None,
            kind="HostEnded",
            message="the host ended before the commit record was written; nothing was changed",
            serves="the versions before it, with their last durable state",
            do="reload again",
        ),
    )


def _late_report(
    tx_id: str, modules: tuple[ModuleReport, ...], reason: str, started_at: str
) -> ReloadReport:
    return ReloadReport(
        id=tx_id,
        outcome=Outcome.COMMITTED,
        modules=modules,
        reason=reason,
        started_at=started_at,
        warnings=("the host ended after the commit record, before the report was written",),
    )
