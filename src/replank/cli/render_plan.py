"""What a reload would do, and what its rehearsal found, as text for people."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from replank.cli.render import (
    bad_record_lines,
    change_of,
    error_block,
    ms,
    size_of,
    warning_lines,
)
from replank.report import ModulePlan, Plan, RehearsalReport


def render_plan(plan: Plan) -> RenderableType:
    """Show what a reload would do.

    Args:
        plan: The plan.
    """
    parts: list[RenderableType] = []
    for module in plan.modules:
        parts.append(_planned_module(module))
        parts.extend(bad_record_lines(module, "would be", "would get"))
    if plan.accepted:
        parts.append(Text("would be taken up; nothing was changed", style="green"))
    else:
        parts.append(Text("✘ would be rejected; nothing was changed", style="bold red"))
    if plan.rehearsal is not None:
        parts.append(_rehearsed(plan.rehearsal))
    if plan.error is not None:
        parts.append(error_block(plan.error))
    parts.extend(warning_lines(plan.warnings))
    return Group(*parts)


def _rehearsed(found: RehearsalReport) -> RenderableType:
    """Show what a copy of the host found: first what it cost, then each record that is bad."""
    head = Text(f"rehearsed on a copy of the host: {found.records:,} records", style="bold")
    head.append(f", the host stood still for {ms(found.fork_s)}", style="not bold")
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    table.add_row("window", f"{ms(found.window_s)} without traffic")
    table.add_row("memory", f"{size_of(found.memory_bytes)} more")
    if found.checks:
        table.add_row("checked", ", ".join(found.checks))
    parts: list[RenderableType] = [head, Padding(table, (0, 0, 0, 2))]
    if found.bad:
        parts.append(Text(f"✘ {found.bad:,} bad record{'s' * (found.bad > 1)}", style="bold red"))
    for bad in found.bad_records:
        made = f" became {bad.new}" if bad.new else ""
        parts.append(Text(f"    {bad.field}: {bad.old}{made}", style="bold"))
        parts.append(Text(f"        {bad.message}"))
    if found.bad > len(found.bad_records):
        parts.append(Text(f"    and {found.bad - len(found.bad_records):,} more", style="dim"))
    return Group(*parts)


def _planned_module(module: ModulePlan) -> RenderableType:
    head = Text(f"{module.name} ", style="bold")
    head.append(change_of(module.version_from, module.version_to))
    if module.unchanged:
        return head.append("  the source is byte for byte what serves", style="dim")
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    table.add_row("schema", change_of(str(module.schema_from), str(module.schema_to)))
    for label, lines in (
        ("changes", module.schema_changes),
        ("steps", module.steps),
        ("contract", module.contract_changes),
        ("copied", (", ".join(module.snapshotted),)),
        ("handed over", (", ".join(module.carried),)),
    ):
        if any(lines):
            table.add_row(label, "\n".join(lines))
    size = f"{module.records:,} records, {size_of(module.state_bytes)}"
    table.add_row("state", f"{size}, {module.mode}")
    table.add_row("pause", f"about {ms(module.predicted_pause_s)}")
    if (cost := module.predicted) is not None and module.mode != "eager":
        figures = f"about {ms(cost.window_s)}, {size_of(cost.memory_bytes)} more memory"
        table.add_row("window", figures)
    if module.notes:
        table.add_row("note", "\n".join(module.notes))
    if not module.downgrade:
        table.add_row("rollback", Text("after commit loses what was written since", style="yellow"))
    return Group(head, Padding(table, (0, 0, 0, 2)))
