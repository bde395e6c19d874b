"""`replank schedule`, and the options of `replank reload` that say when."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from replank.cli.completing import complete_modules, complete_requests
from replank.cli.options import client_of, host_options, print_json, show

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS: Final = (
    click.option("--at", metavar="TIME", help='Later: "22:30" or ISO 8601; survives a restart.'),
    click.option("--in", "after", metavar="TIME", help="Later: after 10m, 1h30m or 90 (seconds)."),
    click.option("--cron", metavar="LINE", help='Again and again: "0 3 * * mon-fri".'),
    click.option(
        "--priority",
        type=click.Choice(["low", "normal", "high", "critical"]),
        default="normal",
        help="critical waits for no window, limit or pause.",
    ),
    click.option("--when-quiet", metavar="TIME", help="Wait for quiet traffic, this long at most."),
    click.option("--retry", "retries", type=click.IntRange(0), help="Try again this often."),
)


names_argument = click.argument(
    "names", nargs=-1, metavar="[NAME]...", shell_complete=complete_modules
)


def when_options(function: F) -> F:
    """Add the options that say when and how urgently."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def read_when(given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return how urgently, and when; the second is empty for now.

    Args:
        given: What the options were given.

    Raises:
        UsageError: A length of time cannot be read.
    """
    from replank.scheduling.moments import read_duration

    quiet, after = given["when_quiet"], given["after"]
    how = {
        "priority": given["priority"],
        "quiet_wait_s": None if quiet is None else read_duration(quiet),
        "retries": given["retries"],
    }
    when = {
        "at": given["at"],
        "after_s": None if after is None else read_duration(after),
        "cron": given["cron"],
    }
    return how, {key: value for key, value in when.items() if value is not None}


@click.group()
def schedule() -> None:
    """Look at reloads that wait, cancel them, pause and resume.

    A reload is scheduled by `replank reload NAME` with --at, --in or --cron.
    """


@schedule.command("list")
@host_options
def list_(data_dir: Path | None, config: Path | None, *, as_json: bool) -> None:
    """List what waits and why, and the last ones answered."""
    with client_of(data_dir, config, as_json=as_json) as client:
        _show(client.scheduled(), as_json=as_json)


@schedule.command()
@click.argument("request_id", metavar="ID", shell_complete=complete_requests)
@host_options
def cancel(request_id: str, data_dir: Path | None, config: Path | None, *, as_json: bool) -> None:
    """Forget a request; whoever waits for it is told."""
    with client_of(data_dir, config, as_json=as_json) as client:
        record = client.cancel_scheduled(request_id)
        if as_json:
            print_json(record)
        else:
            click.echo(f"{record.id} cancelled")


@schedule.command()
@names_argument
@host_options
def pause(
    names: Sequence[str], data_dir: Path | None, config: Path | None, *, as_json: bool
) -> None:
    """Let reloads wait, of all modules when none is named; also over a restart.

    Only requests of critical priority and rollbacks are still done.
    """
    with client_of(data_dir, config, as_json=as_json) as client:
        _show(client.pause_reloads(names), as_json=as_json)


@schedule.command()
@names_argument
@host_options
def resume(
    names: Sequence[str], data_dir: Path | None, config: Path | None, *, as_json: bool
) -> None:
    """Let reloads go on, of all modules when none is named."""
    with client_of(data_dir, config, as_json=as_json) as client:
        _show(client.resume_reloads(names), as_json=as_json)


def _show(found: Any, *, as_json: bool) -> None:
    if as_json:
        print_json(found)
    else:
        show(found, "render_schedule")


__all__ = ["read_when", "schedule", "when_options"]
