"""How a command ends: exit codes, errors in words or as JSON."""

from __future__ import annotations

import enum
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import click
import msgspec

from replank import errors
from replank.report import Outcome

TRACEBACK_VARIABLE: Final = "REPLANK_TRACEBACK"


class Exit(enum.IntEnum):
    """What the process ends with."""

    OK = 0
    """Committed, or simply done."""
    FAILED = 1
    """Rolled back; or the module's own call raised."""
    USAGE = 2
    """A wrong command line or configuration, or no host found."""
    REJECTED = 3
    """Rejected: nothing was changed and no call had waited."""
    INTERNAL = 4
    """The disk, or a mistake of ours."""
    INTERRUPTED = 130


OF_OUTCOME: Final = {
    Outcome.COMMITTED: Exit.OK,
    Outcome.ROLLED_BACK: Exit.FAILED,
    Outcome.REJECTED: Exit.REJECTED,
    Outcome.SUPERSEDED: Exit.REJECTED,
}


def exit_of(error: errors.ReplankError) -> Exit:
    """Return the exit code of one of our errors.

    Args:
        error: What was raised.
    """
    from replank.control.wire import CallFailed

    if isinstance(error, errors.UsageError | errors.DataDirBusy):
        return Exit.USAGE
    if isinstance(error, CallFailed | errors.TrafficError | errors.ReloadFailed):
        return Exit.FAILED
    if isinstance(error, errors.ModuleError):
        return Exit.REJECTED
    return Exit.INTERNAL


@contextmanager
def telling(*, as_json: bool) -> Iterator[None]:
    """Turn every error into words or JSON, and an exit code; no traceback reaches a user.

    Args:
        as_json: Whether the one JSON object on standard output is the error.
    """
    try:
        yield
    except (click.exceptions.Exit, click.ClickException, click.Abort):
        raise  # already told
    except errors.ReplankError as error:
        _tell(error, as_json=as_json)
        raise click.exceptions.Exit(exit_of(error)) from None
    except KeyboardInterrupt:
        raise click.exceptions.Exit(Exit.INTERRUPTED) from None
    except BrokenPipeError:
        # The reader of our output is gone: nobody is left to be told.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise click.exceptions.Exit(Exit.FAILED) from None
    except Exception as error:
        if os.environ.get(TRACEBACK_VARIABLE):
            raise
        ours = errors.InternalError(
            "this should not have happened",
            found=f"{type(error).__name__}: {error}",
            do=f"run again with {TRACEBACK_VARIABLE}=1 and report what it shows",
        )
        _tell(ours, as_json=as_json)
        raise click.exceptions.Exit(Exit.INTERNAL) from None


def _tell(error: errors.ReplankError, *, as_json: bool) -> None:
    if as_json:
        from replank.control.wire import facts_of

        print_json(facts_of(error, public=False))
        return
    # Without rich: half of all starts end here, and nothing of it is needed for six lines.
    first, _, more = f"error: {error}".partition("\n")
    click.echo(click.style(first, fg="red", bold=True) + (more and f"\n{more}"), err=True)


def print_json(value: Any) -> None:
    """Print one value as one line of JSON.

    Args:
        value: Anything that msgspec can write.
    """
    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")
    sys.stdout.flush()


__all__ = ["OF_OUTCOME", "TRACEBACK_VARIABLE", "Exit", "exit_of", "print_json", "telling"]
