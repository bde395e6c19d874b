"""Check the laws of a module's migrations in a test."""

from __future__ import annotations

import inspect
import os
import sys
import types
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from replank.code.reading import reading
from replank.definition import Definition
from replank.errors import UsageError
from replank.migration.engine import steps_of
from replank.migration.frozen import read_frozen
from replank.module import Module
from replank.reading import read_definition
from replank.shapes import Schema, make_schema
from replank.state.document import read_document
from replank.state.format import Snapshot
from replank.state.names import Namespace
from replank.state.snapshot import read
from replank.verification.cases import Case, Target, generated_cases
from replank.verification.laws import LawReport, check_laws

State = Mapping[str, Any] | tuple[int, Mapping[str, Any]] | str | os.PathLike[str]
"""An old state: its fields as plain values, the same with its schema number, or the path of a
snapshot or of an export."""


class MigrationsBroken(AssertionError):
    """A law does not hold; the message names step, place, old and new value.

    Args:
        report: What was found.
    """

    def __init__(self, report: LawReport) -> None:
        lines = [str(finding) for finding in report.findings]
        lines += [f"note: {note}" for note in report.notes]
        super().__init__("\n".join([f"the migrations of {report.module} are broken:", *lines]))
        self.report = report


def check_migrations(
    module: type[Module] | str | os.PathLike[str],
    states: Iterable[State] = (),
    generated: int = 100,
    *,
    seed: int = 0,
) -> LawReport:
    """Check that the migrations of a module keep what they promise.

    For every state: going up succeeds and fits the new types; going down again gives the old
    state back; what only the new version wrote survives the way down and up. States are made up
    from the frozen schemas beside the source (`replank migrations new --write`), or, without
    them, from the code's own shape by the way down.

    Args:
        module: The module class, or the path of its file or package folder.
        states: Old states to check as well: plain values by field (of the lowest schema number
            that a step leads from), `(number, values)`, or the path of a snapshot or export.
        generated: How many states to make up for each older schema.
        seed: The same seed makes the same states.

    Returns:
        What was checked, with notes on what could not be.

    Raises:
        MigrationsBroken: A law does not hold; an AssertionError, so that pytest shows it.
        UsageError: There is nothing to check.
    """
    notes: list[str] = []
    with _target(module) as (target, schemas):
        cases = _cases(target, schemas, states, generated=generated, seed=seed, notes=notes)
        report = check_laws(target, cases, notes)
    if not report.ok:
        raise MigrationsBroken(report)
    if not report.states:
        raise UsageError(
            "there is nothing to check",
            module=report.module,
            found="; ".join(report.notes) or "a module without steps",
            expected="steps, or states to check",
            do="give states=[...], or freeze the schema with: replank migrations new --write",
        )
    return report


@dataclass(frozen=True, slots=True)
class _Class:
    """A module class as it was imported by the test."""

    definition: Definition
    own: Namespace


@contextmanager
def _target(
    module: type[Module] | str | os.PathLike[str],
) -> Iterator[tuple[Target, tuple[Schema, ...]]]:
    if not isinstance(module, type):
        source = Path(module)
        with reading(source, source.stem) as read_module:
            yield read_module, tuple(read_frozen(source.absolute()).values())
        return
    if not issubclass(module, Module):
        raise UsageError(
            "check_migrations takes a module class or a path",
            found=module.__qualname__,
            expected="a subclass of replank.Module",
        )
    alone = types.ModuleType(module.__module__)
    vars(alone)[module.__name__] = module
    definition = read_definition(alone, module.__name__.lower())
    yield _Class(definition, _Imported(module.__module__)), _frozen_beside(module)


def _frozen_beside(module: type[Module]) -> tuple[Schema, ...]:
    try:
        file = Path(inspect.getfile(module))
    except (OSError, TypeError):
        return ()  # typed in at a prompt: nothing lies beside it
    return tuple(read_frozen(file.parent if file.name == "__init__.py" else file).values())


class _Imported(Namespace):
    """The names of a module that was imported the usual way."""

    def __init__(self, name: str) -> None:
        super().__init__(name if name in sys.modules else None)


def _cases(
    target: Target,
    schemas: tuple[Schema, ...],
    states: Iterable[State],
    *,
    generated: int,
    seed: int,
    notes: list[str],
) -> Iterator[Case]:
    for number, state in enumerate(states, 1):
        yield _case(target, schemas, state, f"state {number}")
    if generated:
        yield from generated_cases(target, schemas, generated, seed, notes)


def _case(target: Target, schemas: tuple[Schema, ...], state: State, name: str) -> Case:
    if isinstance(state, str | os.PathLike):
        snapshot = _stored(Path(state), target.definition.name)
        return Case(snapshot.schema, snapshot.tree, f"{name}, {Path(state).name}")
    if isinstance(state, tuple):
        number, values = state
    else:
        steps = steps_of(target.definition)
        values = state
        number = min((step.start for step in steps), default=target.definition.schema.version)
    known = next((one for one in schemas if one.version == number), None)
    if known is None:
        return Case(make_schema(number, (), {}), dict(values), name, shape_known=False)
    return Case(known, dict(values), name)


def _stored(path: Path, module: str) -> Snapshot:
    if path.suffix == ".json":
        return read_document(path.read_bytes(), module)
    return read(path)


__all__ = ["MigrationsBroken", "State", "check_migrations"]
