"""`replank config`: look at the configuration, have it read again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from replank.cli.options import PATH, client_of, host_options, json_option, print_json, show

if TYPE_CHECKING:
    from replank.config import Config


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
        _refuse_missing_files(found, file)
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


def _refuse_missing_files(config: Config, file: Path) -> None:
    """Refuse a file that a start would miss; a host that runs asks for it only when it reloads."""
    from replank.errors import ConfigError
    from replank.toml_lines import key_lines, location_of

    named: dict[str, str | None]
    named = {f"modules.{name}.source": one.source for name, one in config.modules.items()}
    named |= {f"modules.{name}.tests": one.tests for name, one in config.modules.items()}
    named |= {"http.certfile": config.http.certfile, "http.keyfile": config.http.keyfile}
    for key, path in named.items():
        if path is not None and not Path(path).exists():
            raise ConfigError(
                f"{key} names a file that is not there",
                found=path,
                expected="a path that exists, relative to the configuration file",
                do="correct the path, or make the file",
                location=location_of(file, key_lines(file.read_text("utf-8")), key),
            )


def _show(found: Any, *, as_json: bool) -> None:
    if as_json:
        print_json(found)
    else:
        show(found, "render_config_report")


__all__ = ["config"]
