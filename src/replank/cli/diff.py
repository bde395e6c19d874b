"""`replank diff`: what would change, before any host is asked."""

from __future__ import annotations

from pathlib import Path

import click

from replank.cli.completing import complete_modules_and_files
from replank.cli.options import PATH, host_options, print_json


@click.command()
@click.argument("name", metavar="NAME|FILE", shell_complete=complete_modules_and_files)
@click.option("--source", type=PATH, help="Source to compare instead of the configured one.")
@host_options
def diff(
    name: str,
    source: Path | None,
    data_dir: Path | None,
    config: Path | None,
    *,
    as_json: bool,
) -> None:
    """Compare what serves with the source on disk: calls, state and text.

    Works also when no host runs: it reads the data directory. The code of both is imported here.
    """
    from replank.cli.outcome import telling

    with telling(as_json=as_json):
        from replank.cli.compare import compare_module, render_diff

        found = compare_module(name, source, data_dir, config)
        if as_json:
            print_json(found)
        else:
            from replank.cli.render import make_console

            make_console().print(render_diff(found), soft_wrap=True)


__all__ = ["diff"]
