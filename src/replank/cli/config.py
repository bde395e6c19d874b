"""`replank config`: look at the configuration, have it read again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from replank.cli.options import PATH, client_of, host_options, json_option, print_json, show


@click.group()
def config() -> None:
    """Check replank.toml, or have a running host read it again."""


@config.command()
@click.argument("file", type=PATH, default=Path("replank.toml"), required=False)
@json_option
def check(file: Path, *, as_json: bool) -> None:
    """Check a file with what the environment says on top; print all that holds with --json."""
    from replank.cli.outcome import telling

    with telling(as_json=as_json):
        from replank.config import load_config

        found = load_config(file)
        if as_json:
            print_json(found)
        else:
            click.echo(f"{file} is fine: {', '.join(sorted(found.modules)) or 'no modules'}")


@config.command("reload")
@host_options
def reload_(data_dir: Path | None, config: Path | None, *, as_json: bool) -> None:
    """Take over what may change while the host runs; name what needs a restart."""
    with client_of(data_dir, config, as_json=as_json) as client:
        _show(client.reload_config(), as_json=as_json)


def _show(found: Any, *, as_json: bool) -> None:
    if as_json:
        print_json(found)
    else:
        show(found, "render_config_report")


__all__ = ["config"]
