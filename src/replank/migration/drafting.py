"""Draft the step between two schemas: what is certain is written, what is not is asked.

Certain is only what can mean one thing: a field that is gone while none came that could be its
new name, and whatever the author has answered. A rename, the value of a new field without a
default, and a converter are questions; a draft with questions is never used.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping

import msgspec

from replank.difference import Change, Difference, difference
from replank.errors import SchemaError, UsageError
from replank.migration.conversions import Convert, Rekey
from replank.migration.expressions import (
    default_source,
    empty_source,
    function_source,
    literal,
    quoted,
)
from replank.migration.operations import Add, Operation, Remove, Rename
from replank.migration.outline import outline
from replank.migration.reshaping import Move
from replank.migration.steps import Step
from replank.shapes import Field, Schema

_SIMPLE = frozenset({"none", "bool", "int", "float", "str", "bytes", "literal", "enum", "union"})
_LINE_MAX = 88


class Asked(enum.StrEnum):
    """What a question is about."""

    RENAMED = "renamed"
    DEFAULT = "default"
    CONVERTER = "converter"
    KEYS = "keys"
    BY_HAND = "by_hand"


class Question(msgspec.Struct, frozen=True):
    """Something that only the author knows."""

    kind: Asked
    path: str
    text: str
    choices: tuple[str, ...] = ()
    """Of a rename: the fields that could be the new name, the likeliest first."""
    flags: tuple[str, ...] = ()
    """What answers it on the command line."""


class Answers(msgspec.Struct, frozen=True):
    """What the author has answered; keys are paths, values are as they were typed."""

    renames: dict[str, str] = {}
    removed: frozenset[str] = frozenset()
    defaults: dict[str, str] = {}
    converters: dict[str, str] = {}
    back: dict[str, str] = {}
    """The other direction of converters."""


class Line(msgspec.Struct, frozen=True):
    """One operation of a draft, as a call to write."""

    function: str
    arguments: str
    operation: Operation
    note: str = ""
    """What the author should know: that it is lossy, or has no way back."""

    def text(self, prefix: str = "") -> str:
        """Return the call as source.

        Args:
            prefix: Put before the function's name: "replank." where the name alone is taken.
        """
        return f"{prefix}{self.function}({self.arguments})"


class Draft(msgspec.Struct, frozen=True):
    """A step as far as it is known."""

    start: int
    end: int
    lines: tuple[Line, ...] = ()
    questions: tuple[Question, ...] = ()
    automatic: tuple[str, ...] = ()
    """Changes that need no step, one line each."""

    @property
    def empty(self) -> bool:
        """Whether there is nothing to write."""
        return not self.lines and not self.questions

    @property
    def notes(self) -> tuple[str, ...]:
        """What the author should know about the operations."""
        return tuple(f"{line.text()}: {line.note}" for line in self.lines if line.note)

    @property
    def functions(self) -> tuple[str, ...]:
        """The names that the step's source uses."""
        return tuple(sorted({"step", *(line.function for line in self.lines)}))

    def text(self, *, indent: int = 0, prefix: str = "") -> str:
        """Return the call of `step` as source; what is asked is marked `# how?`.

        Args:
            indent: Columns before each line but the first.
            prefix: Put before every function of Replank.
        """
        parts = [str(self.start), str(self.end), *(line.text(prefix) for line in self.lines)]
        asked = [f"# how? {question.text}" for question in self.questions]
        flat = f"{prefix}step({', '.join(parts)})"
        if not asked and indent + len(flat) < _LINE_MAX:
            return flat
        pad = " " * indent
        inner = [f"{pad}    {part}," for part in parts] + [f"{pad}    {line}" for line in asked]
        return "\n".join([f"{prefix}step(", *inner, f"{pad})"])


def draft_step(
    old: Schema,
    new: Schema,
    start: int,
    end: int,
    *,
    answers: Answers | None = None,
    known: Iterable[str] = (),
) -> Draft:
    """Draft the step from one schema to another.

    Args:
        old: The state's shape as it is.
        new: The code's.
        start: Schema number that the step leads from.
        end: And to.
        answers: What the author has answered already.
        known: Names that the module's source defines or imports, for defaults and converters.

    Raises:
        UsageError: An answer answers nothing, or is no value of the type.
    """
    answers = answers or Answers()
    return _Drafter(old, new, start, end, answers=answers, known=frozenset(known)).draft()


