"""How a version on probation does, as text for people."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from replank.cli.render import ms
from replank.report import CallReport, ProbationReport

_STYLE = {
    "tripped": "bold red",
    "watching": "bold cyan",
    "paused": "bold yellow",
    "canary": "bold cyan",
}


def render_probation(report: ProbationReport) -> RenderableType:
    """Show a probation, call by call.

    Args:
        report: Its report.
    """
    names = ", ".join(report.modules)
    said = f"canary at {report.share:.1%} of the calls" if report.share else "probation"
    said += "" if report.state == "canary" else f" {report.state}"
    text = Text(f"{names}: {said}", style=_STYLE.get(report.state, "bold green"))
    facts = [f"reload {report.id}", f"{report.checks_passed} checks passed"]
    if report.memory_before_bytes and report.memory_bytes:
        before, now = report.memory_before_bytes / 1e6, report.memory_bytes / 1e6
        facts.append(f"the process has {now:.0f} MB, at the commit {before:.0f} MB")
    if report.left_s:
        facts.insert(1, f"{report.left_s:.1f} s left")
    text.append("\n  " + ", ".join(facts), style="dim")
    if report.tripped:
        text.append(f"\n  {report.tripped}", style="bold red")
    for line in report.growing:
        text.append(f"\n  {line}", style="yellow")
    return Group(text, Padding(_calls(report.calls), (0, 0, 0, 2)))


def _calls(calls: tuple[CallReport, ...]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("call", "errors before", "now", "median before", "now ", ""):
        table.add_column(heading, justify="left" if heading in ("call", "") else "right")
    for one in calls:
        said = one.tripped or one.slower
        table.add_row(
            f"{one.module}.{one.call}",
            f"{one.errors_before}/{one.calls_before}",
            f"{one.errors_after}/{one.calls_after}",
            ms(one.median_before_s),
            ms(one.median_after_s),
            Text(said or one.unjudged or "well", style="red" if said else "dim"),
        )
    return table


__all__ = ["render_probation"]
