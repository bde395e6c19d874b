"""The schedule and changes of the configuration as text for people, within 80 columns."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from replank.cli.render import when, words

if TYPE_CHECKING:
    from replank.control.schedule_routes import Schedule
    from replank.live_config import ConfigChange, ConfigReport
    from replank.scheduling.entries import Scheduled


def render_schedule(found: Schedule) -> RenderableType:
    """Show what waits and why, and what is paused.

    Args:
        found: What the host said.
    """
    lines: list[Text] = []
    if found.paused:
        names = "all modules" if "*" in found.paused else ", ".join(found.paused)
        lines.append(Text(f"paused: {names}; go on with `replank schedule resume`", "yellow"))
    for one in found.requests:
        lines += _lines_of(one)
    return Group(*(lines or [Text("nothing is scheduled", style="dim")]))


def render_scheduled(one: Scheduled) -> RenderableType:
    """Show one request.

    Args:
        one: The request.
    """
    return Group(*_lines_of(one))


def _lines_of(one: Scheduled) -> list[Text]:
    due = when(datetime.fromtimestamp(one.due, UTC).isoformat())
    again = f"  cron {one.cron}" if one.cron else ""
    head = f"{one.id}  {due}  {', '.join(one.modules)}  {one.priority}{again}"
    lines = [Text.assemble((head, "bold" if one.standing == "waiting" else "dim"))]
    told = one.why or words(one.standing)
    if one.last_reload:
        told += f"; {one.last_reload} {words(one.last_outcome or '')}"
    lines.append(Text(f"    {told}", style="dim"))
    return lines


def render_config_report(found: ConfigReport) -> RenderableType:
    """Show what holds now and what needs a restart.

    Args:
        found: What the host said.
    """
    lines = [Text(f"✔ {_change(one)}", style="green") for one in found.applied]
    lines += [Text(f"! {_change(one)}: needs a restart", "yellow") for one in found.needs_restart]
    return Group(*(lines or [Text(f"{found.path} says nothing new", style="dim")]))


def _change(one: ConfigChange) -> str:
    return f"{one.key}: {one.before} → {one.after}"


__all__ = ["render_config_report", "render_schedule", "render_scheduled"]
