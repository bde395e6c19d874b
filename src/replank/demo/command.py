"""The commands `demo`, `modules test-stateful-reload` and `modules test-concurrent-reload`."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from replank.errors import ReplankError, UsageError

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object, nothing else.")]

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


def demo(
    as_json: JsonOption = False,
    seconds: Annotated[
        float, typer.Option(min=4.0, max=3600.0, help="How long the traffic runs, in seconds.")
    ] = 20.0,
    keep: Annotated[
        Path | None,
        typer.Option(help="Keep the shop, its journal and its log in this empty folder."),
    ] = None,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="TCP port of the shop; 0 = any free one.")
    ] = 0,
) -> None:
    """Watch a shop under load being reloaded four times, and count what is lost.

    Starts a host and a load generator as processes of their own. Ends with exit code 0 only when
    nothing was lost and every reload ended as planned.
    """
    with _telling(as_json=as_json):
        from rich.console import Console

        from replank.demo.play import play
        from replank.demo.show import choose, print_result

        console = Console()
        with _stage(keep) as folder, choose(console, silent=as_json) as show:
            result = asyncio.run(play(folder, show, seconds=seconds, port=port))
        if keep is None:
            result = type(result)(verdict=result.verdict, played=result.played)
        if as_json:
            _print_json(result.to_dict())
        else:
            print_result(console, result)
        raise typer.Exit(0 if result.ok else EXIT_FAILED)


def test_stateful_reload(
    as_json: JsonOption = False,
    reloads: Annotated[int, typer.Option(min=2, help="How many reloads.")] = 100,
) -> None:
    """Check this installation: state is kept and migrated over 100 reloads, forth and back."""
    with _telling(as_json=as_json):
        from replank.demo.stateful import stateful_reload

        with _stage(None) as folder:
            result = asyncio.run(stateful_reload(folder, reloads=reloads))
        _finish(result.to_dict(), result.lines(), ok=result.ok, as_json=as_json)


def test_concurrent_reload(
    as_json: JsonOption = False,
    modules: Annotated[int, typer.Option(min=2, max=64, help="How many modules.")] = 8,
    rounds: Annotated[int, typer.Option(min=1, help="How often each one is reloaded.")] = 5,
) -> None:
    """Check this installation: 8 modules reload at once under load, none waits for another."""
    with _telling(as_json=as_json):
        from replank.demo.concurrent import concurrent_reload

        with _stage(None) as folder:
            result = asyncio.run(concurrent_reload(folder, modules=modules, rounds=rounds))
        _finish(result.to_dict(), result.lines(), ok=result.ok, as_json=as_json)


@contextmanager
def _stage(keep: Path | None) -> Iterator[Path]:
    """Lend an empty folder; remove it in the end unless it is to be kept."""
    if keep is not None:
        if keep.exists() and (not keep.is_dir() or any(keep.iterdir())):
            raise UsageError(
                "the folder of --keep must be empty or new",
                found=str(keep),
                do="name another folder",
            )
        keep.mkdir(parents=True, exist_ok=True)
        yield keep.resolve()
        return
    folder = Path(tempfile.mkdtemp(prefix="replank-demo-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _telling(*, as_json: bool) -> Iterator[None]:
    """Turn our errors and Ctrl-C into words and exit codes."""
    try:
        yield
    except UsageError as error:
        _tell(error, as_json=as_json)
        raise typer.Exit(EXIT_USAGE) from None
    except ReplankError as error:
        _tell(error, as_json=as_json)
        raise typer.Exit(EXIT_FAILED) from None
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("\ninterrupted; host and load have been stopped", file=sys.stderr)
        raise typer.Exit(EXIT_INTERRUPTED) from None


def _tell(error: ReplankError, *, as_json: bool) -> None:
    if as_json:
        facts = {"kind": error.kind, "message": error.what, "found": error.found, "do": error.do}
        _print_json({"ok": False, "error": facts})
    else:
        print(error, file=sys.stderr)


def _finish(facts: dict[str, Any], lines: list[str], *, ok: bool, as_json: bool) -> None:
    if as_json:
        _print_json(facts)
    else:
        print("\n".join(lines))
    raise typer.Exit(0 if ok else EXIT_FAILED)


def _print_json(facts: dict[str, Any]) -> None:
    print(json.dumps(facts))


__all__ = ["demo", "test_concurrent_reload", "test_stateful_reload"]
