"""Records as text for people: 80 columns, the outcome first, errors with what to do next."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from textwrap import shorten
from typing import TYPE_CHECKING, Final

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from replank.report import (
    ErrorReport,
    ModulePlan,
    ModuleReport,
    Outcome,
    Phase,
    PhaseReport,
    ReloadReport,
)

if TYPE_CHECKING:
    from replank.control.locate import Contact
    from replank.instrumentation.status import HostStatus

_STYLE: Final = {
    Outcome.COMMITTED: "bold green",
    Outcome.ROLLED_BACK: "bold yellow",
    Outcome.REJECTED: "bold red",
    Outcome.SUPERSEDED: "bold",
}
_MARK: Final = {
    Outcome.COMMITTED: "✔",
    Outcome.ROLLED_BACK: "↩",
    Outcome.REJECTED: "✘",
    Outcome.SUPERSEDED: "»",
}
_DIGEST_CHARS: Final = 8
_WHY_CHARS_MAX: Final = 160
"""Of one reload in the history; `--json` has the whole of it."""
_KIB: Final = 1024
_MINUTE_S: Final = 60
_MS_EXACT_BELOW: Final = 9.95
_COUNT_EXACT_BELOW: Final = 1_000_000
_GIGA_FROM: Final = 999.95
_LINE: Final = 80
_DAY_S: Final = 86_400
_BAD_SHOWN: Final = 3


def render_report(report: ReloadReport) -> RenderableType:
    """Show how a reload ended.

    Args:
        report: Its report.
    """
    parts: list[RenderableType] = [_headline(report)]
    if report.phases:
        parts.append(Padding(_phase_table(report.phases), (0, 0, 0, 2)))
    parts.extend(line for one in report.modules for line in _costs(one))
    parts.extend(line for one in report.modules for line in bad_record_lines(one, "were", "got"))
    if report.error is not None:
        parts.append(error_block(report.error))
    parts.extend(warning_lines(report.warnings))
    return Group(*parts)


def _costs(one: ModuleReport) -> Iterable[Text]:
    """Set what the plan predicted beside what was measured."""
    before, after = one.predicted, one.measured
    if before is None or after is None:
        return
    pairs = [("pause", ms(before.pause_s), ms(after.pause_s))]
    if one.mode != "eager":
        pairs.append(("window", ms(before.window_s), ms(after.window_s)))
        pairs.append(("memory", size_of(before.memory_bytes), size_of(after.memory_bytes)))
    told = ", ".join(f"{name} {was} predicted, {came} measured" for name, was, came in pairs)
    yield Text(f"  state of {one.name} ({one.mode}): {told}", style="dim")


def bad_record_lines(one: ModuleReport | ModulePlan, were: str, got: str) -> Iterable[Text]:
    """Say which records did not migrate, and what became of them."""
    if one.quarantined:
        text = f"  {one.quarantined:,} records of {one.name} {were} set aside: "
        yield Text(text + f"replank state show {one.name} --quarantined", style="yellow")
    if one.defaulted:
        text = f"  {one.defaulted:,} records of {one.name} {got} a default for a field"
        yield Text(text, style="yellow")
    for bad in one.bad_records[:_BAD_SHOWN]:
        yield Text(f"    {bad.table}[{bad.key}]: {bad.reason}", style="yellow")


def _headline(report: ReloadReport) -> Text:
    text = Text(f"{_MARK[report.outcome]} {words(report.outcome)}", style=_STYLE[report.outcome])
    for module in report.modules:
        change = f"  {module.name} {change_of(module.version_from, module.version_to)}"
        text.append(change, style="bold")
    figures = [f"pause {ms(report.pause_s)}", f"total {ms(report.total_s)}"]
    if report.calls_held or report.messages_held:
        held = report.calls_held + report.messages_held
        figures.append(f"{held} waited, none lost")
    streams = {
        "resumed": report.streams_carried,
        "ended": report.streams_ended,
        "finishing in the old version": report.streams_finishing,
    }
    if told := ", ".join(f"{count} {word}" for word, count in streams.items() if count):
        figures.append(f"open streams: {told}")
    migrated = sum(module.records_migrated for module in report.modules)
    if migrated:
        figures.append(f"{migrated:,} records migrated")
    return text.append("\n  " + ", ".join(figures), style="dim")


def _phase_table(phases: Iterable[PhaseReport]) -> Table:
    table = _table("phase", "", ">while serving", ">calls wait", "detail")
    for phase in phases:
        served, waited = phase.window_seconds, phase.seconds
        if phase.name is Phase.PREPARE:  # no call waits in Prepare
            served, waited = served + waited, 0.0
        style = "" if phase.outcome == "done" else "yellow"
        table.add_row(
            phase.name,
            words(phase.outcome),
            ms(served) if served else "-",
            ms(waited) if waited else "-",
            Text(phase.detail, style="dim"),
            style=style,
        )
    return table


def error_block(error: ErrorReport) -> Text:
    """Say why something did not commit, and what to do.

    Args:
        error: The error.
    """
    where = f"{error.module}: " if error.module else ""
    text = Text(f"\n{where}{error.phase}: {error.message}", style="bold")
    if error.location:
        text.append(f"\n  at: {error.location}", style="")
    _append_facts(text, error.found, error.expected, error.serves, error.do)
    if error.traceback:
        indented = "\n".join("    " + line for line in error.traceback.rstrip().splitlines())
        text.append(f"\n{indented}", style="dim not bold")
    for undo in error.undo_errors:
        text.append(f"\n  and while undoing: {undo}", style="yellow not bold")
    return text


def _append_facts(
    text: Text, found: str | None, expected: str | None, serves: str | None, do: str | None
) -> None:
    for label, value, style in (
        ("found", found, "not bold"),
        ("expected", expected, "not bold"),
        ("now serving", serves, "not bold"),
        ("do", do, "not bold cyan"),
    ):
        if value:
            text.append(f"\n  {label}: ", style="dim not bold")
            text.append(value, style=style)


def warning_lines(warnings: Iterable[str]) -> list[Text]:
    """Return one line for each warning.

    Args:
        warnings: What to tell.
    """
    return [Text(f"  warning: {warning}", style="yellow") for warning in warnings]


def render_status(status: HostStatus, contact: Contact) -> RenderableType:
    """Show what is true now.

    Args:
        status: The host's status.
        contact: How it was reached.
    """
    head = Text(f"host {status.pid}", style="bold")
    head.append(f", up {age(status.started_at)}", style="")
    head.append(f", {contact.http or 'no HTTP'}", style="")
    head.append(f"\n{_end_of(status.data_dir)}", style="dim not bold")
    table = _table(
        "module",
        "version",
        ">gen",
        ">schema",
        "gate",
        ">in flight",
        ">waiting",
        ">calls",
        ">queued",
    )
    # Numbers stay whole and in one line; long names go on in the next.
    for column in table.columns[2:]:
        column.no_wrap = True
    for column in table.columns[:2]:
        column.overflow = "fold"
    for module in status.modules:
        table.add_row(
            module.name,
            module.label,
            str(module.generation),
            str(module.schema),
            Text(module.gate, style="" if module.gate == "open" else "yellow"),
            *map(
                count_of,
                (module.in_flight, module.waiting, module.calls, module.messages_queued),
            ),
        )
    failed = [
        Text(f"{module.name}: {module.messages_failed} messages failed", style="yellow")
        for module in status.modules
        if module.messages_failed
    ]
    return Group(head, table, *_process_lines(status), *failed)


def _process_lines(status: HostStatus) -> Iterable[Text]:
    """Say of each isolated module where it runs, or why it does not."""
    for module in status.modules:
        if module.down:
            yield Text(f"{module.name} takes no calls: {module.down}", style="red")
        elif module.isolation != "none":
            where = "no process just now" if module.pid is None else f"process {module.pid}"
            again = f", started again {module.restarts} times" if module.restarts else ""
            size = f", {size_of(module.memory_bytes)}" if module.memory_bytes else ""
            yield Text(f"{module.name} runs in {where}{size}{again}", style="dim")


def render_history(reports: Iterable[ReloadReport]) -> RenderableType:
    """Show the last reloads, newest first.

    Args:
        reports: Their reports.
    """
    table = _table("id", "when", "outcome", ">pause", ">total", "modules and why")
    for column in table.columns[:-1]:
        column.no_wrap = True  # what is long takes several lines, and leaves the rest as it is
    for report in reports:
        modules = ", ".join(
            f"{module.name} {change_of(module.version_from, module.version_to)}"
            for module in report.modules
        )
        why = report.reason
        if report.error is not None:
            why = shorten(
                f"{report.error.phase}: {report.error.message}", _WHY_CHARS_MAX, placeholder=" …"
            )
        table.add_row(
            report.id,
            when(report.started_at),
            Text(words(report.outcome), style=_STYLE[report.outcome]),
            ms(report.pause_s),
            ms(report.total_s),
            Text.assemble(modules, "  ", (why, "dim")),
        )
    return table if table.row_count else Text("no reloads yet", style="dim")


def _table(*headers: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for header in headers:
        right = header.startswith(">")
        table.add_column(header.lstrip(">"), justify="right" if right else "left")
    return table


def words(value: str) -> str:
    """Return an enum's value as words: "rolled back"."""
    return value.replace("_", " ")


