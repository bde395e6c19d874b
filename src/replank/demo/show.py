"""What people see of the demo: live on a terminal, plain lines elsewhere, tables at the end."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from replank.demo.accounting import Tally
from replank.demo.loadgen import Progress
from replank.demo.processes import Address
from replank.demo.story import ACTS, Act, DemoResult, Played
from replank.report import ModuleReport, Outcome, ReloadReport

MARKS = {
    Outcome.COMMITTED: ("committed", "green"),
    Outcome.ROLLED_BACK: ("rolled back", "yellow"),
    Outcome.REJECTED: ("rejected", "yellow"),
}
PLAIN_EVERY_S = 2.0
WIDTH = 80


class Silent:
    """Show nothing: the JSON object at the end says all."""

    def opened(self, address: Address, folder: Path) -> None:
        """Say nothing."""

    def progressed(self, progress: Progress) -> None:
        """Say nothing."""

    def began(self, act: Act) -> None:
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
        self._running = act
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
                state = Text(f"{word}, pause {milliseconds(done[id(act)].report)}", colour)
            else:
                state = Text("reloading ..." if act is self._running else "", "bold")
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
    text = f"{word} ({planned}), pause {milliseconds(played.report)}"
    if played.report.error is not None:
        text += f", because: {why(played.report)}"
    return text


def milliseconds(report: ReloadReport) -> str:
    """Say how long calls waited."""
    return f"{report.pause_s * 1000:.1f} ms" if report.pause_s else "none"


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
        reload_table(outcome),
        phase_table(outcome),
        *closing(outcome),
    ):
        console.print(part, highlight=False)


def traffic_table(outcome: DemoResult) -> RenderableType:
    """Lay out what the load generator found."""
    table = Table(
        title=f"Traffic in {outcome.verdict.seconds:.0f} s, by the load generator's own books",
        box=box.SIMPLE_HEAD,
        title_justify="left",
        title_style="bold",
    )
    for heading in ("", "sent", "answered", "lost", "doubled", "out of order", "failed"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, tally in (("calls", outcome.verdict.calls), ("messages", outcome.verdict.messages)):
        table.add_row(name, *cells(tally))
    return table


def cells(tally: Tally) -> list[Text]:
    """Turn a tally into cells: what must be 0 is green or red."""
    plain = [Text(f"{tally.sent:,}"), Text(f"{tally.answered:,}")]
    faults = (tally.lost, tally.duplicated, tally.reordered, tally.failed)
    return plain + [Text(str(count), "red bold" if count else "green") for count in faults]


def reload_table(outcome: DemoResult) -> RenderableType:
    """Lay out how each reload ended."""
    table = Table(
        title="Reloads, while that traffic ran",
        box=box.SIMPLE_HEAD,
        title_justify="left",
        title_style="bold",
        width=WIDTH,
    )
    table.add_column("reload", no_wrap=True)
    table.add_column("outcome", no_wrap=True)
    table.add_column("pause", justify="right", no_wrap=True)
    table.add_column("total", justify="right", no_wrap=True)
    table.add_column("what happened", ratio=1)
    for played in outcome.played:
        report = played.report
        word, colour = MARKS[report.outcome]
        table.add_row(
            played.act.title,
            Text(word, colour if played.as_planned else "red bold"),
            milliseconds(report),
            f"{report.total_s * 1000:.0f} ms",
            Text(why(report)) if report.error else Text(committed(played)),
        )
    return table


def committed(played: Played) -> str:
    """Say what a committed reload did to state and traffic."""
    records = sum(module.records_migrated for module in played.report.modules)
    parts = []
    if played.shape_before != played.shape_after:
        parts.append(f"{played.shape_before} → {played.shape_after}")
    parts += [schema(module) for module in played.report.modules if schema(module)]
    if records:
        parts.append(f"{records} records migrated")
    parts.append(f"{played.report.calls_held} calls waited")
    return "; ".join(parts)


def schema(module: ModuleReport) -> str:
    """Say how a module's schema changed, if it did."""
    if module.schema_from == module.schema_to:
        return ""
    return f"schema {module.schema_from} → {module.schema_to}"


def phase_table(outcome: DemoResult) -> RenderableType:
    """Lay out the phases of the first reload: what took how long, and who waited for it."""
    report = outcome.played[0].report if outcome.played else None
    table = Table(
        title="The eight phases of the first reload, in milliseconds",
        box=box.SIMPLE_HEAD,
        title_justify="left",
        title_style="bold",
    )
    table.add_column("")
    for phase in report.phases if report else ():
        table.add_column(phase.name.capitalize(), justify="right")
    if report is not None:
        table.add_row("serving", *(f"{p.window_seconds * 1000:.1f}" for p in report.phases))
        table.add_row("waiting", *(f"{p.seconds * 1000:.1f}" for p in report.phases))
    return table


def closing(outcome: DemoResult) -> list[Text]:
    """Say in a few lines what it all amounts to."""
    verdict = outcome.verdict
    waits = verdict.waits
    exact = "exactly" if verdict.state_ok else "NOT"
    lines = [
        Text(
            f"state   {verdict.serials:,} entries in the ledger, {euros(verdict.found_cents)} on "
            f"the accounts: {exact} what was sent"
        ),
        Text(
            f"answers by versions {', '.join(verdict.versions)}; "
            f"{verdict.stale_answers} by an older one after a newer, "
            f"{verdict.mixed_answers} from a mix of old and new modules"
        ),
        Text(
            f"longest wait of any caller: {waits.with_reload_ms:.1f} ms while a reload ran, "
            f"{waits.without_reload_ms:.1f} ms otherwise"
        ),
    ]
    lines += [Text(f"fault   {error}", "red") for error in verdict.errors]
    if outcome.folder:
        lines.append(Text(f"kept in {outcome.folder}"))
    word = "Nothing was lost. Every reload ended as planned." if outcome.ok else "NOT as promised."
    lines.append(Text(f"\n{word}", "bold green" if outcome.ok else "bold red"))
    return lines


def euros(cents: int) -> str:
    """Write an amount for people."""
    return f"{cents / 100:,.2f} euros"


__all__ = ["Lines", "Screen", "Silent", "choose", "print_result"]
