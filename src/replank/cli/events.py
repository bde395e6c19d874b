"""`replank events`: what happened in a running host, and what happens."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from replank.cli.completing import complete_event_types
from replank.cli.options import client_of, host_options, print_json

if TYPE_CHECKING:
    from replank.control.client import Client
    from replank.control.wire import FeedItem

_TIMES_MAX: Final = 5
"""How often a reader that was overtaken comes back before it gives up."""


@click.command()
@click.option("-f", "--follow", is_flag=True, help="Go on with what happens, until Ctrl-C.")
@click.option("-n", "--limit", type=click.IntRange(0, 1_000_000), help="Begin with so many.")
@click.option(
    "--type",
    "types",
    multiple=True,
    metavar="EVENT",
    shell_complete=complete_event_types,
    help="Only these: ReloadEnded, …",
)
@host_options
def events(
    types: tuple[str, ...],
    limit: int | None,
    data_dir: Path | None,
    config: Path | None,
    *,
    follow: bool,
    as_json: bool,
) -> None:
    """Show the host's last events, each on one line.

    With --follow the last 10, then each as it happens; --json then prints one object a line.
    """
    with client_of(data_dir, config, as_json=as_json) as client:
        if follow:
            _follow(client, 10 if limit is None else limit, types, as_json=as_json)
            return
        items = [item for _, item in client.events(follow=False, last=limit, types=types)]
        if as_json:
            print_json({"events": items})
        else:
            for item in items:
                click.echo(line_of_item(item))


def _follow(client: Client, last: int, types: tuple[str, ...], *, as_json: bool) -> None:
    """Print until the host ends; a reader that was too slow goes on with what is kept."""
    from replank.control.wire import Closed, Overtaken

    seen: str | None = None
    for _ in range(_TIMES_MAX):
        overtaken = False
        for number, item in _again(client, last, types, seen):
            seen = number or seen
            overtaken = isinstance(item, Overtaken)
            if as_json:
                print_json(item)
            else:
                click.echo(line_of_item(item))
            if isinstance(item, Closed):
                return
        if not overtaken:
            return


def _again(
    client: Client, last: int, types: tuple[str, ...], seen: str | None
) -> Iterator[tuple[str | None, FeedItem]]:
    return client.events(last=last, types=types, last_event_id=seen)


def line_of_item(item: Any) -> str:
    """Return one line about what the feed carried.

    Args:
        item: An event, or what the feed has to say itself.
    """
    from replank.control.wire import Closed, Gap, Overtaken
    from replank.instrumentation.log import line_of

    match item:
        case Gap(missed=None):
            return "-- the host was started again since; what happened before is in its history"
        case Gap(missed=missed) | Overtaken(missed=missed):
            return f"-- {missed} events were left out"
        case Closed(reason=reason):
            return f"-- {reason}"
    time = datetime.fromtimestamp(item.at).astimezone().strftime("%H:%M:%S.%f")[:-3]
    return f"{time} {line_of(item)}"


__all__ = ["events", "line_of_item"]
