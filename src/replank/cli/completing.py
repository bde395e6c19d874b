"""What the shell completes: modules, calls, requests, types of events; a key press never fails."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from replank.control.client import Client

_PATIENCE_S: Final = 1.0


def complete_modules(
    context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[str]:
    """Return the modules that begin so: those of the running host, or of the configuration.

    Args:
        context: What stands on the command line already.
        incomplete: What has been typed of the name.
    """
    given = context.params.get("names") or ()
    return [name for name in _beginning(incomplete, _modules, context) if name not in given]


def complete_modules_and_files(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return the modules that begin so; where there are none, let the shell complete files.

    Args:
        context: What stands on the command line already.
        parameter: The argument.
        incomplete: What has been typed of it.
    """
    from click.shell_completion import CompletionItem

    names = complete_modules(context, parameter, incomplete)
    return [CompletionItem(name) for name in names] or [CompletionItem(incomplete, type="file")]


def complete_calls(
    context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[str]:
    """Return the calls of the named module that begin so.

    Args:
        context: What stands on the command line already: the module's name.
        incomplete: What has been typed of the call.
    """

    def calls(context: click.Context) -> Iterable[str]:
        from replank.control.wire import CallFailed
        from replank.errors import UnknownCall

        with _client(context) as client:
            try:
                # No call is named so: who asks for it is told those that there are.
                client.call(context.params["name"], "-", [])
            except (UnknownCall, CallFailed) as error:
                return (error.expected or "").split(", ")
        return ()

    return _beginning(incomplete, calls, context)


def complete_requests(
    context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[str]:
    """Return the ids of the scheduled reloads that begin so.

    Args:
        context: What stands on the command line already.
        incomplete: What has been typed of the id.
    """

    def requests(context: click.Context) -> Iterable[str]:
        with _client(context) as client:
            return [one.id for one in client.scheduled().requests if one.standing == "waiting"]

    return _beginning(incomplete, requests, context)


def complete_event_types(
    _context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[str]:
    """Return the types of events that begin so.

    Args:
        incomplete: What has been typed of one.
    """
    from typing import get_args

    from replank.instrumentation.events import AnyEvent

    names = sorted(one.__name__ for one in get_args(AnyEvent))
    return [name for name in names if name.lower().startswith(incomplete.lower())]


def _beginning(incomplete: str, find: Any, context: click.Context) -> list[str]:
    try:
        return [name for name in find(context) if name.startswith(incomplete)]
    except Exception:  # whatever is wrong, a key press is no moment to say so
        return []


def _modules(context: click.Context) -> Iterable[str]:
    from replank.control.locate import HostNotFound

    try:
        with _client(context) as client:
            return [module.name for module in client.status().modules]
    except HostNotFound:
        from replank.config import CONFIG_FILE, load_config

        config: Path | None = context.params.get("config")
        return sorted(load_config(config or CONFIG_FILE).modules)


def _client(context: click.Context) -> Client:
    from replank.control.client import Client
    from replank.control.locate import find_data_dir

    options = context.params
    data_dir = find_data_dir(options.get("data_dir"), options.get("config"))
    return Client.find(data_dir, timeout_s=_PATIENCE_S)


__all__ = [
    "complete_calls",
    "complete_event_types",
    "complete_modules",
    "complete_modules_and_files",
    "complete_requests",
]
