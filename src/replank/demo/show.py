"""What people see of the demo: live on a terminal, plain lines elsewhere, tables at the end."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from replank.demo.accounting import Tally
from replank.demo.loadgen import Progress
from replank.demo.processes import Address
from replank.demo.story import ACTS, Act, DemoResult, Played
from replank.instrumentation.events import Event, PhaseStarted
from replank.report import ModuleReport, Outcome, Phase, ReloadReport

MARKS = {
    Outcome.COMMITTED: ("committed", "green"),
    Outcome.ROLLED_BACK: ("rolled back", "yellow"),
    Outcome.REJECTED: ("rejected", "yellow"),
}
PLAIN_EVERY_S = 2.0


class Silent:
    """Show nothing: the JSON object at the end says all."""

    def opened(self, address: Address, folder: Path) -> None:
        """Say nothing."""

    def progressed(self, progress: Progress) -> None:
        """Say nothing."""

    def began(self, act: Act) -> None:
        """Say nothing."""

    def happened(self, event: Event) -> None:
        """Say nothing."""

    def ended(self, played: Played) -> None:
        """Say nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        pass


class Lines(Silent):
    """Show one plain line for each thing that happens.

    Args:
        console: Where to.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._told = 0.0

    def opened(self, address: Address, folder: Path) -> None:
        """Say where the shop is."""
        self._say(f"the shop serves on http://{address.host}:{address.port}, files in {folder}")

    def progressed(self, progress: Progress) -> None:
        """Say how the traffic flows, every other second."""
        if progress.seconds - self._told >= PLAIN_EVERY_S:
            self._told = progress.seconds
            self._say(f"{progress.seconds:5.1f} s  {traffic(progress)}")

    def began(self, act: Act) -> None:
        """Say what is about to be reloaded."""
        self._say(f"reload {act.title}: {act.story}")

    def ended(self, played: Played) -> None:
        """Say how it ended."""
        self._say(f"       {result(played)}")

    def _say(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)


class Screen(Silent):
    """Show a living table.

    Args:
        console: A terminal.
    """

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, refresh_per_second=8, transient=True)
        self._address = "starting the shop ..."
        self._progress: Progress | None = None
        self._running: Act | None = None
        self._phase = ""
        self._played: list[Played] = []

    def __enter__(self) -> Self:
        self._live.__enter__()
        self._draw()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._live.__exit__(kind, error, traceback)

    def opened(self, address: Address, folder: Path) -> None:  # noqa: ARG002 (no room for it)
        """Say where the shop is."""
        self._address = f"the shop serves on http://{address.host}:{address.port}"
        self._draw()

    def progressed(self, progress: Progress) -> None:
        """Draw the traffic."""
        self._progress = progress
        self._draw()

    def began(self, act: Act) -> None:
        """Draw the reload that runs."""
        self._running, self._phase = act, ""
        self._draw()

    def happened(self, event: Event) -> None:
        """Draw the phase that runs."""
        if isinstance(event, PhaseStarted):
            self._phase = event.phase.capitalize()
            self._draw()

    def ended(self, played: Played) -> None:
        """Draw how it ended."""
        self._running = None
        self._played.append(played)
        self._draw()

    def _draw(self) -> None:
        rows = Table.grid(padding=(0, 2))
        done = {id(one.act): one for one in self._played}
        for act in ACTS:
            if id(act) in done:
                word, colour = MARKS[done[id(act)].report.outcome]
                state = Text(f"{word}, pause {milliseconds(done[id(act)])}", colour)
            else:
                running = f"{self._phase or 'asking'} ..." if act is self._running else ""
                state = Text(running, "bold")
            rows.add_row(Text(act.title, "bold"), Text(act.story, "dim"), state)
        flow = traffic(self._progress) if self._progress else "waiting for the first answers ..."
        self._live.update(Group(Text(self._address), rows, Text(flow, "cyan")), refresh=True)


def choose(console: Console, *, silent: bool) -> Silent:
    """Choose how to show the demo.

    Args:
        console: Where it goes.
        silent: Whether only the final JSON object is wanted.
    """
    if silent:
        return Silent()
    return Screen(console) if console.is_terminal else Lines(console)


def traffic(progress: Progress) -> str:
    """Say in one line how the traffic flows."""
    failed = f", {progress.failed} FAILED" if progress.failed else ", none failed"
    return (
        f"{progress.answered} answered ({progress.per_second:.0f} a second){failed}; "
        f"longest wait {progress.longest_ms:.1f} ms; ledger {progress.version or '-'} serves"
    )


def result(played: Played) -> str:
    """Say in one line how a reload ended."""
    word, _ = MARKS[played.report.outcome]
    planned = "as planned" if played.as_planned else f"BUT {played.act.planned} was planned"
    text = f"{word} ({planned}), pause {milliseconds(played)}"
    if played.report.error is not None:
        text += f", because: {why(played.report)}"
    return text


def milliseconds(played: Played) -> str:
    """Say how long calls could not enter."""
    return f"{played.pause_ms:.1f} ms" if played.pause_ms else "none"


def why(report: ReloadReport) -> str:
    """Say in one line why a reload did not commit."""
    error = report.error
    if error is None:
        return ""
    where = f" ({error.location})" if error.location else ""
    return f"{error.phase}: {error.message.splitlines()[0]}{where}"


def print_result(console: Console, outcome: DemoResult) -> None:
    """Print what the demo showed, for somebody who has never seen it.

    Args:
        console: Where to.
        outcome: The result.
    """
    for part in (
        traffic_table(outcome),
        reload_list(outcome),
        phase_table(outcome),
        *closing(outcome),
    ):
        console.print(part, highlight=False)


def traffic_table(outcome: DemoResult) -> RenderableType:
    """Lay out what the load generator found."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("", "sent", "answered", "lost", "doubled", "out of order", "failed"):
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    for name, tally in (("calls", outcome.verdict.calls), ("messages", outcome.verdict.messages)):
        table.add_row(name, *cells(tally))
    seconds = outcome.verdict.seconds
    title = Text(f"\n{seconds:.0f} s of traffic, by the load generator's own books", "bold")
    return Group(title, "", table, "")


