"""Prepare's look at contracts: what a candidate no longer offers, and who in the host uses it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from replank.code.generation import Generation
from replank.coordinator.slot import Routes
from replank.coordinator.transaction import Participant, Transaction
from replank.definition import describe_definition
from replank.errors import ContractError
from replank.report import Phase
from replank.threads import in_thread
from replank.traffic.handle import Handle
from replank.verification.contract import (
    ContractChange,
    ContractKind,
    allowed_by,
    breaking,
    compare_contracts,
)
from replank.verification.usage import calls_used, interface_calls

_OF_HANDLES = frozenset(dir(Handle))
Users = Mapping[str, frozenset[str] | None]
"""The modules that use another one and do not change with it, each with the calls that it makes;
None when that cannot be told."""


async def judge_contracts(tx: Transaction, routes: Routes) -> None:
    """Compare what each candidate offers with what serves, and refuse what breaks a user.

    Callers outside the host are not known: what would break only them is a warning. A way back is
    never refused: it is there for when the new version is worse.

    Args:
        tx: The transaction; its candidates are loaded.
        routes: Who uses whom.

    Raises:
        ContractError: A call that a module uses changes under it, or any, where that is refused.
    """
    back = tx.back is not None or tx.reason == "rollback"
    for one in tx.each():
        one.contract_changes = compare_contracts(
            describe_definition(one.old.definition), describe_definition(one.new.definition)
        )
        tx.warnings += [
            f"{one.name}: {change}; what it looked for is looked for no more"
            for change in one.contract_changes
            if change.kind is ContractKind.CHECK_REMOVED and not back
        ]
        broken = breaking(one.contract_changes)
        policy = one.slot.config.contract
        if not broken or policy == "off":
            continue
        allowed = allowed_by(tx.allow_breaking, one.name)
        users = await _users(tx, routes, one.name)
        verdicts = [
            _Verdict(
                change,
                users=_using(change, users),
                allowed=allowed(change) or back,
                strict=policy == "strict",
            )
            for change in broken
        ]
        refused = [verdict for verdict in verdicts if verdict.refused]
        if refused:
            raise _refusal(one, refused)
        tx.warnings += [f"{one.name}: {verdict}" for verdict in verdicts if verdict.worth_saying]
    _warn_of_idle_names(tx)


async def judge_calls(tx: Transaction, routes: Routes) -> None:
    """Refuse candidates that make calls which the set of versions to come no longer has.

    A name that was never a call may be something else that goes by the field's name: a warning.

    Args:
        tx: The transaction; its candidates are loaded.
        routes: What serves of all other modules.

    Raises:
        ContractError: A candidate makes a call that is taken away in the same transaction.
    """
    for one in tx.each():
        for used in sorted({use.module for use in one.new.definition.uses}):
            other = tx.participants.get(used)
            generation = other.candidate if other is not None else routes.find(used)
            made = await _calls_of(one.new, used)
            if generation is None or made is None:
                continue
            allowed = {*tx.allow_breaking, *(name.partition(".")[2] for name in tx.allow_breaking)}
            absent = sorted(made - generation.definition.calls.keys() - allowed - _OF_HANDLES)
            if "*" in allowed or not absent:
                continue
            before = other.old.definition.calls if other is not None else {}
            if lost := [name for name in absent if name in before]:
                raise _lost(one, generation, lost)
            names = ", ".join(absent)
            tx.warnings.append(f"{one.name} may call {names}, which {generation.label} lacks")


def _lost(one: Participant, used: Generation, lost: list[str]) -> ContractError:
    name = used.definition.name
    return ContractError(
        f"it makes calls that {used.label} no longer has: {', '.join(lost)}",
        module=one.name,
        phase=Phase.PREPARE,
        found=f"{name} would offer {', '.join(sorted(used.definition.calls)) or 'nothing'}",
        expected=", ".join(f"{name}.{call}" for call in lost),
        do=f"keep them in {name}, change {one.name} to the new ones, or allow it by name: "
        + " ".join(f"--allow-breaking {call}" for call in lost),
    )


@dataclass(frozen=True, slots=True)
class _Verdict:
    """One breaking change, and whether it may be."""

    change: ContractChange
    users: tuple[str, ...]
    allowed: bool
    strict: bool

    @property
    def refused(self) -> bool:
        return not self.allowed and (self.strict or bool(self.users))

    @property
    def worth_saying(self) -> bool:
        """What was allowed, and is used by nobody here, was said by whoever allowed it."""
        return bool(self.users) or not self.allowed

    def __str__(self) -> str:
        if self.users:
            return f"{self.change.text}; {', '.join(self.users)} may use it"
        return f"{self.change.text}; callers outside this host are not known"


async def _users(tx: Transaction, routes: Routes, name: str) -> Users:
    changing = {
        one.name
        for one in tx.each()
        if one.version is not None and one.version.digest != one.old.version.digest
    }
    users = sorted(routes.users_of(name) - changing - {name})
    return {user: await _calls_of(routes.current(user), name) for user in users}


async def _calls_of(user: Generation, used: str) -> frozenset[str] | None:
    """Return the calls that a module makes, by its typed interface or by its source."""
    made: set[str] = set()
    for use in user.definition.uses:
        if use.module != used:
            continue
        if use.interface is not None:
            made |= interface_calls(use.interface)
            continue
        found = await in_thread(_scan, user, use.field)
        if found is None:
            return None
        made |= found
    return frozenset(made)


def _scan(user: Generation, field: str) -> frozenset[str] | None:
    version = user.version
    files = [version.root / name for name in version.files if name.endswith(".py")]
    return calls_used([file.read_text("utf-8", "replace") for file in files], field)


def _using(change: ContractChange, users: Users) -> tuple[str, ...]:
    return tuple(user for user, calls in users.items() if calls is None or change.call in calls)


def _refusal(one: Participant, refused: Iterable[_Verdict]) -> ContractError:
    refused = list(refused)
    users = sorted({user for verdict in refused for user in verdict.users})
    calls = sorted({verdict.change.call for verdict in refused})
    lines = [
        f"{verdict.change.text} (used by {', '.join(verdict.users)})"
        if verdict.users
        else verdict.change.text
        for verdict in refused
    ]
    together = f"reload {' and '.join(users)} in the same transaction, " if users else ""
    return ContractError(
        f"it no longer offers what {', '.join(users)} {'use' if len(users) > 1 else 'uses'}"
        if users
        else "it no longer offers what it did",
        module=one.name,
        phase=Phase.PREPARE,
        found="; ".join(lines),
        expected=f"{', '.join(calls)} as in {one.old.label}",
        do=f"keep what was offered, {together}or allow it by name: "
        + " ".join(f"--allow-breaking {call}" for call in calls),
    )


def _warn_of_idle_names(tx: Transaction) -> None:
    """A name that allows nothing was probably meant for something else."""
    for name in sorted(tx.allow_breaking - {"*"}):
        matches = (allowed_by((name,), one.name) for one in tx.each())
        pairs = zip(tx.each(), matches, strict=True)
        if not any(allows(c) for one, allows in pairs for c in breaking(one.contract_changes)):
            tx.warnings.append(f"allow_breaking names {name}, which does not break")