def change_of(old: str, new: str) -> str:
    """Return "1.0 → 2.0", or the one that there is."""
    if not old or not new or old == new:
        return new or old
    return f"{old} → {new}"


def ms(seconds: float) -> str:
    """Return a time for people: "0.3 ms", "45 ms", "1.20 s".

    Args:
        seconds: The time, in seconds.
    """
    if seconds >= 1:
        return f"{seconds:.2f} s"
    value = seconds * 1e3
    return f"{value:.1f} ms" if value < _MS_EXACT_BELOW else f"{value:.0f} ms"


def count_of(count: int) -> str:
    """Return a number for people in at most seven characters: "1,234", "123,456", "1.2 M".

    Args:
        count: The number.
    """
    if count < _COUNT_EXACT_BELOW:
        return f"{count:,}"
    millions = count / 1e6
    return f"{millions:.1f} M" if millions < _GIGA_FROM else f"{millions / 1e3:.1f} G"


def _end_of(path: str) -> str:
    """Return as much of a path's end as fits a line; `--json` has all of it."""
    return path if len(path) <= _LINE else "…" + path[1 - _LINE :]


def size_of(count: int) -> str:
    """Return a size for people: "2.0 KiB".

    Args:
        count: The size, in bytes.
    """
    size = float(count)
    for unit in ("B", "KiB", "MiB"):
        if size < _KIB:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= _KIB
    return f"{size:.1f} GiB"