class _Drafter:
    def __init__(
        self,
        old: Schema,
        new: Schema,
        start: int,
        end: int,
        *,
        answers: Answers,
        known: frozenset[str],
    ) -> None:
        self.schema = old
        self.new = new
        self.start, self.end = start, end
        self.answers = answers
        self.known = known
        self.lines: list[Line] = []
        self.questions: list[Question] = []
        self.used: set[str] = set()

    def draft(self) -> Draft:
        self.rename()
        found = difference(self.schema, self.new)
        added = {one.path: one for one in found if one.kind is Change.ADDED}
        offered: set[str] = set()
        for one in found:
            if one.kind is Change.REMOVED:
                offered |= self.removed(one, added)
        renamed = [f"{one.path}." for one in found if one.kind is Change.RENAMED_TYPE]
        for one in found:
            if one.kind is Change.ADDED:
                # A type under another name is taken for the same one only when each field is told.
                explicit = not one.safe or any(one.path.startswith(path) for path in renamed)
                self.added(one, explicit=explicit, offered=one.path in offered)
            elif not one.safe and one.kind not in (Change.REMOVED, Change.RENAMED_TYPE):
                self.changed(one)
        self.refuse_unused()
        left = difference(self.schema, self.new)
        if not self.questions:
            self.questions += [self.by_hand(one) for one in left if not one.safe]
        automatic = tuple(
            one.text for one in left if one.safe and one.kind is not Change.DEFAULT_CHANGED
        )
        return Draft(self.start, self.end, tuple(self.lines), tuple(self.questions), automatic)

    # -- answered renames first: what lies inside is compared under the new name

    def rename(self) -> None:
        left = dict(self.answers.renames)
        while left:
            found = difference(self.schema, self.new)
            gone = {one.path for one in found if one.kind is Change.REMOVED}
            came = {one.path for one in found if one.kind is Change.ADDED}
            path = next((path for path in left if path in gone), None)
            if path is None:
                raise _unused("--yes-rename", next(iter(left)), gone, "a field that was removed")
            name = left.pop(path)
            head = path.rpartition(".")[0]
            to = name if name in came else f"{head}.{name}" if head else name
            if to not in came:
                raise _unused("--yes-rename", f"{path}={name}", came, "a field that was added")
            if to.rpartition(".")[0] == head:
                leaf = to.rpartition(".")[2]
                operation: Operation = Rename(path, leaf)
                self.add("rename", f"{quoted(path)}, {quoted(leaf)}", operation)
            else:
                self.add("move", f"{quoted(path)}, {quoted(to)}", Move(path, to))

    def removed(self, found: Difference, added: Mapping[str, Difference]) -> set[str]:
        """Write a removal, or ask; returns the paths that may be the field's new name."""
        path = found.path
        choices = [] if path in self.answers.removed else _candidates(found, added, self.answers)
        self.used.add(path)
        if choices:
            flags = tuple(f"--yes-rename {path}={choice}" for choice in choices)
            text = f"{path} ({found.old}) is gone: renamed to {' or '.join(choices)}, or removed?"
            one = Question(Asked.RENAMED, path, text, tuple(choices), (*flags, f"--remove {path}"))
            self.questions.append(one)
            return set(choices)
        default = self.default_of(found)
        if default is None:
            note = f"lossy; for the way down give --default {path}=VALUE"
            self.add("remove", quoted(path), Remove(path), note)
        else:
            self.add("remove", f"{quoted(path)}, default={default}", Remove(path, default))
        return set()

    def added(self, found: Difference, *, explicit: bool, offered: bool) -> None:
        answered = found.path in self.answers.defaults
        if not answered and (offered or not explicit):
            return  # offered: the question about the rename comes first
        default = self.default_of(found)
        if default is not None:
            self.add("add", f"{quoted(found.path)}, default={default}", Add(found.path, default))
        else:
            text = f"{found.path} ({found.new}) is new and has no default: what do old states get?"
            flags = (f"--default {found.path}=VALUE",)
            self.questions.append(Question(Asked.DEFAULT, found.path, text, (), flags))

    def changed(self, found: Difference) -> None:
        path, keys = found.path, found.kind is Change.KEYS_RETYPED
        up = self.answers.converters.get(path)
        self.used.add(path)
        if up is None:
            asked = Asked.KEYS if keys else Asked.CONVERTER
            what = "keys" if keys else "values"
            text = f"{found.text}: which function makes the new {what}?"
            flags = (f"--convert {path}=FUNCTION", f"--convert-down {path}=FUNCTION")
            self.questions.append(Question(asked, path, text, (), flags))
            return
        up = function_source(path, up, self.known)
        arguments = f"{quoted(path)}, {up}"
        down = self.answers.back.get(path)
        if down is not None:
            arguments += f", {function_source(path, down, self.known)}"
        note = "" if down is not None else f"no way back; give --convert-down {path}=FUNCTION"
        if keys:
            self.add("rekey", arguments, Rekey(path, _any, None, with_item=False), note)
        else:
            self.add("convert", arguments, Convert(path, _any, None, lossy=False), note)

    # -- helpers

    def add(self, function: str, arguments: str, operation: Operation, note: str = "") -> None:
        """Write an operation and follow it through the schema."""
        try:
            after = outline(self.schema, Step(self.start, self.end, (operation,)))
        except SchemaError as error:
            raise UsageError(error.what, found=error.found, expected=error.expected) from error
        assert after is not None, "no drafted operation takes the whole state"
        self.schema = after
        self.lines.append(Line(function, arguments, operation, note))

    def default_of(self, found: Difference) -> str | None:
        """Return the source of a field's default: the answered one, else the type's own."""
        self.used.add(found.path)
        assert found.field is not None, "a field was added or removed"
        typed = self.answers.defaults.get(found.path)
        if typed is None:
            return _own_default(found.field)
        return default_source(found.path, typed, found.field.shape, self.known)

    def by_hand(self, found: Difference) -> Question:
        return Question(Asked.BY_HAND, found.path, f"{found.text}: write this one by hand")

    def refuse_unused(self) -> None:
        """Refuse answers to what was never asked: a typing error must not pass for an answer."""
        if any(one.kind is Asked.RENAMED for one in self.questions):
            return  # what lies inside a renamed field is not known yet
        for flag, paths in (
            ("--remove", self.answers.removed),
            ("--default", self.answers.defaults),
            ("--convert", self.answers.converters),
            ("--convert-down", self.answers.back),
        ):
            for path in paths:
                if path not in self.used:
                    raise _unused(flag, path, self.used, "a field that changed")


