"""`replank init`, `replank doctor`, `replank completion`: before a host runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import click

from replank.cli.options import PATH, host_options, json_option, print_json, show

_SHELLS: Final = ("bash", "zsh", "fish")
_VARIABLE: Final = "_REPLANK_COMPLETE"


@click.command()
@click.argument("folder", type=PATH, default=Path())
@click.option("--force", is_flag=True, help="Replace what is there.")
@json_option
def init(folder: Path, *, force: bool, as_json: bool) -> None:
    """Write a commented replank.toml and an example module that runs at once."""
    from replank.cli.outcome import telling

    with telling(as_json=as_json):
        from replank.cli.starter import write_starter

        done = write_starter(folder, force=force)
        if as_json:
            print_json(done)
            return
        for name in done.written:
            click.echo(f"wrote {folder / name}")
        first = "" if folder == Path() else f"cd {folder} && "
        click.echo(f"next: {first}replank run")


@click.command()
@host_options
def doctor(data_dir: Path | None, config: Path | None, *, as_json: bool) -> None:
    """Check the environment, the configuration and the data directory.

    Exit code 1 when something keeps a host from running safely.
    """
    from replank.cli.outcome import Exit, telling

    with telling(as_json=as_json):
        from replank.cli.doctor import examine_all

        health = examine_all(data_dir, config)
        if as_json:
            print_json(health)
        else:
            show(health, "render_health")
        raise click.exceptions.Exit(Exit.OK if health.well else Exit.FAILED)


@click.command()
@click.argument("shell", type=click.Choice(_SHELLS))
@json_option
def completion(shell: str, *, as_json: bool) -> None:
    """Print a script that completes commands, options and modules.

    bash: eval "$(replank completion bash)" in ~/.bashrc; zsh likewise; fish: save it as
    ~/.config/fish/completions/replank.fish.
    """
    from click.shell_completion import get_completion_class

    kind: Any = get_completion_class(shell)
    from replank.cli.app import app

    script = kind(app, {}, "replank", _VARIABLE).source()
    if as_json:
        print_json({"shell": shell, "script": script})
    else:
        click.echo(script)


__all__ = ["completion", "doctor", "init"]
