"""`replank bench`: the measurements, in this installation or in the checkout that it comes from."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click

_PACKAGE = Path(__file__).parents[1]
SHIPPED = _PACKAGE / "_bench"
"""In an installed package: the folders `bench` and `tests`, beside the code that they measure."""
CHECKOUT = _PACKAGE.parents[1]


def folder_of_bench(shipped: Path = SHIPPED, checkout: Path = CHECKOUT) -> Path:
    """Return the folder that holds `bench`.

    Args:
        shipped: Where an installed package has it.
        checkout: Where a clone has it.

    Raises:
        click.UsageError: It is in neither.
    """
    for folder in (shipped, checkout):
        if (folder / "bench" / "__main__.py").is_file():
            return folder
    raise click.UsageError(
        f"the benchmarks are not part of this installation: there is no folder 'bench' in {shipped}"
        f" or {checkout}. Install a wheel of Replank, or clone its repository and run"
        " `python -m bench` there."
    )


@click.command(
    context_settings={
        "allow_extra_args": True,
        "ignore_unknown_options": True,
        "help_option_names": [],
    }
)
@click.pass_context
def bench(context: click.Context) -> None:
    """Measure this machine: calls, pauses, peers; --quick, --list, --plot FOLDER, --help."""
    folder = folder_of_bench()
    paths = [str(folder), str(_PACKAGE.parent), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    # a process of its own: `bench` and `tests` are names that other people use too, and -P keeps
    # folders of these names out where the user stands
    command = [sys.executable, "-P", "-m", "bench", *context.args]
    with subprocess.Popen(command, env=environment) as process:
        try:
            code = process.wait()
        except KeyboardInterrupt:  # the child was told too
            process.wait()
            raise
    context.exit(code)