def _candidates(gone: Difference, added: Mapping[str, Difference], answers: Answers) -> list[str]:
    """Return the paths of new fields that could be a removed one under another name."""
    head = gone.path.rpartition(".")[0]
    like: list[str] = []
    unlike: list[str] = []
    elsewhere: list[str] = []
    for path, came in added.items():
        if path in answers.defaults:
            continue  # the author has said that it is new
        same = str(came.new) == str(gone.old)
        if path.rpartition(".")[0] == head:
            (like if same else unlike).append(path)
        elif same and _movable(gone.path, path):
            elsewhere.append(path)
    return like + unlike + elsewhere


def _movable(path: str, to: str) -> bool:
    try:
        Move(path, to)
    except SchemaError:
        return False
    return True


def _own_default(field: Field) -> str | None:
    if field.required or field.optional:
        return None
    if field.factory:
        return empty_source(field.shape)
    kinds = {item.kind for item in field.shape.items} or {field.shape.kind}
    if not kinds <= _SIMPLE or "enum" in kinds:
        member = str(field.default).rpartition(".")[2]
        known = field.shape.kind == "enum" and member in field.shape.members
        return quoted(member) if known else None
    return literal(field.default)


def _unused(flag: str, given: str, known: Iterable[str], expected: str) -> UsageError:
    return UsageError(
        f"{flag} {given} answers nothing",
        found=given,
        expected=f"{expected}: {', '.join(sorted(known)) or 'there is none'}",
        do="leave it out, or correct the path",
    )


def _any(value: object) -> object:
    """Stand for a converter: the outline needs none."""
    return value


__all__ = ["Answers", "Asked", "Draft", "Line", "Question", "draft_step"]
