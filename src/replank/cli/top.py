"""`replank top`: a host at work, looked at again and again."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from replank.cli.options import client_of, host_options, print_json

if TYPE_CHECKING:
    from rich.console import RenderableType

    from replank.control.client import Client
    from replank.instrumentation.status import HostStatus, ModuleStatus

_LINES: Final = 8
"""The last events shown below the modules."""
_DETAILS: Final = frozenset({"PhaseStarted", "PhaseEnded", "GenerationRetired"})


@click.command()
@click.option("--once", is_flag=True, help="Show one picture and end.")
@click.option("--every", type=click.FloatRange(0.1, 60), default=1.0, help="Seconds between looks.")
@host_options
def top(
    every: float, data_dir: Path | None, config: Path | None, *, once: bool, as_json: bool
) -> None:
    """Watch modules, calls, queues and reloads live, until Ctrl-C.

    With --json one object a look; rates are calls a second since the look before.
    """
    with client_of(data_dir, config, as_json=as_json) as client:
        view = View()
        if as_json or once:
            _print(client, view, every, once=once, as_json=as_json)
        else:
            _live(client, view, every)


def _print(client: Client, view: View, every: float, *, once: bool, as_json: bool) -> None:
    from replank.cli.render import make_console

    console = make_console()
    while True:
        view.look(client)
        if as_json:
            print_json(view.record())
        else:
            console.print(view, soft_wrap=True)
        if once:
            return
        _pause(every)


def _live(client: Client, view: View, every: float) -> None:
    from rich.live import Live

    from replank.cli.render import make_console

    view.look(client)
    console = make_console()
    # The whole screen on a terminal; elsewhere one picture after the other.
    with Live(view, console=console, screen=console.is_terminal, auto_refresh=False) as live:
        while True:
            live.refresh()
            _pause(every)
            view.look(client)


def _pause(seconds: float) -> None:
    # The one place that waits for time to pass: nothing else runs in this process.
    import threading

    threading.Event().wait(seconds)


class View:
    """What is shown: the last two looks at a host, and its last events.

    Args:
        clock: Seconds that only rise.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._now: tuple[float, HostStatus] | None = None
        self._before: tuple[float, HostStatus] | None = None
        self._events: deque[Any] = deque(maxlen=_LINES)
        self._seen: str | None = None
        self._contact: Any = None

    def look(self, client: Client) -> None:
        """Ask the host for what is true now, and for what happened since.

        Args:
            client: A client of it.
        """
        self._contact = client.contact
        self._before, self._now = self._now, (self._clock(), client.status())
        # A reader that comes back gets what it has missed; the first time, what is kept.
        for number, event in client.events(follow=False, last_event_id=self._seen):
            self._seen = number or self._seen
            if type(event).__name__ not in _DETAILS:
                self._events.append(event)

    def record(self) -> dict[str, Any]:
        """Return the picture as plain values."""
        assert self._now is not None, "a view shows what it has looked at"
        status = self._now[1]
        return {**status.to_dict(), "calls_per_second": self.rates()}

    def rates(self) -> dict[str, float | None]:
        """Return the calls a second of each module since the look before; None at the first."""
        assert self._now is not None, "a view shows what it has looked at"
        at, status = self._now
        if self._before is None:
            return {module.name: None for module in status.modules}
        before, earlier = self._before
        calls = {module.name: module.calls for module in earlier.modules}
        seconds = max(at - before, 1e-9)
        return {
            one.name: round(max(0, one.calls - calls.get(one.name, one.calls)) / seconds, 1)
            for one in status.modules
        }

    def __rich__(self) -> RenderableType:
        """Draw modules, then the last events."""
        from rich.console import Group
        from rich.text import Text

        from replank.cli.events import line_of_item
        from replank.cli.render import render_status

        assert self._now is not None, "a view shows what it has looked at"
        status = self._now[1]
        parts: list[Any] = [render_status(status, self._contact), Text(_line(status, self.rates()))]
        parts += [
            Text(line_of_item(event), style="dim", no_wrap=True, overflow="ellipsis")
            for event in self._events
        ]
        return Group(*parts)


def _line(status: HostStatus, rates: dict[str, float | None]) -> str:
    busy = [f"{name} {rate:,.0f}/s" for name, rate in rates.items() if rate is not None]
    closed = [one.name for one in status.modules if not _is_open(one)]
    # At the first look there is none before it to compare with.
    parts = ["calls: " + ", ".join(busy)] if busy else []
    if closed:
        parts.append(f"calls wait for: {', '.join(closed)}")
    return f"\n{'   '.join(parts)}\n" if parts else ""


def _is_open(module: ModuleStatus) -> bool:
    return module.gate == "open"


__all__ = ["View", "top"]
