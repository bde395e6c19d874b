"""What a module offers, compared between two versions.

A change is *breaking* when a call that was right for the old version can be wrong for the new one:
it is not taken any more, or its answer is not what the caller was told to expect. Everything else
is told too, but stops nobody.

griffe and its like compare sources as they are written. Here two versions are loaded anyhow, and
what counts is what handles see of them: a call made by a decorator or taken from a base class, a
record's fields after inheritance, `@query`, a `def` that is as good as an `async def`. So what is
compared is what `describe_definition` reads from the loaded module, in the probe and in the host.

Through a handle a plain `def` is awaited like an `async def`, so a change between the two breaks
nothing; a stream is iterated, so a change from or to one does.
"""

from __future__ import annotations

import difflib
import enum
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import msgspec

from replank.verification.types import ANY, TypeComparison, parse_type

Described = Mapping[str, Any]
"""A contract, a call or a parameter, as `describe_definition` has it."""

_SIMILAR = 0.6
_VARIABLE = ("var_positional", "var_keyword")
_BY_PLACE = ("positional_only", "positional_or_keyword")
_BY_NAME = ("positional_or_keyword", "keyword_only")


class ContractKind(enum.StrEnum):
    """What changed in what a module offers."""

    CALL_REMOVED = "call_removed"
    CALL_RENAMED = "call_renamed"
    CALL_ADDED = "call_added"
    STREAM_CHANGED = "stream_changed"
    ASYNC_CHANGED = "async_changed"
    QUERY_DROPPED = "query_dropped"
    QUERY_PROMISED = "query_promised"
    PARAMETER_REMOVED = "parameter_removed"
    PARAMETER_RENAMED = "parameter_renamed"
    PARAMETER_REQUIRED = "parameter_required"
    PARAMETER_OPTIONAL = "parameter_optional"
    PARAMETER_ADDED = "parameter_added"
    PARAMETER_MOVED = "parameter_moved"
    PARAMETER_PASSED = "parameter_passed"
    """It can no longer be given by name, or by place."""
    PARAMETER_NARROWED = "parameter_narrowed"
    PARAMETER_WIDENED = "parameter_widened"
    DEFAULT_CHANGED = "default_changed"
    RESULT_WIDENED = "result_widened"
    RESULT_NARROWED = "result_narrowed"
    CHECK_REMOVED = "check_removed"
    CHECK_ADDED = "check_added"


class ContractChange(msgspec.Struct, frozen=True, kw_only=True):
    """One difference between what two versions offer."""

    call: str
    """The call's name, in the old version where it has one."""
    kind: ContractKind
    text: str
    """One line for people, beginning with the call's name."""
    breaking: bool

    def __str__(self) -> str:
        """Return the line, marked when it breaks callers."""
        return f"breaking: {self.text}" if self.breaking else self.text


def compare_contracts(old: Described, new: Described) -> tuple[ContractChange, ...]:
    """Compare what two versions of a module offer.

    Args:
        old: What `describe_definition` says of the version that serves.
        new: The same of the candidate.

    Returns:
        Every difference, the breaking ones first, then in the order of the calls' names.
    """
    before, after = old["calls"], new["calls"]
    types = (old.get("types", {}), new.get("types", {}))
    heirs = {name: _heir(name, before, after) for name in before.keys() - after.keys()}
    found = [_missing(name, heir) for name, heir in heirs.items()]
    found += [
        _change(name, ContractKind.CALL_ADDED, "is new")
        for name in after.keys() - before.keys() - set(heirs.values())
    ]
    found += _checks(old, new)
    for name in before.keys() & after.keys():
        found += _CallComparison(name, before[name], after[name], types).changes()
    return tuple(sorted(found, key=lambda one: (not one.breaking, one.call)))


def _change(
    call: str, kind: ContractKind, text: str, *, breaking: bool = False, sep: str = " "
) -> ContractChange:
    return ContractChange(call=call, kind=kind, text=f"{call}{sep}{text}", breaking=breaking)


def _checks(old: Described, new: Described) -> Iterator[ContractChange]:
    """Yield the checks and invariants that came or went: nobody calls them, so nothing breaks."""
    for what, key in (("check", "checks"), ("invariant", "invariants")):
        before, after = set(old.get(key, ())), set(new.get(key, ()))
        for name in before - after:
            yield _change(name, ContractKind.CHECK_REMOVED, f"is no {what} any more")
        for name in after - before:
            yield _change(name, ContractKind.CHECK_ADDED, f"is a new {what}")


def _missing(name: str, heir: str | None) -> ContractChange:
    if heir is None:
        return _change(name, ContractKind.CALL_REMOVED, "was removed", breaking=True)
    text = f"was removed, or renamed to {heir}"
    return _change(name, ContractKind.CALL_RENAMED, text, breaking=True)


