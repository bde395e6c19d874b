"""The phases of a reload as they happen: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from rich.live import Live
from rich.text import Text

from replank.cli.render import ms, words
from replank.instrumentation.events import PhaseEnded, PhaseStarted, ReloadDeferred
from replank.report import Phase

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

_FRAMES_PER_S: Final = 20


class PhaseTrack:
    """Remember where each phase stands.

    Args:
        title: What is being reloaded.
    """

    def __init__(self, title: str) -> None:
        self._title = title
        self._running: Phase | None = None
        self._where = ""
        self._done: dict[Phase, PhaseEnded] = {}
        self._waits = ""

    def note(self, event: Any) -> None:
        """Take in one event; others than those of phases are passed over."""
        if isinstance(event, ReloadDeferred):
            self._waits = _waits(event)
        elif isinstance(event, PhaseStarted):
            self._waits = ""
            self._running, self._where = event.phase, event.where
        elif isinstance(event, PhaseEnded):
            self._running = None
            self._done[event.phase] = event

    def __rich__(self) -> Text:
        """Draw one line: the title and the eight phases."""
        text = Text(f"{self._title}  ", style="bold")
        if self._waits:
            return text.append(self._waits, style="not bold yellow")
        for phase in Phase:
            ended = self._done.get(phase)
            if phase is self._running:
                style = "bold yellow" if self._where == "pause" else "bold cyan"
            elif ended is None:
                style = "dim"
            else:
                style = "green" if ended.outcome == "done" else "red"
            text.append(f"{phase} ", style=f"not bold {style}" if "bold" not in style else style)
        return text


def line_of(event: Any) -> str | None:
    """Return the plain line of an event, or None when it is not worth one.

    Args:
        event: What happened.
    """
    if isinstance(event, ReloadDeferred):
        return _waits(event)
    if not isinstance(event, PhaseEnded):
        return None
    detail = f"  {event.detail}" if event.detail else ""
    place = "while serving" if event.where == "window" else "calls wait"
    return f"{event.phase:<9} {words(event.outcome):<7} {ms(event.seconds):>8}  {place}{detail}"


def _waits(event: ReloadDeferred) -> str:
    return f"request {event.id} waits: {event.why}"


@contextmanager
def show_phases(console: Console, title: str) -> Iterator[Callable[[Any], None]]:
    """Lend a function that shows each event it is called with.

    Args:
        console: Where to.
        title: What is being reloaded.
    """
    if console.is_terminal:
        track = PhaseTrack(title)
        with Live(track, console=console, refresh_per_second=_FRAMES_PER_S, transient=True):
            yield track.note
    else:
        told = ""

        def show(event: Any) -> None:
            nonlocal told
            line = line_of(event)
            if line is not None and line != told:  # that it still waits need not be said again
                told = line
                console.print(line, soft_wrap=True, markup=False)

        yield show


__all__ = ["PhaseTrack", "line_of", "show_phases"]
