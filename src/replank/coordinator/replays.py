"""When recent queries are asked again: in the rehearsal, after the candidate's checks."""

from __future__ import annotations

from functools import partial

from replank.coordinator.transaction import Participant, Transaction
from replank.errors import CheckError
from replank.isolation.transfer import RemoteTransfer
from replank.report import Phase, ReplayReport
from replank.verification.replay import Replay, Side
from replank.verification.watchdog import Watchdog


async def replay(tx: Transaction, watchdog: Watchdog, limit_s: float) -> list[str]:
    """Ask each candidate what its module was asked lately.

    Args:
        tx: The transaction; its candidates hold the copies.
        watchdog: Interrupts what does not end.
        limit_s: Seconds for each module.

    Returns:
        What was found, for the operator.

    Raises:
        CheckError: More answers differ than the module allows.
    """
    if tx.back is not None:
        return []  # it has served before
    lines = []
    for one in tx.each():
        if one.slot.recent is None:
            continue
        asked = Replay(
            one.name,
            Side(one.old.definition.calls, one.old.methods),
            Side(one.new.definition.calls, one.new.methods),
            one.state.align,
            watchdog,
            limit_s,
            one.state.again if isinstance(one.state, RemoteTransfer) else None,
        )
        allowed = {*one.slot.config.replay_expected, *tx.expect_changes}
        found = await asked.run(
            one.slot.recent.payloads(), partial(_is_expected, allowed, one.name)
        )
        one.replay = found
        lines.append(_line(one.name, found))
        _judge(tx, one, found)
    return lines


def _is_expected(allowed: set[str], module: str, call: str) -> bool:
    return bool(allowed & {call, f"{module}.{call}", "*"})


def _line(name: str, found: ReplayReport) -> str:
    parts = [f"{found.same} of {found.asked} replayed queries of {name} answer the same"]
    parts += [f"{found.expected} differ as expected"] if found.expected else []
    parts += [f"{found.noisy} differ in the old version too"] if found.noisy else []
    parts += [f"{found.not_asked} not asked for lack of time"] if found.not_asked else []
    return ", ".join(parts)


def _judge(tx: Transaction, one: Participant, found: ReplayReport) -> None:
    if not found.asked:
        tx.warnings.append(f"{one.name}: no recent query to replay: nothing was compared")
        return
    if not found.differed:
        return
    first = found.differences[0]
    said = (
        f"{found.differed} of {found.asked} replayed queries answer differently: "
        f"{first.call}({first.arguments}): {first.place}: {first.before}, now {first.after}"
    )
    limit = one.slot.config.replay_reject
    if limit is None or found.differed <= limit * found.asked:
        tx.warnings.append(f"{one.name}: {said}")
        return
    calls = sorted({difference.call for difference in found.differences})
    raise CheckError(
        said,
        module=one.name,
        phase=Phase.VERIFY,
        found=f"{found.differed / found.asked:.1%} of the answers",
        expected=f"at most replay_reject = {limit:.1%}",
        do="mend the candidate, or say which answers are meant to change: "
        + " ".join(f"--expect-change {call}" for call in calls),
    )


__all__ = ["replay"]
