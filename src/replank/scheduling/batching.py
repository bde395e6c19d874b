"""Several requests as one transaction: those of tied modules that may be taken up together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from replank.scheduling.entries import Entry

TiedTo = Callable[[frozenset[str]], frozenset[str]]

_NORMAL = 1


def may_join(entry: Entry) -> bool:
    """Say whether a request may share a transaction: urgent ones and rollbacks go alone.

    Args:
        entry: The request.
    """
    return entry.wishes.rank <= _NORMAL and entry.reads_source


def groups_of(entries: Iterable[Entry], tied_to: TiedTo) -> list[list[Entry]]:
    """Return the requests that become one transaction each.

    Args:
        entries: Requests that may be taken up, in the order in which they were made.
        tied_to: Returns modules with everything that uses them or that they use.
    """
    groups: list[list[Entry]] = []
    for entry in entries:
        if not may_join(entry):
            groups.append([entry])
            continue
        joined = [group for group in groups if any(_belong(one, entry, tied_to) for one in group)]
        merged = [one for group in joined for one in group]
        groups = [group for group in groups if group not in joined]
        groups.append([*merged, entry])
    return groups


def _belong(one: Entry, other: Entry, tied_to: TiedTo) -> bool:
    # A permission is given for one request: it must not spread to another one's modules.
    ours, theirs = one.request, other.request
    if not may_join(one) or ours.allow_breaking != theirs.allow_breaking:
        return False
    if ours.choices != theirs.choices or ours.expect_changes != theirs.expect_changes:
        return False
    return bool(one.modules & tied_to(other.modules) or other.modules & tied_to(one.modules))


def tied_sets(names: Sequence[str], tied_to: TiedTo) -> list[list[str]]:
    """Return names in sets, so that tied modules are in the same one.

    Args:
        names: Modules.
        tied_to: Returns modules with everything that uses them or that they use.
    """
    sets: list[set[str]] = []
    for name in names:
        tied = tied_to(frozenset((name,)))
        joined = [one for one in sets if one & tied]
        sets = [one for one in sets if one not in joined]
        sets.append({name}.union(*joined))
    return [sorted(one) for one in sets]


__all__ = ["groups_of", "may_join", "tied_sets"]
