"""Options and helpers that commands share; imports nothing heavy, as `app` says."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from replank.cli.completing import complete_calls, complete_modules

if TYPE_CHECKING:
    from replank.control.client import Client
    from replank.report import ReloadReport

F = TypeVar("F", bound=Callable[..., Any])

MODES: Final = ("auto", "eager", "windowed", "lazy")
PATH: Final = click.Path(path_type=Path)


def json_option(function: F) -> F:
    """Add `--json`."""
    text = "Print one JSON object, nothing else."
    return click.option("--json", "as_json", is_flag=True, help=text)(function)


def host_options(function: F) -> F:
    """Add the options that find a running host, and `--json`."""
    config = click.option("-c", "--config", type=PATH, help="The host's replank.toml.")
    data_dir = click.option("--data-dir", type=PATH, help="Data directory of the host.")
    return data_dir(config(json_option(function)))


def target_arguments(function: F) -> F:
    """Add `NAME...` and `--source`."""
    text = "Source other than the configured one; one for each NAME."
    source = click.option("--source", "sources", multiple=True, type=PATH, help=text)
    names = click.argument(
        "names", nargs=-1, required=True, metavar="NAME[=PATH]...", shell_complete=complete_modules
    )
    return names(source(function))


def allow_option(function: F) -> F:
    """Add `--allow-breaking` and `--expect-change`."""
    text = "Let this call change although other modules use it; * for all."
    option = click.option("--allow-breaking", "allowed", multiple=True, metavar="CALL", help=text)
    text = "Let replayed answers of this query differ; * for all."
    change = click.option("--expect-change", "changes", multiple=True, metavar="CALL", help=text)
    return option(change(function))


def choice_options(function: F) -> F:
    """Add the options that come before the configuration, as the keyword arguments of Choices."""
    choice = click.Choice(["abort", "quarantine", "default"])
    bad = "What becomes of records that do not migrate: reject, set aside, or fill the field."
    most = "Records of each module that may be set aside."
    over = "Let this reload exceed max_pause_s and max_memory_bytes."
    options = (
        click.option("--on-bad-record", type=choice, help=bad),
        click.option("--quarantine-max", type=click.IntRange(min=0), metavar="N", help=most),
        click.option("--mode", type=click.Choice(MODES), help="How the state travels."),
        click.option("--over-limits", is_flag=True, help=over),
    )
    for option in reversed(options):
        function = option(function)
    return function


def rehearse_option(function: F) -> F:
    """Add `--rehearse`."""
    text = "Try all of it on a forked copy of the running host, with its real state."
    return click.option("--rehearse", is_flag=True, help=text)(function)


def call_arguments(function: F) -> F:
    """Add `NAME METHOD [ARGS]...`; words after them are never taken for options."""
    words = click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[ARGS]...")
    method = click.argument("method", shell_complete=complete_calls)
    return name_argument(method(words(function)))


def name_argument(function: F) -> F:
    """Add `NAME`, completed with the modules that there are."""
    return click.argument("name", shell_complete=complete_modules)(function)


def module_argument(function: F) -> F:
    """Add `MODULE`, likewise."""
    return click.argument("module", shell_complete=complete_modules)(function)


@contextmanager
def client_of(data_dir: Path | None, config: Path | None, *, as_json: bool) -> Iterator[Client]:
    """Lend a client of the host that the options mean; tell every error."""
    from replank.cli.outcome import telling

    with telling(as_json=as_json):
        from replank.control.client import Client
        from replank.control.locate import find_data_dir

        with Client.find(find_data_dir(data_dir, config)) as client:
            yield client


def follow(begin: Callable[[Any], ReloadReport], names: Sequence[str], *, as_json: bool) -> None:
    """Show a reload as it happens, then its report; end with its exit code."""
    from replank.cli.outcome import OF_OUTCOME

    if as_json:
        report = begin(None)
        print_json(report)
    else:
        from replank.cli.live import show_phases
        from replank.cli.render import make_console

        with show_phases(make_console(), " ".join(names)) as on_line:
            report = begin(on_line)
        show(report, "render_report")
    raise click.exceptions.Exit(OF_OUTCOME[report.outcome])


def show(record: Any, render: str, *more: Any) -> None:
    """Print a record for people, with the function of a `render` file that is named."""
    from replank.cli import render as rendering
    from replank.cli import render_plan, render_probation, render_schedule, render_state

    files = (rendering, render_plan, render_probation, render_schedule, render_state)
    function = next(getattr(one, render) for one in files if hasattr(one, render))
    # Soft wrap: a path or a command to paste must not be broken in two.
    rendering.make_console().print(function(record, *more), soft_wrap=True)


def print_json(value: Any) -> None:
    """Print one JSON object."""
    from replank.cli import outcome

    outcome.print_json(value)


__all__ = [
    "PATH",
    "allow_option",
    "call_arguments",
    "choice_options",
    "client_of",
    "follow",
    "host_options",
    "json_option",
    "module_argument",
    "name_argument",
    "print_json",
    "rehearse_option",
    "show",
    "target_arguments",
]
