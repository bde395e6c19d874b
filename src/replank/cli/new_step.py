"""`replank migrations new`: from the changed shape to a step in the source."""

from __future__ import annotations

import sys
import tokenize
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import msgspec

from replank.cli.known import Known, find_module
from replank.code.editing import (
    insert_class_step,
    insert_file_step,
    insert_functions,
)
from replank.code.reading import ReadModule, reading
from replank.code.source_names import defines_class, known_names
from replank.errors import ReplankError, UsageError
from replank.migration.drafting import Answers, Asked, Draft, Question, draft_step
from replank.migration.engine import find_path, steps_of
from replank.migration.frozen import freeze_schemas
from replank.migration.graph import StepGraph
from replank.migration.outline import outline
from replank.migration.plain_functions import functions_text
from replank.shapes import Schema


class NewStep(msgspec.Struct, frozen=True, kw_only=True):
    """What came of `replank migrations new`."""

    module: str
    source: str
    schema_from: int
    schema_to: int
    step: str = ""
    """The step as source; "" when nothing has to be written."""
    written: bool = False
    questions: tuple[Question, ...] = ()
    automatic: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    frozen: str = ""
    """The file of frozen schemas that was written."""


@dataclass(frozen=True, slots=True)
class _Gap:
    """What lies between the known shape and the code's."""

    base: Schema
    old: Schema | None
    """The shape after the steps that exist; None when a function makes it."""
    start: int
    end: int


def parse_answers(
    renames: Sequence[str],
    removed: Sequence[str],
    defaults: Sequence[str],
    converters: Sequence[str],
    back: Sequence[str],
) -> Answers:
    """Return the answers that options give.

    Raises:
        UsageError: One is not of the form FIELD=VALUE, or a field is answered twice.
    """
    return Answers(
        _pairs("--yes-rename", renames),
        frozenset(removed),
        _pairs("--default", defaults),
        _pairs("--convert", converters),
        _pairs("--convert-down", back),
    )


def draft_and_write(
    module: str,
    source: Path | None,
    data_dir: Path | None,
    config: Path | None,
    answers: Answers,
    *,
    write: bool,
    ask: bool,
) -> NewStep:
    """Draft the step that a module needs; ask, print and write it.

    Args:
        module: Name or file.
        source: Source to read instead of the module's own.
        data_dir: As named on the command line.
        config: As named on the command line.
        answers: What the options say.
        write: Whether to write it into the source.
        ask: Whether questions may be asked; only a terminal is.

    Raises:
        UsageError: There is nothing to compare with, an answer is wrong, or nothing can be
            written.
    """
    known = find_module(module, source, data_dir, config)
    with reading(known.source, known.name) as read:
        schema = read.definition.schema
        base = known.base
        if base is None:
            return _first(known, schema, write=write)
        gap = _gap(base, read)
        draft = Draft(gap.start, gap.end)
        if gap.old is not None:
            names = known_names(_file_of(known, read)[1])
            draft = draft_step(gap.old, schema, gap.start, gap.end, answers=answers, known=names)
            if ask and _is_terminal():
                draft = _ask(gap.old, schema, draft, answers, names)
        result = _result(known, draft)
        if not write or draft.questions or draft.empty:
            return result
        path, text = _file_of(known, read)
        changed = _changed(text, read, draft, gap)
    frozen = _write(known, path, changed, base)
    return msgspec.structs.replace(result, written=True, frozen=str(frozen))


def _first(known: Known, schema: Schema, *, write: bool) -> NewStep:
    if not write:
        raise UsageError(
            "there is nothing to compare the code with",
            module=known.name,
            found=f"no journal in {known.data_dir} that knows it, and no frozen schema",
            expected="a data directory in which it has served, or a file of frozen schemas",
            do="name --data-dir; or freeze the shape as it is now with --write",
        )
    path = freeze_schemas(known.source, known.name, schema)
    return NewStep(
        module=known.name,
        source=str(known.source),
        schema_from=schema.version,
        schema_to=schema.version,
        frozen=str(path),
    )


def _gap(base: Schema, read: ReadModule) -> _Gap:
    code = read.definition.schema
    if code.version < base.version:
        raise UsageError(
            "the code's schema number is lower than the one it is compared with",
            module=read.definition.name,
            found=f"schema {code.version} in the code, {base.version} known",
            expected="the same number or a higher one",
            do="take the code that was committed last, or raise its schema number",
        )
    steps = StepGraph(steps_of(read.definition), module=read.definition.name)
    if not steps.between(base.version, code.version):
        end = code.version if code.version > base.version else base.version + 1
        return _Gap(base, base, base.version, end)
    old: Schema | None = base
    for step in steps.path(base.version, code.version):
        old = None if old is None else outline(old, step)
    return _Gap(base, old, code.version, code.version + 1)


def _result(known: Known, draft: Draft) -> NewStep:
    return NewStep(
        module=known.name,
        source=str(known.source),
        schema_from=draft.start,
        schema_to=draft.start if draft.empty else draft.end,
        step="" if draft.empty else draft.text(),
        questions=draft.questions,
        automatic=draft.automatic,
        notes=draft.notes,
    )


