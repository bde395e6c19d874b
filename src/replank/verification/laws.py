"""The laws of migrations, checked on one state after another.

For each state x of an older schema:

- `up(x)` succeeds, leaves x alone, and fits the types of the code;
- `down(up(x)) == x`, what the way up drops being given back; and where a step does not say that it
  is lossy, its functions give the old value back by themselves;
- `up(down(y)) == y` for y = up(x) in which the fields that only the new version knows have been
  written: what the way down parks comes back.

What breaks a law is a finding: it names the step, the place, the old and the new value.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from replank.errors import MigrationError, ReplankError, SchemaError
from replank.migration import paths
from replank.migration.conversions import Convert, Merge, Rekey, Split
from replank.migration.engine import Migration, Residue, find_path, steps_of
from replank.migration.operations import Add, Automatic, Operation
from replank.plain import copy_tree
from replank.shapes import Field, Schema, Shape
from replank.state.snapshot import restore, take
from replank.verification.cases import Case, Target, numbered_way
from replank.verification.states import CannotGenerate, StateGenerator
from replank.verification.tree_difference import differences

UP = "up(x) succeeds"
TYPES = "up(x) fits the types"
BACK = "down(up(x)) == x"
THERE = "up(down(y)) == y"
PATH = "there is a path"

_FINDINGS_MAX = 20
_DIFFERENCES_MAX = 3
_ALIKE_MAX = 3


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """A broken law."""

    law: str
    state: str
    """The name of the state that breaks it."""
    step: str = ""
    """The step and its operation."""
    place: str = ""
    """Where in the state: `accounts['ada'].cents`."""
    old: str = ""
    new: str = ""
    text: str = ""

    def __str__(self) -> str:
        where = " ".join(
            part for part in (self.step, f"at {self.place}" if self.place else "") if part
        )
        values = f": {self.old} -> {self.new}" if self.old or self.new else ""
        more = f"\n    {self.text}" if self.text else ""
        return f"{self.law} is broken by {where or 'the migration'}{values} ({self.state}){more}"


class LawReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a check of the laws found."""

    module: str
    schema: int
    """The code's schema number."""
    ok: bool
    states: dict[str, int]
    """How many states were checked, by the schema number they began at."""
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()
    """What could not be checked, and why."""


def check_laws(target: Target, cases: Iterable[Case], notes: list[str]) -> LawReport:
    """Check the laws on each state.

    Args:
        target: The code.
        cases: The states.
        notes: What could not be checked; shown in the report.
    """
    checkers: dict[tuple[str, int, bool], _Checker | None] = {}
    findings = _Findings()
    counts: dict[str, int] = {}
    for case in cases:
        key = (case.schema.fingerprint, case.schema.version, case.shape_known)
        if key not in checkers:
            checkers[key] = _make_checker(target, case, findings)
        checker = checkers[key]
        if checker is None:
            continue
        number = str(case.schema.version)
        counts[number] = counts.get(number, 0) + 1
        for finding in checker.check(case):
            findings.add(finding)
    for checker in checkers.values():
        if checker is not None and not checker.way.reversible:
            ways = ", ".join(checker.way.one_way)
            notes.append(f"schema {checker.way.old.version}: no way down, so only up: {ways}")
    if findings.more:
        notes.append(f"{findings.more} more like these")
    definition = target.definition
    return LawReport(
        module=definition.name,
        schema=definition.schema.version,
        ok=not findings.kept,
        states=counts,
        findings=tuple(findings.kept),
        notes=tuple(dict.fromkeys(notes)),
    )


class _Findings:
    """Keeps some findings of each kind: a wrong function breaks the law for nearly every state."""

    def __init__(self) -> None:
        self.kept: list[Finding] = []
        self.more = 0
        self._seen: dict[tuple[str, str, str], int] = {}

    def add(self, finding: Finding) -> None:
        recorded = "generated" if finding.state.startswith("generated") else finding.state
        key = (finding.law, finding.step, recorded)
        self._seen[key] = self._seen.get(key, 0) + 1
        if self._seen[key] > _ALIKE_MAX or len(self.kept) >= _FINDINGS_MAX:
            self.more += 1
        else:
            self.kept.append(finding)


def _make_checker(target: Target, case: Case, findings: _Findings) -> _Checker | None:
    definition = target.definition
    try:
        if case.shape_known:
            way = find_path(
                case.schema, definition.schema, steps_of(definition), module=definition.name
            )
        else:
            found = numbered_way(target, case.schema.version)
            if found is None:
                text = f"no steps lead from schema {case.schema.version}"
                findings.add(Finding(law=PATH, state=case.name, text=text))
                return None
            way = found
    except SchemaError as error:
        findings.add(Finding(law=PATH, state=case.name, text=str(error)))
        return None
    return _Checker(target, way, shape_known=case.shape_known)


