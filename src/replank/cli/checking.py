"""`replank migrations check`: the laws on generated, recorded and live states."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from replank.cli.known import Known, find_module
from replank.cli.stored import SNAPSHOT_FOLDER
from replank.code.reading import ReadModule, reading
from replank.control.client import Client
from replank.errors import SnapshotError, UsageError
from replank.state.format import Snapshot
from replank.state.snapshot import read
from replank.verification.cases import Case, generated_cases
from replank.verification.laws import LawReport, check_laws


def check_module(
    module: str,
    source: Path | None,
    data_dir: Path | None,
    config: Path | None,
    *,
    generated: int,
    seed: int,
    snapshots: bool,
    live: bool,
) -> LawReport:
    """Check the laws of a module's migrations.

    Args:
        module: Name or file.
        source: Source to read instead of the module's own.
        data_dir: As named on the command line.
        config: As named on the command line.
        generated: How many states to make up of each older schema.
        seed: Of the made-up states.
        snapshots: Whether to check the snapshots of the data directory.
        live: Whether to check the live state of the running host.

    Raises:
        UsageError: There is nothing to check.
        HostNotFound: `live` is wanted and no host runs.
    """
    known = find_module(module, source, data_dir, config)
    notes: list[str] = []
    with reading(known.source, known.name) as target:
        report = check_laws(
            target,
            _cases(known, target, generated, seed, notes, snapshots=snapshots, live=live),
            notes,
        )
    if report.ok and not report.states:
        raise UsageError(
            "there is nothing to check",
            module=known.name,
            found="; ".join(report.notes) or "no older schema, no step, no state",
            expected="steps, a data directory, or frozen schemas",
            do="name --data-dir, or freeze the schema with: replank migrations new --write",
        )
    return report


def _cases(
    known: Known,
    target: ReadModule,
    generated: int,
    seed: int,
    notes: list[str],
    *,
    snapshots: bool,
    live: bool,
) -> Iterator[Case]:
    if generated:
        yield from generated_cases(target, known.schemas(), generated, seed, notes)
    if snapshots:
        yield from _recorded(known, notes)
    if live:
        with Client.find(known.data_dir) as client:
            yield _case(client.sample_state(known.name), "the live state")


def _recorded(known: Known, notes: list[str]) -> Iterator[Case]:
    """Yield the snapshots that can be read; one that cannot is no matter of migrations."""
    for record in known.recorded.snapshots:
        path = known.data_dir / SNAPSHOT_FOLDER / record.path
        try:
            yield _case(read(path, module=known.name), f"snapshot {record.path}")
        except SnapshotError as error:
            notes.append(error.what)
    if not known.recorded.snapshots:
        notes.append(f"{known.data_dir} holds no snapshot of {known.name}")


def _case(snapshot: Snapshot, name: str) -> Case:
    return Case(snapshot.schema, snapshot.tree, name)


__all__ = ["check_module"]