# -- asking


def _is_terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()


def _ask(old: Schema, new: Schema, draft: Draft, answers: Answers, names: frozenset[str]) -> Draft:
    """Ask one question after the other: each answer may raise or settle others."""
    while draft.questions and (answers_more := _answered(draft.questions[0], answers)):
        try:
            draft = draft_step(old, new, draft.start, draft.end, answers=answers_more, known=names)
        except UsageError as error:
            click.echo(f"{error}\n", err=True)
            continue
        answers = answers_more
    return draft


def _answered(question: Question, answers: Answers) -> Answers | None:
    path = question.path
    click.echo(f"\n{question.text}")
    if question.kind is Asked.BY_HAND:
        return None
    replace = msgspec.structs.replace
    if question.kind is Asked.RENAMED:
        for number, choice in enumerate(question.choices, 1):
            click.echo(f"  {number}  it is {choice} now")
        click.echo("  r  it was removed")
        wanted = [*map(str, range(1, len(question.choices) + 1)), "r"]
        word = click.prompt("which", type=click.Choice(wanted), show_choices=False)
        if word == "r":
            return replace(answers, removed=answers.removed | {path})
        return replace(answers, renames=answers.renames | {path: question.choices[int(word) - 1]})
    if question.kind is Asked.DEFAULT:
        return replace(answers, defaults=answers.defaults | {path: click.prompt("value")})
    up = click.prompt("function from the old value to the new one")
    down = click.prompt("and back (empty: there is no way back)", default="", show_default=False)
    back = answers.back | ({path: down} if down else {})
    return replace(answers, converters=answers.converters | {path: up}, back=back)


# -- writing


def _file_of(known: Known, read: ReadModule) -> tuple[Path, str]:
    """Return the file in which the module is defined, and its text."""
    owner = read.definition.owner
    files = [read.version.author_path(one) for one in read.version.files if one.endswith(".py")]
    if owner is None or not read.version.is_package:
        entry = read.version.author_path(read.version.entry_file)
        return entry, _read(entry)
    texts = [(path, _read(path)) for path in files]
    found = [(path, text) for path, text in texts if defines_class(text, owner.__name__)]
    if len(found) != 1:
        raise UsageError(
            f"the file that defines class {owner.__name__} is not clear",
            module=known.name,
            found=", ".join(path.name for path, _ in found) or "no file",
            do="paste the step by hand",
        )
    return found[0]


def _changed(text: str, read: ReadModule, draft: Draft, gap: _Gap) -> str:
    definition = read.definition

    def step(indent: int, prefix: str) -> str:
        return draft.text(indent=indent, prefix=prefix)

    if definition.owner is not None:
        if definition.migrations and not vars(definition.owner).get("migrations"):
            raise UsageError(
                "nothing was written: the migrations are inherited",
                module=definition.name,
                do="paste the step where they are written",
            )
        name = definition.owner.__name__
        return insert_class_step(text, name, step, draft.functions, draft.end)
    by_name = any(name.startswith("migrate_") for name in definition.functions)
    if by_name and not definition.migrations and gap.old is not None:
        functions = functions_text(draft, gap.old)
        if functions is not None:
            return insert_functions(text, functions, draft.end)
    return insert_file_step(text, step, draft.functions, draft.end)


def _write(known: Known, path: Path, changed: str, base: Schema) -> Path:
    """Put the changed source in place, and make sure that it does what it should."""
    path = path.resolve()
    before = path.read_bytes()
    _put(path, changed.encode(_encoding(path)))
    try:
        with reading(known.source, known.name) as read:
            schema = read.definition.schema
            find_path(base, schema, steps_of(read.definition), module=known.name)
    except ReplankError as error:
        _put(path, before)
        raise UsageError(
            f"nothing was written: with the step the module does not load: {error.what}",
            module=known.name,
            found=error.found,
            expected=error.expected,
            do="paste the step by hand, below the names that it uses",
            location=error.location,
        ) from error
    return freeze_schemas(known.source, known.name, base, schema)


def _put(path: Path, data: bytes) -> None:
    fresh = path.with_name(f".{path.name}.replank")
    fresh.write_bytes(data)
    fresh.chmod(path.stat().st_mode)
    fresh.replace(path)


def _encoding(path: Path) -> str:
    with path.open("rb") as file:
        return tokenize.detect_encoding(file.readline)[0]


def _read(path: Path) -> str:
    return path.read_bytes().decode(_encoding(path))


def _pairs(option: str, given: Sequence[str]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name or not value or name in pairs:
            raise UsageError(
                f"{option} {text} cannot be understood",
                found=f"{name} twice" if name in pairs else text,
                expected=f"{option} FIELD=VALUE, once for each field",
            )
        pairs[name] = value
    return pairs


__all__ = ["NewStep", "draft_and_write", "parse_answers"]