class _Checker:
    """Checks the laws of one path."""

    def __init__(self, target: Target, way: Migration, *, shape_known: bool) -> None:
        self.target = target
        self.way = way
        self.shape_known = shape_known
        self.generator = StateGenerator(target.definition.schema)
        self.new_fields = _new_fields(way)

    def check(self, case: Case) -> Iterator[Finding]:
        try:
            up, lost = self.way.upgrade_and_park(case.tree, check_untouched=True)
        except ReplankError as error:
            yield self.failed(UP, case, error)
            return
        try:
            built = self.built(up)
        except ReplankError as error:
            yield self.failed(TYPES, case, error)
            return
        if not self.way.reversible:
            return
        # Of a shape that is not known the automatic changes are not known either.
        new = built if self.shape_known else up
        broken = list(self.back(case, new, lost))
        yield from broken
        if not broken:
            yield from self.there(case, new, lost)

    def built(self, tree: dict[str, Any]) -> dict[str, Any]:
        """Return the tree as the code's own values hold it: checked, defaults filled in.

        Raises:
            MigrationError: A value does not fit its type.
        """
        definition = self.target.definition
        values = restore(
            copy_tree(tree), definition.schema, hints=definition.hints, own=self.target.own
        )
        return take(
            definition.name,
            values,
            definition.schema,
            hints=definition.hints,
            own=self.target.own,
        ).tree

    def back(self, case: Case, new: dict[str, Any], lost: Residue) -> Iterator[Finding]:
        for residue, text in (
            (lost, ""),
            (_without_functions(self.way, lost), "the function down does not undo the function up"),
        ):
            try:
                old = self.way.downgrade_and_park(new, residue)[0]
            except ReplankError as error:
                yield self.failed(BACK, case, error)
                return
            found = list(differences(case.tree, old))[:_DIFFERENCES_MAX]
            for place, before, after in found:
                yield Finding(
                    law=BACK,
                    state=case.name,
                    step=self.culprit(case.tree),
                    place=place,
                    old=before,
                    new=after,
                    text=text,
                )
            if found:
                return

    def there(self, case: Case, new: dict[str, Any], lost: Residue) -> Iterator[Finding]:
        written = self.written(new)
        try:
            old, parked = self.way.downgrade_and_park(written, lost)
            again = self.way.upgrade(old, parked)
            again = self.built(again) if self.shape_known else again
        except ReplankError as error:
            yield self.failed(THERE, case, error)
            return
        for place, before, after in list(differences(written, again))[:_DIFFERENCES_MAX]:
            yield Finding(
                law=THERE, state=case.name, place=place, old=before, new=after,
                step="; ".join(dict.fromkeys(name for name, _ in self.way.forward)),
            )  # fmt: skip

    def written(self, tree: dict[str, Any]) -> dict[str, Any]:
        """Return a state in which the fields that only the new version has were written."""
        tree = copy_tree(tree)
        for way, name in self.new_fields:
            shape = _shape_at(self.target.definition.schema, (*way, name))
            if shape is None:
                continue
            try:
                for node, _ in paths.nodes(tree, way):
                    if isinstance(node, dict) and name in node:
                        node[name] = self.generator.value(shape)
            except (CannotGenerate, MigrationError):
                continue
        return tree

    def culprit(self, tree: dict[str, Any]) -> str:
        """Return the first operation whose prefix of the path breaks the law."""
        for count in range(1, len(self.way.forward) + 1):
            prefix = _prefix(self.way, count)
            try:
                up, lost = prefix.upgrade_and_park(tree)
                old = prefix.downgrade_and_park(up, _without_functions(prefix, lost))[0]
            except ReplankError:
                old = {}
            if next(differences(tree, old), None) is not None:
                name, operation = self.way.forward[count - 1]
                return f"{name} ({operation.text})"
        return ""

    def failed(self, law: str, case: Case, error: ReplankError) -> Finding:
        what, _, place = error.what.partition(" at ")
        step, colon, _ = what.partition(":")
        named = step if what.startswith("step ") and colon else ""
        return Finding(
            law=law,
            state=case.name,
            step=named,
            place=place.partition(": ")[0] if place else "",
            old=error.found or "",
            new=error.expected or "",
            text=error.what,
        )


def _prefix(way: Migration, count: int) -> Migration:
    """Return the first operations of a path as a path of their own."""
    return Migration(way.module, way.old, way.new, way.steps, way.forward[:count], way.lossy)


def _without_functions(way: Migration, lost: Residue) -> Residue:
    """Leave out what functions parked that claim to be each other's inverse: they must prove it."""
    kept = []
    for (_, operation), parked in zip(way.forward, lost.parked, strict=True):
        proving = isinstance(operation, Convert | Split | Merge | Rekey) and not operation.lossy
        kept.append({} if proving else parked)
    return Residue(kept)


def _new_fields(way: Migration) -> tuple[tuple[tuple[str, ...], str], ...]:
    def new(operation: Operation) -> bool:
        return isinstance(operation, Add) or (
            isinstance(operation, Automatic) and not operation.drop
        )

    return tuple(
        (operation.segments, operation.name)
        for _, operation in way.forward
        if isinstance(operation, Add | Automatic) and new(operation)
    )


def _shape_at(schema: Schema, segments: tuple[str, ...]) -> Shape | None:
    """Return the shape that a path leads to; None when it does not."""
    fields: tuple[Field, ...] = schema.fields
    shape: Shape | None = None
    for segment in segments:
        if segment == "*":
            if shape is None or not shape.items:
                return None
            shape = shape.items[-1]
        else:
            found = next((field for field in fields if field.name == segment), None)
            if found is None:
                return None
            shape = found.shape
        record = schema.records.get(shape.name) if shape.kind == "record" else None
        fields = record.fields if record else ()
    return shape


__all__ = [
    "Finding",
    "LawReport",
    "check_laws",
]
