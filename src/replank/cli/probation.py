"""`replank probation`, `promote`, `abort`, `pause` and `resume`: a version after its commit."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from replank.cli.options import client_of, follow, host_options, name_argument, print_json, show


@click.command()
@name_argument
@host_options
def probation(name: str, data_dir: Path | None, config: Path | None, *, as_json: bool) -> None:
    """Show how a version on probation does, beside the one before."""
    with client_of(data_dir, config, as_json=as_json) as client:
        found = client.probation(name)
        if as_json:
            print_json(found)
        else:
            show(found, "render_probation")


@click.command()
@name_argument
@host_options
def promote(name: str, data_dir: Path | None, config: Path | None, *, as_json: bool) -> None:
    """End a probation: the new version stays."""
    _decide(name, "promote", data_dir, config, as_json=as_json)


@click.command()
@name_argument
@host_options
def pause(name: str, data_dir: Path | None, config: Path | None, *, as_json: bool) -> None:
    """Let a probation stand still: it neither passes nor trips."""
    _decide(name, "pause", data_dir, config, as_json=as_json)


@click.command()
@name_argument
@host_options
def resume(name: str, data_dir: Path | None, config: Path | None, *, as_json: bool) -> None:
    """Let a paused probation go on."""
    _decide(name, "resume", data_dir, config, as_json=as_json)


@click.command()
@name_argument
@host_options
def abort(name: str, data_dir: Path | None, config: Path | None, *, as_json: bool) -> None:
    """End a probation by going back, keeping what was written since."""
    with client_of(data_dir, config, as_json=as_json) as client:
        follow(lambda on_line: client.abort(name, on_line=on_line), [name], as_json=as_json)


def _decide(
    name: str,
    action: Literal["promote", "pause", "resume"],
    data_dir: Path | None,
    config: Path | None,
    *,
    as_json: bool,
) -> None:
    with client_of(data_dir, config, as_json=as_json) as client:
        found = client.decide(name, action)
        if as_json:
            print_json(found)
        else:
            show(found, "render_probation")


__all__ = ["abort", "pause", "probation", "promote", "resume"]
