"""`replank migrations`: write steps, show the path, check the laws."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from replank.cli.completing import complete_modules_and_files
from replank.cli.options import PATH, host_options, print_json
from replank.cli.options import show as show_record

F = TypeVar("F", bound=Callable[..., Any])


@click.group()
def migrations() -> None:
    """Write, show and check the steps between the shapes of a module's state."""


def module_options(function: F) -> F:
    """Add `MODULE|FILE`, `--source`, and what finds the data directory."""
    text = "Source to read instead of the module's own."
    source = click.option("--source", type=PATH, help=text)
    module = click.argument(
        "module", metavar="MODULE|FILE", shell_complete=complete_modules_and_files
    )
    return module(source(host_options(function)))


@migrations.command()
@module_options
@click.option("--yes-rename", "renames", multiple=True, metavar="OLD=NEW", help="It was renamed.")
@click.option("--remove", "removed", multiple=True, metavar="FIELD", help="It was removed.")
@click.option(
    "--default", "defaults", multiple=True, metavar="FIELD=VALUE", help="What old states get."
)
@click.option(
    "--convert", "converters", multiple=True, metavar="FIELD=FUNCTION", help="Makes the new value."
)
@click.option(
    "--convert-down", "back", multiple=True, metavar="FIELD=FUNCTION", help="Makes the old value."
)
@click.option("--write", is_flag=True, help="Write the step into the source.")
def new(
    module: str,
    source: Path | None,
    *,
    renames: Sequence[str],
    removed: Sequence[str],
    defaults: Sequence[str],
    converters: Sequence[str],
    back: Sequence[str],
    data_dir: Path | None,
    config: Path | None,
    write: bool,
    as_json: bool,
) -> None:
    """Write the step that the changed state needs.

    Compares the shape committed last, or frozen by the last `--write`, with the code's. What is
    certain is written; what is not is asked, and never guessed: without a terminal each question
    has to be answered by an option, and the command says which (exit code 2).
    """
    from replank.cli.outcome import Exit, telling

    with telling(as_json=as_json):
        from replank.cli.new_step import draft_and_write, parse_answers

        answers = parse_answers(renames, removed, defaults, converters, back)
        found = draft_and_write(
            module, source, data_dir, config, answers, write=write, ask=not as_json
        )
        if as_json:
            print_json(found)
        else:
            show_record(found, "render_draft")
        raise click.exceptions.Exit(Exit.USAGE if found.questions else Exit.OK)


@migrations.command()
@module_options
@click.option("--from", "start", type=click.IntRange(1), help="Schema number to begin at.")
@click.option("--to", "end", type=click.IntRange(1), help="Schema number to end at.")
def show(
    module: str,
    source: Path | None,
    *,
    start: int | None,
    end: int | None,
    data_dir: Path | None,
    config: Path | None,
    as_json: bool,
) -> None:
    """Show the path between two schema numbers: each step, both ways, and its code."""
    from replank.cli.outcome import telling

    with telling(as_json=as_json):
        from replank.cli.paths import show_path

        found = show_path(module, source, data_dir, config, start=start, end=end)
        if as_json:
            print_json(found)
        else:
            show_record(found, "render_path")


@migrations.command()
@module_options
@click.option("--generated", type=click.IntRange(0, 1_000_000), default=100, help="How many.")
@click.option("--seed", type=int, default=0, help="Of the generated states.")
@click.option("--snapshots", is_flag=True, help="Also on the snapshots of the data directory.")
@click.option("--live", is_flag=True, help="Also on the live state of the running host.")
def check(
    module: str,
    source: Path | None,
    *,
    generated: int,
    seed: int,
    data_dir: Path | None,
    config: Path | None,
    snapshots: bool,
    live: bool,
    as_json: bool,
) -> None:
    """Check the laws of the migrations: what goes up comes down the same, and fits its types.

    Exit code 0 when they hold, 1 when one is broken, 2 when there is nothing to check.
    """
    from replank.cli.outcome import Exit, telling

    with telling(as_json=as_json):
        from replank.cli.checking import check_module

        found = check_module(
            module,
            source,
            data_dir,
            config,
            generated=generated,
            seed=seed,
            snapshots=snapshots,
            live=live,
        )
        if as_json:
            print_json(found)
        else:
            show_record(found, "render_check")
        raise click.exceptions.Exit(Exit.OK if found.ok else Exit.FAILED)


__all__ = ["migrations"]
