"""`replank run`: a host and its doors, until a signal ends it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from rich.console import Console
from rich.text import Text

from replank.cli.outcome import Exit, print_json
from replank.cli.render import make_console, short
from replank.code.source import digest_of
from replank.config import CONFIG_FILE, DATA_DIR, Config, load_config
from replank.control.door import refuse_taken
from replank.control.locate import CONTACT_FILE, Contact
from replank.control.server import ControlServer
from replank.errors import ConfigError, ReplankError
from replank.host import Host
from replank.instrumentation.log import log_event, log_to_stream, logger
from replank.instrumentation.status import HostStatus, ModuleStatus
from replank.live_config import ConfigFile
from replank.named_files import config_for_files
from replank.threads import in_thread
from replank.web.dashboard import PATH, Dashboard

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class Started(msgspec.Struct, frozen=True, kw_only=True):
    """What `replank run --json` prints once the host serves."""

    pid: int
    http: str | None
    socket: str
    data_dir: str
    modules: tuple[ModuleStatus, ...]
    differing: tuple[str, ...]
    """Modules whose source on disk is not what serves."""
    dashboard: str | None = None
    """Address of the page; it asks for the token that lies in the data directory."""


def read_run_config(
    sources: Sequence[Path],
    *,
    data_dir: Path | None,
    host: str | None,
    port: int | None,
    dashboard: bool = False,
) -> tuple[Config, ConfigFile | None]:
    """Return the configuration that a command line means, and the file that it comes from.

    Args:
        sources: One TOML file, or module files; ./replank.toml when there is none.
        data_dir: Overrides the file's.
        host: Overrides the file's address.
        port: Overrides the file's port.
        dashboard: Turn the page on.

    Raises:
        ConfigError: The command line or the file is wrong.
    """
    named = list(sources) or [Path(CONFIG_FILE)]
    tomls = [source for source in named if source.suffix == ".toml"]
    if tomls and len(named) > 1:
        raise ConfigError(
            "name one configuration file, or module files, not both",
            found=" ".join(map(str, named)),
        )
    if not sources and not named[0].is_file():
        raise ConfigError(
            f"nothing to run: there is no {CONFIG_FILE} here",
            do="name module files (replank run ledger.py) or a configuration file",
        )
    config = load_config(tomls[0]) if tomls else config_for_files(named, data_dir=DATA_DIR)
    file = ConfigFile(tomls[0], config) if tomls else None
    changes: dict[str, Any] = {}
    http = config.http
    if host is not None:
        http = msgspec.structs.replace(http, host=host)
    if port is not None:
        http = msgspec.structs.replace(http, port=port)
    if dashboard:
        http = msgspec.structs.replace(http, dashboard=True)
    if http.dashboard and not http.enabled:
        raise ConfigError(
            "the dashboard needs the HTTP server",
            found="[http] enabled = false",
            do="enable it, or leave the dashboard out",
        )
    if data_dir is not None:
        changes["data_dir"] = str(data_dir.resolve())
    return msgspec.structs.replace(config, http=http, **changes), file


def run_host(
    config: Config,
    file: ConfigFile | None = None,
    *,
    as_json: bool,
    verbose: bool,
    watch: bool = False,
) -> None:
    """Run until a signal or a client ends it; blocks.

    Args:
        config: What to run.
        file: Where it comes from, so that it can be read again.
        as_json: Print one JSON object when the host serves, nothing else.
        verbose: Log every phase.
        watch: Reload modules when their sources change, also when the file does not say so.

    Raises:
        ReplankError: The host cannot start.
    """
    # Its warnings on bad requests are noise to an operator; our own answers say what was wrong.
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    handler = log_to_stream(
        level=logging.DEBUG if verbose else logging.INFO,
        as_json=config.telemetry.log == "json",
    )
    if watch:
        watching = msgspec.structs.replace(config.watch, enabled=True)
        config = msgspec.structs.replace(config, watch=watching)
    try:
        # Where another host may run on this folder, that is what the operator has to hear.
        if config.http.enabled and not (Path(config.data_dir) / CONTACT_FILE).exists():
            refuse_taken(config.http)
        asyncio.run(_serve(config, file, as_json=as_json))
    finally:
        logger.removeHandler(handler)


async def _serve(config: Config, file: ConfigFile | None, *, as_json: bool) -> None:
    console = make_console()
    stopping = asyncio.Event()
    host = Host(config=config)
    host.config_file = file
    # From before the start: a signal while modules load must not leave anything half open.
    with _signals(stopping), contextlib.ExitStack() as listening:
        listening.callback(host.subscribe(log_event))
        around = Dashboard(host).around if config.http.dashboard else None
        async with (
            host,
            ControlServer(host, host.config, on_stop=stopping.set, around=around) as server,
        ):
            assert server.contact is not None
            watching = host.config.watch.enabled
            if watching:
                await host.watch()
            page = f"{server.contact.http}{PATH}" if around else None
            await _announce(
                console, host.status(), server.contact, page, as_json=as_json, watching=watching
            )
            await stopping.wait()
            if not as_json:
                console.print("stopping: calls in flight and queued messages are finished …")


@contextlib.contextmanager
def _signals(stopping: asyncio.Event) -> Iterator[None]:
    """End cleanly on the first signal, at once on the second."""
    loop = asyncio.get_running_loop()
    seen: list[signal.Signals] = []

    def on_signal(number: signal.Signals) -> None:
        seen.append(number)
        if len(seen) > 1:  # a first one after `replank stop` is no reason to hurry
            # Nothing is lost by this that was promised to be on the disk: see the journal.
            logger.warning("forced to end; the next start takes the last durable state")
            os._exit(128 + number)
        stopping.set()

    for number in _SIGNALS:
        loop.add_signal_handler(number, on_signal, number)
    try:
        yield
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
            # The process ends now by itself; a late signal must not turn that into a failure.
            signal.signal(number, signal.SIG_IGN)


async def _announce(
    console: Console,
    status: HostStatus,
    contact: Contact,
    page: str | None,
    *,
    as_json: bool,
    watching: bool,
) -> None:
    differing = await in_thread(find_differing, status.modules)
    if as_json:
        print_json(
            Started(
                pid=status.pid,
                http=contact.http,
                socket=contact.socket,
                data_dir=status.data_dir,
                modules=status.modules,
                differing=tuple(differing),
                dashboard=page,
            )
        )
        return
    for line in _welcome(status, contact, differing, watching=watching):
        console.print(line, soft_wrap=True)
    if page is not None:
        console.print(_invitation(page, contact, private=console.is_terminal), soft_wrap=True)
    console.file.flush()


def _invitation(page: str, contact: Contact, *, private: bool) -> Text:
    """Say where the page is; the token goes to a person's own terminal, never into a log."""
    assert contact.token_file is not None, "the control server names its token file"
    if not private:
        return Text(f"  dashboard: {page}  (token: {contact.token_file})")
    token = Path(contact.token_file).read_text("ascii").strip()
    # After the #: a browser keeps that part to itself.
    return Text.assemble("  dashboard: ", (f"{page}#token={token}", "cyan"))