def cells(tally: Tally) -> list[Text]:
    """Turn a tally into cells: what must be 0 is green or red."""
    plain = [Text(f"{tally.sent:,}"), Text(f"{tally.answered:,}")]
    faults = (tally.lost, tally.duplicated, tally.reordered, tally.failed)
    return plain + [Text(str(count), "red bold" if count else "green") for count in faults]


def reload_list(outcome: DemoResult) -> RenderableType:
    """Lay out how each reload ended, with a line below that says what happened."""
    waits = outcome.verdict.waits.each_reload_ms
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=True)
    for heading in ("reload", "outcome", "calls paused", "longest wait", "in all"):
        right = heading not in {"reload", "outcome"}
        table.add_column(heading, justify="right" if right else "left", no_wrap=True)
    for number, played in enumerate(outcome.played):
        word, colour = MARKS[played.report.outcome]
        table.add_row(
            Text(played.act.title, "bold"),
            Text(word, colour if played.as_planned else "red bold"),
            milliseconds(played),
            f"{waits[number]:.1f} ms" if number < len(waits) else "",
            f"{played.report.total_s * 1000:.0f} ms",
        )
    notes = [
        Padding(Text(f"{played.act.title}: {what_happened(played)}", "dim"), (0, 0, 0, 2))
        for played in outcome.played
    ]
    title = Text("Reloads, while that traffic ran", "bold")
    return Group(title, "", table, "", *notes, "")


def what_happened(played: Played) -> str:
    """Say what a reload did, or why it did nothing."""
    return why(played.report) if played.report.error else committed(played)


def committed(played: Played) -> str:
    """Say what a committed reload did to state and traffic."""
    records = sum(module.records_migrated for module in played.report.modules)
    parts = [played.act.story]
    parts += [schema(module) for module in played.report.modules if schema(module)]
    if records:
        parts.append(f"{records} records migrated")
    return "; ".join(parts)


def schema(module: ModuleReport) -> str:
    """Say how a module's schema changed, if it did."""
    if module.schema_from == module.schema_to:
        return ""
    return f"schema {module.schema_from} → {module.schema_to}"


def phase_table(outcome: DemoResult) -> RenderableType:
    """Lay out the phases of the first reload: what took how long, and who waited for it."""
    phases = outcome.played[0].report.phases if outcome.played else ()
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("ms")
    for phase in phases:
        table.add_column(phase.name.capitalize(), justify="right", no_wrap=True)
    # no call waits in Prepare: its whole time is spent while the old version serves
    rehearsed = [
        phase.seconds + phase.window_seconds
        if phase.name is Phase.PREPARE
        else phase.window_seconds
        for phase in phases
    ]
    paused = [0.0 if phase.name is Phase.PREPARE else phase.seconds for phase in phases]
    table.add_row("serving", *map(cell, rehearsed))
    table.add_row("paused", *map(cell, paused))
    title = Text("The eight phases of the first reload", "bold")
    return Group(title, "", table, "")


def cell(seconds: float) -> str:
    """Write a time in milliseconds, or nothing."""
    return f"{seconds * 1000:.1f}" if seconds else "-"


def closing(outcome: DemoResult) -> list[Text]:
    """Say in a few lines what it all amounts to."""
    verdict = outcome.verdict
    waits = verdict.waits
    exact = "exactly" if verdict.state_ok else "NOT"
    lines = [
        Text(
            f"State: {verdict.serials:,} entries, {euros(verdict.found_cents)}: "
            f"{exact} what was sent."
        ),
        Text(
            f"Versions that answered: {', '.join(verdict.versions)}. Old after new: "
            f"{verdict.stale_answers}. Old mixed with new: {verdict.mixed_answers}."
        ),
        Text(
            f"Longest wait of a caller: {waits.with_reload_ms:.1f} ms during a reload, "
            f"{waits.without_reload_ms:.1f} ms otherwise."
        ),
    ]
    lines += [Text(f"Fault: {error}", "red") for error in verdict.errors]
    if outcome.folder:
        lines.append(Text(f"Kept in {outcome.folder}"))
    word = "Nothing was lost. Every reload ended as planned." if outcome.ok else "NOT as promised."
    lines.append(Text(f"\n{word}", "bold green" if outcome.ok else "bold red"))
    return lines


def euros(cents: int) -> str:
    """Write an amount for people."""
    return f"{cents / 100:,.2f} euros"


__all__ = ["Lines", "Screen", "Silent", "choose", "print_result"]