def when(text: str) -> str:
    """Return a time of the journal in local time: "11-23 18:04:05".

    Args:
        text: ISO 8601.
    """
    try:
        return dt.datetime.fromisoformat(text).astimezone().strftime("%m-%d %H:%M:%S")
    except ValueError:
        return text


def age(text: str, now: dt.datetime | None = None) -> str:
    """Return how long ago a time was: "5 s", "3 min", "2 h 05 min", "4 d".

    Args:
        text: ISO 8601 with its zone.
        now: The present; the clock's by default.
    """
    try:
        then = dt.datetime.fromisoformat(text)
    except ValueError:
        return "?"
    seconds = int(((now or dt.datetime.now(dt.UTC)) - then).total_seconds())
    minutes, hours = seconds // _MINUTE_S, seconds // _MINUTE_S**2
    if seconds < _MINUTE_S:
        return f"{seconds} s"
    if minutes < _MINUTE_S:
        return f"{minutes} min"
    if seconds < _DAY_S:
        return f"{hours} h {minutes % _MINUTE_S:02} min"
    return f"{seconds // _DAY_S} d"


def short(digest: str) -> str:
    """Return the start of a digest, enough for people to tell two apart.

    Args:
        digest: "sha256:<hex>".
    """
    return digest.rpartition(":")[2][:_DIGEST_CHARS]


def make_console(*, stderr: bool = False) -> Console:
    """Return a console that does not colour what it guesses to be numbers or paths.

    Args:
        stderr: Whether it writes to standard error.
    """
    return Console(stderr=stderr, highlight=False, emoji=False)


__all__ = [
    "age",
    "change_of",
    "count_of",
    "error_block",
    "make_console",
    "ms",
    "render_history",
    "render_report",
    "render_status",
    "short",
    "size_of",
    "warning_lines",
    "when",
    "words",
]
