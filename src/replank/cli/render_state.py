"""Migrations and state as text for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

if TYPE_CHECKING:
    from replank.cli.new_step import NewStep
    from replank.verification.laws import LawReport


def render_draft(found: NewStep) -> RenderableType:
    """Show a drafted step, what is still asked, and what was written.

    Args:
        found: What came of it.
    """
    parts: list[RenderableType] = []
    if not found.step:
        parts.append(Text(_nothing(found), style="bold green"))
    elif found.written:
        parts.append(Text(f"✔ written into {found.source}, schema={found.schema_to}:", "bold green"))
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