def _welcome(
    status: HostStatus, contact: Contact, differing: dict[str, str], *, watching: bool
) -> Iterable[Text]:
    yield Text.assemble(
        ("replank", "bold"), f" {contact.version} serves, pid {status.pid}, {status.data_dir}"
    )
    for module in status.modules:
        yield Text.assemble(
            "  ",
            (module.name, "bold"),
            f" {module.label}  schema {module.schema}  {short(module.digest)}  ",
            (module.source, "dim"),
        )
    for name, reason in () if watching else differing.items():
        yield Text.assemble(
            (f"  {name}: {reason}", "yellow"), "\n    do: ", (f"replank reload {name}", "cyan")
        )
    if contact.http is not None:
        yield Text(f"  POST {contact.http}/modules/NAME/METHOD  (JSON arguments)")
    how = "save a file to reload it" if watching else "reload with `replank reload NAME`"
    yield Text(f"  stop with Ctrl-C; {how}", style="dim")


def find_differing(modules: Iterable[ModuleStatus]) -> dict[str, str]:
    """Say of which modules the source on disk is not what serves; reads files.

    A host starts with what was committed last, not with what happens to lie on the disk: the
    author should know when these are two.

    Args:
        modules: What serves.
    """
    differing = {}
    for module in modules:
        try:
            digest = digest_of(Path(module.source))
        except ReplankError as error:
            differing[module.name] = (
                f"its source cannot be read ({error.what}): mend it first;"
                " what was committed last serves"
            )
            continue
        if digest != module.digest:
            differing[module.name] = (
                f"{module.source} differs from the committed version that serves"
                f" ({short(digest)}, serving {short(module.digest)})"
            )
    return differing


__all__ = ["Exit", "Started", "find_differing", "read_run_config", "run_host"]