def _heir(name: str, before: Described, after: Described) -> str | None:
    """Return the only new call that one which is gone can have become."""
    came = after.keys() - before.keys()
    heirs = [other for other in came if _alike(name, before[name], other, after[other])]
    return heirs[0] if len(heirs) == 1 else None


def _alike(name: str, call: Described, other: str, candidate: Described) -> bool:
    same = all(call[key] == candidate[key] for key in ("parameters", "returns"))
    if same and call["parameters"]:
        return True
    close = difflib.SequenceMatcher(None, name, other).ratio() >= _SIMILAR
    return close and len(call["parameters"]) == len(candidate["parameters"])


class _CallComparison:
    """One call that both versions have."""

    def __init__(self, name: str, old: Described, new: Described, types: tuple[Any, Any]) -> None:
        self.name = name
        self.old = old
        self.new = new
        self.before = {one["name"]: one for one in old["parameters"]}
        self.after = {one["name"]: one for one in new["parameters"]}
        self.arguments = TypeComparison(types[1], types[0], result=False)
        self.widened = TypeComparison(types[0], types[1], result=False)
        self.results = TypeComparison(types[0], types[1], result=True)
        self.narrowed = TypeComparison(types[1], types[0], result=True)

    def changes(self) -> Iterator[ContractChange]:
        yield from self._kind()
        renamed = dict(self._renamed())
        for name, parameter in self.before.items():
            if name in renamed:
                text = f"parameter {name} was renamed to {renamed[name]}"
                breaking = parameter["kind"] in _BY_NAME
                yield self._say(ContractKind.PARAMETER_RENAMED, text, breaking=breaking)
                yield from self._parameter(parameter, self.after[renamed[name]])
            elif name not in self.after:
                yield from self._removed(parameter)
            else:
                yield from self._parameter(parameter, self.after[name])
        for name, parameter in self.after.items():
            if name not in self.before and name not in renamed.values():
                yield from self._added(parameter)
        yield from self._moved(renamed)
        yield from self._result()

    def _say(self, kind: ContractKind, text: str, *, breaking: bool = False) -> ContractChange:
        return _change(self.name, kind, text, breaking=breaking, sep=": ")

    def _kind(self) -> Iterator[ContractChange]:
        old, new = self.old["kind"], self.new["kind"]
        if old != new:
            stream = "stream" in (old, new)
            kind = ContractKind.STREAM_CHANGED if stream else ContractKind.ASYNC_CHANGED
            yield self._say(kind, f"{old} -> {new}", breaking=stream)
        if self.old["query"] and not self.new["query"]:
            text = "no longer promises not to write (@query)"
            yield self._say(ContractKind.QUERY_DROPPED, text, breaking=True)
        elif self.new["query"] and not self.old["query"]:
            yield self._say(ContractKind.QUERY_PROMISED, "promises not to write (@query)")

    def _renamed(self) -> Iterator[tuple[str, str]]:
        """Yield pairs of names at the same place, with everything else alike."""
        pairs = zip(self.old["parameters"], self.new["parameters"], strict=False)
        for old, new in pairs:
            gone = old["name"] not in self.after and new["name"] not in self.before
            alike = old["kind"] == new["kind"] and old["type"] == new["type"]
            if gone and alike and old["required"] == new["required"]:
                yield old["name"], new["name"]

    def _removed(self, old: Described) -> Iterator[ContractChange]:
        taken = {one["kind"] for one in self.after.values()}
        by_name = old["kind"] not in _BY_NAME or "var_keyword" in taken
        by_place = old["kind"] not in _BY_PLACE or "var_positional" in taken
        breaking = old["kind"] in _VARIABLE or not (by_name and by_place)
        text = f"parameter {_shown(old)} was removed"
        yield self._say(ContractKind.PARAMETER_REMOVED, text, breaking=breaking)

    def _added(self, new: Described) -> Iterator[ContractChange]:
        if new["required"] and new["kind"] not in _VARIABLE:
            text = f"parameter {new['name']} is new and required"
            yield self._say(ContractKind.PARAMETER_REQUIRED, text, breaking=True)
        else:
            text = f"parameter {_shown(new)} is new"
            yield self._say(ContractKind.PARAMETER_ADDED, text)

    def _parameter(self, old: Described, new: Described) -> Iterator[ContractChange]:
        name = new["name"]
        if new["required"] and not old["required"]:
            text = f"parameter {name} is now required (its default was {old['default']})"
            yield self._say(ContractKind.PARAMETER_REQUIRED, text, breaking=True)
        elif old["required"] and not new["required"]:
            text = f"parameter {name} has the default {new['default']} now"
            yield self._say(ContractKind.PARAMETER_OPTIONAL, text)
        elif old["default"] != new["default"]:
            text = f"default of {name}: {old['default']} -> {new['default']}"
            yield self._say(ContractKind.DEFAULT_CHANGED, text)
        if old["kind"] != new["kind"]:
            yield from self._passed(old, new)
        yield from self._type(
            f"{name}: ",
            (old["type"], new["type"]),
            (self.arguments, self.widened),
            (ContractKind.PARAMETER_NARROWED, ContractKind.PARAMETER_WIDENED),
        )

    def _passed(self, old: Described, new: Described) -> Iterator[ContractChange]:
        by_name = old["kind"] in _BY_NAME and new["kind"] not in _BY_NAME
        by_place = old["kind"] in _BY_PLACE and new["kind"] not in _BY_PLACE
        if by_name or by_place or old["kind"] in _VARIABLE:
            how = "name" if by_name else "place"
            text = f"parameter {new['name']} can no longer be given by {how}"
            yield self._say(ContractKind.PARAMETER_PASSED, text, breaking=True)

    def _moved(self, renamed: Mapping[str, str]) -> Iterator[ContractChange]:
        before = _places(self.old)
        after = _places(self.new)
        # A removed parameter moves the rest as well, but that has been told.
        left = [renamed.get(name, name) for name in before]
        left = [name for name in left if name in after]
        now = [name for name in after if name in left]
        for name in left:
            if left.index(name) != now.index(name):
                text = f"parameter {name} is number {after.index(name) + 1} now"
                yield self._say(ContractKind.PARAMETER_MOVED, text, breaking=True)
        if left == now:
            inserted = next((n for n in after[: len(left)] if n not in left), None)
            told = inserted is None or self.after[inserted]["required"]
            if inserted is not None and not told and len(left) == len(before):
                moved = next(name for name in after[after.index(inserted) :] if name in left)
                text = f"parameter {moved} moved behind the new {inserted}"
                yield self._say(ContractKind.PARAMETER_MOVED, text, breaking=True)

    def _result(self) -> Iterator[ContractChange]:
        yield from self._type(
            "result ",
            (self.old["returns"], self.new["returns"]),
            (self.results, self.narrowed),
            (ContractKind.RESULT_WIDENED, ContractKind.RESULT_NARROWED),
        )

    def _type(
        self,
        what: str,
        texts: tuple[str, str],
        comparisons: tuple[TypeComparison, TypeComparison],
        kinds: tuple[ContractKind, ContractKind],
    ) -> Iterator[ContractChange]:
        """Compare a type in the direction that callers need, and if it fits in the other one.

        Args:
            what: What has this type, for the line.
            texts: Old and new.
            comparisons: That of the needed direction, and that of the other one.
            kinds: What it is called when it does not fit, and when only the other one fails.
        """
        old, new = map(parse_type, texts)
        result = kinds[0] is ContractKind.RESULT_WIDENED
        wide, narrow = (old, new) if result else (new, old)
        reason = comparisons[0].refusal(wide, narrow)
        if reason is not None:
            text = f"{what}{reason or f'{texts[0]} -> {texts[1]}'}"
            yield self._say(kinds[0], text, breaking=True)
        elif old != new:
            shown = " -> ".join(text or "not annotated" for text in texts)
            stated = ANY in (old, new)
            yield self._say(kinds[0] if stated else kinds[1], f"{what}{shown}")
        elif comparisons[1].refusal(narrow, wide) is not None:
            yield self._say(kinds[1], f"{what}{texts[0]} changed, compatibly")


def _places(call: Described) -> list[str]:
    return [one["name"] for one in call["parameters"] if one["kind"] in _BY_PLACE]


def _shown(parameter: Described) -> str:
    stars = {"var_positional": "*", "var_keyword": "**"}
    return stars.get(parameter["kind"], "") + str(parameter["name"])


def breaking(changes: Iterable[ContractChange]) -> tuple[ContractChange, ...]:
    """Return the changes that break callers."""
    return tuple(change for change in changes if change.breaking)


def allowed_by(names: Iterable[str], module: str) -> Callable[[ContractChange], bool]:
    """Return what tells whether a change was allowed by name.

    Args:
        names: Names of calls, `deposit` or `ledger.deposit`; `*` for all.
        module: The module's name.
    """
    wanted = set(names)
    return lambda change: bool(wanted & {change.call, f"{module}.{change.call}", "*"})


__all__ = [
    "ContractChange",
    "ContractKind",
    "allowed_by",
    "breaking",
    "compare_contracts",
]
