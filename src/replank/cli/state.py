"""`replank state`: what a module's state holds; take it out, put it in."""

from __future__ import annotations

from pathlib import Path

import click

from replank.cli.options import PATH, client_of, host_options, module_argument, print_json
from replank.cli.options import show as show_record


@click.group()
def state() -> None:
    """Show, export and import a module's state, of a running or a stopped host."""


@state.command()
@module_argument
@click.option("--quarantined", is_flag=True, help="Show the records that did not migrate instead.")
@host_options
def show(
    module: str, data_dir: Path | None, config: Path | None, *, quarantined: bool, as_json: bool
) -> None:
    """Say which fields a module's state has, how many items and about how many bytes.

    With --quarantined, the records that a reload has set aside or filled with a default.
    """
    from replank.cli.outcome import telling

    with telling(as_json=as_json):
        from replank.cli.stored import describe_anywhere, quarantined_anywhere

        if quarantined:
            kept = quarantined_anywhere(module, data_dir, config)
            print_json(kept) if as_json else show_record(kept, "render_quarantined", module)
            return
        found = describe_anywhere(module, data_dir, config)
        if as_json:
            print_json(found)
        else:
            show_record(found, "render_state")


@state.command()
@module_argument
@click.option("-o", "--output", type=PATH, help="File to write; standard output without it.")
@host_options
def export(
    module: str,
    output: Path | None,
    data_dir: Path | None,
    config: Path | None,
    *,
    as_json: bool,
) -> None:
    """Write a module's state as JSON, with its schema.

    On a running host calls wait while the state is copied; it is written while they go on.
    """
    from replank.cli.outcome import telling

    with telling(as_json=as_json):
        from replank.cli.stored import export_anywhere, write_whole

        text, facts = export_anywhere(module, data_dir, config)
        if output is not None:
            write_whole(output, text)
        if as_json:
            print_json({**facts, "output": None if output is None else str(output)})
        elif output is None:
            click.echo(text.decode())
        else:
            records = f"{facts['records']:,} records of {module}, schema {facts['schema']}"
            click.echo(f"{output}: {records}")


@state.command("import")
@module_argument
@click.argument("file", type=PATH)
@host_options
def import_(
    module: str, file: Path, data_dir: Path | None, config: Path | None, *, as_json: bool
) -> None:
    """Replace a module's state by an export: all of it, or nothing.

    An export of an older schema is migrated; a newer or another module's one is refused. On a
    stopped host the state becomes what the next start begins with.
    """
    from replank.cli.outcome import telling

    with telling(as_json=as_json):
        from replank.cli.stored import import_anywhere

        report = import_anywhere(module, file, data_dir, config)
        if as_json:
            print_json(report)
        else:
            show_record(report, "render_import")


@state.command("take-back")
@module_argument
@click.argument("keys", nargs=-1, metavar="[KEY]...")
@click.option("--discard", is_flag=True, help="Forget the records instead.")
@host_options
def take_back(
    module: str,
    keys: tuple[str, ...],
    data_dir: Path | None,
    config: Path | None,
    *,
    discard: bool,
    as_json: bool,
) -> None:
    """Migrate records that were set aside again, with the code that serves, and put them in.

    Without KEYs all of them. What does not migrate still stays set aside; exit code 1 then.
    """
    with client_of(data_dir, config, as_json=as_json) as client:
        report = client.take_back(module, keys, discard=discard)
        print_json(report) if as_json else show_record(report, "render_readmission")
        if report.refused:
            raise click.exceptions.Exit(1)


__all__ = ["state"]
