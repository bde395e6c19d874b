"""Compare the version of a module that serves with a source on disk."""

from __future__ import annotations

import difflib
from pathlib import Path

import msgspec
from rich.console import Group, RenderableType
from rich.text import Text

from replank.cli.known import find_module
from replank.cli.render import change_of, short
from replank.code.reading import reading
from replank.code.store import Version, VersionStore
from replank.definition import describe_definition
from replank.errors import UsageError
from replank.schema import difference
from replank.verification.contract import ContractChange, compare_contracts


class SchemaChange(msgspec.Struct, frozen=True, kw_only=True):
    """One difference between the shapes of two states."""

    text: str
    safe: bool
    """Whether it needs no step."""


class ModuleDiff(msgspec.Struct, frozen=True, kw_only=True):
    """What a reload of a module would change."""

    module: str
    version_from: str
    version_to: str
    digest_from: str
    digest_to: str
    contract: tuple[ContractChange, ...] = ()
    """What callers would notice, breaking changes first."""
    schema_from: int = 1
    schema_to: int = 1
    schema_changes: tuple[SchemaChange, ...] = ()
    source: str = ""
    """The source as a unified diff; empty when it is byte for byte what serves."""


def compare_module(
    name: str, source: Path | None, data_dir: Path | None, config: Path | None
) -> ModuleDiff:
    """Compare what serves, or would after a start, with the source on disk.

    Args:
        name: The module's name, or its file.
        source: Source to read instead of the configured one.
        data_dir: As named on the command line.
        config: As named on the command line.

    Raises:
        UsageError: There is no such module, or no version of it was ever committed.
        SourceError: The source does not load.
        DefinitionError: It is no module.
        StoreError: The version that serves is missing or changed.
    """
    known = find_module(name, source, data_dir, config)
    committed = known.recorded.committed
    if committed is None:
        raise UsageError(
            f"no version of {known.name} has served yet",
            module=known.name,
            found=f"no record of it in {known.data_dir}",
            do="start a host first, or name its --data-dir",
        )
    store = VersionStore(known.data_dir / "versions")
    serving = store.get(committed.digest)
    with (
        reading(serving.source, known.name) as old,
        reading(known.source, known.name) as new,
    ):
        before, after = old.definition, new.definition
        return ModuleDiff(
            module=known.name,
            version_from=before.label,
            version_to=after.label,
            digest_from=serving.digest,
            digest_to=new.version.digest,
            contract=compare_contracts(describe_definition(before), describe_definition(after)),
            schema_from=before.schema.version,
            schema_to=after.schema.version,
            schema_changes=tuple(
                SchemaChange(text=one.text, safe=one.safe)
                for one in difference(before.schema, after.schema)
            ),
            source=_source_diff(serving, new.version),
        )


def _source_diff(old: Version, new: Version) -> str:
    parts: list[str] = []
    pairs = [(name, name) for name in sorted({*old.files, *new.files})]
    if len(old.files) == len(new.files) == 1:  # one file each, whatever their names
        pairs = [(*old.files, *new.files)]
    for name, now in pairs:
        lines = [_lines(old, name), _lines(new, now)]
        if None in lines:
            parts.append(f"Binary file {name} differs\n")
            continue
        before, after = (text or [] for text in lines)
        found = difflib.unified_diff(before, after, f"serving/{name}", f"disk/{now}")
        parts += [line if line.endswith("\n") else f"{line}\n" for line in found]
    return "".join(parts)


def _lines(version: Version, name: str) -> list[str] | None:
    """Return a file's lines; none when this version lacks it, None when it is no text."""
    if name not in version.files:
        return []
    try:
        return (version.root / name).read_text("utf-8").splitlines(keepends=True)
    except UnicodeDecodeError:
        return None


def render_diff(found: ModuleDiff) -> RenderableType:
    """Show what a reload would change.

    Args:
        found: What the comparison found.
    """
    head = Text(f"{found.module} ", style="bold")
    head.append(change_of(found.version_from, found.version_to))
    if found.digest_from == found.digest_to:
        return head.append("  the source is byte for byte what serves", style="dim not bold")
    digests = f"  {short(found.digest_from)} → {short(found.digest_to)}"
    parts: list[RenderableType] = [head.append(digests, style="dim not bold")]
    parts += [Text(f"  {one}", style="red" if one.breaking else "") for one in found.contract]
    schema = change_of(str(found.schema_from), str(found.schema_to))
    for shape in found.schema_changes:
        text = shape.text if shape.safe else f"{shape.text}; needs a step"
        parts.append(Text(f"  schema {schema}: {text}", style="" if shape.safe else "yellow"))
    if not found.contract and not found.schema_changes:
        parts.append(Text("  calls and state are as they were", style="dim"))
    parts += [_diff_line(line) for line in found.source.splitlines()]
    return Group(*parts)


def _diff_line(line: str) -> Text:
    if line.startswith(("+++", "---", "@@")):
        return Text(line, style="dim")
    style = {"+": "green", "-": "red"}.get(line[:1], "")
    return Text(line, style=style)


__all__ = ["ModuleDiff", "SchemaChange", "compare_module", "render_diff"]
