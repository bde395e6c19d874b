"""Migrations and state as text for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from replank.cli.findings import Health
    from replank.cli.new_step import NewStep
    from replank.cli.paths import ShownPath
    from replank.report_state import ReadmissionReport
    from replank.state.exchange import ImportReport, StateReport
    from replank.state.quarantine import Quarantined
    from replank.verification.laws import LawReport


def render_health(health: Health) -> RenderableType:
    """Show what the doctor found.

    Args:
        health: All findings.
    """
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    styles = {"well": ("✔", "green"), "warning": ("!", "yellow"), "fault": ("✘", "bold red")}
    for one in health.findings:
        mark, style = styles[one.grade]
        text = Text(one.found)
        if one.do:
            text.append(f"\ndo: {one.do}", style="cyan")
        table.add_row(Text(mark, style), one.what, text)
    faults = sum(one.grade == "fault" for one in health.findings)
    end = Text("all is well", "green") if health.well else Text(f"{faults} to mend", "bold red")
    return Group(table, end)


def render_draft(found: NewStep) -> RenderableType:
    """Show a drafted step, what is still asked, and what was written.

    Args:
        found: What came of it.
    """
    parts: list[RenderableType] = []
    if not found.step:
        parts.append(Text(_nothing(found), style="bold green"))
    elif found.written:
        parts.append(
            Text(f"✔ written into {found.source}, schema={found.schema_to}:", "bold green")
        )
        parts.append(Text(found.step))
    else:
        style = "bold yellow" if found.questions else "bold"
        into = f"add to the migrations of {found.module}, with schema={found.schema_to}:"
        parts.append(Text("not complete:" if found.questions else into, style))
        parts.append(Text(found.step))
    for question in found.questions:
        parts.append(Text(f"? {question.text}", style="yellow"))
        parts.extend(Text(f"    {flag}") for flag in question.flags)
    parts += [Text(f"! {note}", style="yellow") for note in found.notes]
    parts += [Text(f"automatic: {line}", style="dim") for line in found.automatic]
    if found.frozen:
        parts.append(Text(f"frozen in {found.frozen}", style="dim"))
    return Group(*parts)


def _nothing(found: NewStep) -> str:
    if found.frozen:
        return f"✔ schema {found.schema_to} is remembered as it is now"
    return "✔ nothing to write: no change of the state's shape needs a step"


def render_check(report: LawReport) -> RenderableType:
    """Show whether the laws hold, and what breaks them.

    Args:
        report: What the check found.
    """
    total = sum(report.states.values())
    what = ", ".join(f"{n} of schema {number}" for number, n in sorted(report.states.items()))
    states = f"{total:,} states ({what}) on the way to schema {report.schema}"
    if report.ok:
        parts: list[RenderableType] = [Text(f"✔ the laws hold: {states}", style="bold green")]
    else:
        parts = [Text(f"✘ {len(report.findings)} broken: {states}", style="bold red")]
    parts += [Text(str(finding)) for finding in report.findings]
    parts += [Text(f"! {note}", style="yellow") for note in report.notes]
    return Group(*parts)


def render_path(found: ShownPath) -> RenderableType:
    """Show a path, each step both ways.

    Args:
        found: The path.
    """
    if not found.steps and not found.automatic:
        return Text(f"{found.module}: nothing between schema {found.start} and {found.end}")
    parts: list[RenderableType] = [
        Text(f"{found.module}: schema {found.start} -> {found.end}", style="bold")
    ]
    for step in found.steps:
        marks = ["lossy"] if step.lossy else []
        marks += [] if step.reversible else ["one-way"]
        marked = f"  ({', '.join(marks)})" if marks else ""
        parts.append(Text(f"step {step.start} -> {step.end}{marked}", style="bold"))
        if not step.operations:
            parts.append(Text("  nothing to change", style="dim"))
        for one in step.operations:
            mark = "  lossy" if one.lossy and one.down else ""
            parts.append(Text(f"  up    {one.up}{mark}"))
            parts.append(
                Text(f"  down  {one.down or 'no way back'}", style="" if one.down else "yellow")
            )
    if found.automatic:
        parts.append(Text("automatic", style="bold"))
        parts += [Text(f"  {line}") for line in found.automatic]
    if found.code:
        parts.append(Text("\n" + found.code))
    return Group(*parts)


def render_state(found: StateReport) -> RenderableType:
    """Show what a state holds.

    Args:
        found: What is known of it.
    """
    when = f", written {found.taken_at}" if found.taken_at else ""
    head = f"{found.module} {found.label}, schema {found.schema}, {found.records:,} records{when}"
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("field", "type", "items", "bytes"):
        table.add_column(name, justify="right" if name in ("items", "bytes") else "left")
    for one in found.fields:
        items = "-" if one.items is None else f"{one.items:,}"
        size = "-" if one.carried else f"{one.bytes_estimate:,}"
        # as Text: the brackets of a type are no markup
        table.add_row(one.name, Text(one.type), items, size)
    return Group(Text(head, style="bold"), table)


def render_import(report: ImportReport) -> RenderableType:
    """Show what an import did.

    Args:
        report: What it did.
    """
    migrated = report.schema_from != report.schema_to
    way = f"schema {report.schema_from}" + (f" -> {report.schema_to}" if migrated else "")
    pause = f", pause {report.pause_s * 1000:.1f} ms" if report.pause_s else ""
    head = f"✔ {report.module}: {report.records:,} records put in, {way}{pause}"
    parts: list[RenderableType] = [Text(head, style="bold green")]
    parts += [Text(f"  {line}", style="dim") for line in report.steps]
    parts += [Text(f"! {line}", style="yellow") for line in report.warnings]
    return Group(*parts)


def render_quarantined(found: tuple[Quarantined, ...], module: str) -> RenderableType:
    """Show the records that did not migrate.

    Args:
        found: What is kept.
        module: The module's name.
    """
    if not found:
        return Text(f"{module}: no record was set aside", style="dim")
    parts: list[RenderableType] = []
    for one in found:
        what = f"default for {', '.join(one.filled)}" if one.filled else "set aside"
        head = f"{one.table}[{one.key}]  {what}, schema {one.schema}, {one.taken_at[:19]}"
        parts += [
            Text(head, style="bold"),
            Text(f"  {one.value}"),
            Text(f"  {one.reason}", "yellow"),
        ]
    if any(not one.filled for one in found):
        parts.append(Text(f"after a fix: replank state take-back {module} [KEY]...", style="cyan"))
    return Group(*parts)


def render_readmission(report: ReadmissionReport) -> RenderableType:
    """Show what became of records that had been set aside.

    Args:
        report: What came of it.
    """
    head = f"{report.module}: {report.taken} taken back, {len(report.refused)} still set aside"
    if report.discarded:
        head = f"{report.module}: {report.discarded} discarded"
    style = "bold yellow" if report.refused else "bold green"
    return Group(Text(head, style=style), *(Text(f"! {line}", "yellow") for line in report.refused))
