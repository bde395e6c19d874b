"""The `replank` command.

Exit codes: 0 committed or done, 1 rolled back (or the module's call raised), 2 usage,
configuration or no host found, 3 rejected, 4 the disk or a mistake of ours. Every command takes
`--json`: one JSON object on standard output and nothing else.

A command line is started often and must answer at once, so each command imports what it needs when
it runs. Click it is, and not Typer, because Typer imports pydantic at every start (0.3 s here).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from replank.cli.begin import completion, doctor, init
from replank.cli.bench import bench
from replank.cli.completing import complete_modules
from replank.cli.config import config
from replank.cli.demo import demo, modules
from replank.cli.diff import diff
from replank.cli.events import events
from replank.cli.migrations import migrations
from replank.cli.options import (
    PATH,
    allow_option,
    call_arguments,
    choice_options,
    client_of,
    follow,
    host_options,
    json_option,
    name_argument,
    print_json,
    rehearse_option,
    show,
    target_arguments,
)
from replank.cli.probation import abort, pause, probation, promote, resume
from replank.cli.schedule import read_when, schedule, when_options
from replank.cli.state import state
from replank.cli.top import top
from replank.cli.trust import digest, new_key, sign

if TYPE_CHECKING:
    from replank.config import WhenBusy
    from replank.report import ReloadReport


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 committed or done, 1 rolled back, 2 usage, 3 rejected, 4 internal.",
)
@click.version_option(package_name="replank", prog_name="replank")
def app() -> None:
    """Hot reload for running Python: nothing dropped, state kept or migrated."""


@app.command()
@click.argument("sources", nargs=-1, type=PATH, metavar="[CONFIG|FILE]...")
@click.option("--data-dir", type=PATH, help="Folder of journal, versions and snapshots.")
@click.option("--host", help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), help="TCP port; 0 takes any free one.")
@click.option("--watch", is_flag=True, help="Reload modules when their sources change.")
@click.option("--dashboard", is_flag=True, help="Serve a page to watch and steer the host.")
@click.option("-v", "--verbose", is_flag=True, help="Log every phase.")
@json_option
def run(
    sources: Sequence[Path],
    data_dir: Path | None,
    host: str | None,
    port: int | None,
    *,
    watch: bool,
    dashboard: bool,
    verbose: bool,
    as_json: bool,
) -> None:
    """Start a host and serve its modules until Ctrl-C.

    Takes a replank.toml, or module files; ./replank.toml when none is named.
    """
    from replank.cli.outcome import telling

    with telling(as_json=as_json):
        from replank.cli.run import read_run_config, run_host

        config, file = read_run_config(
            sources, data_dir=data_dir, host=host, port=port, dashboard=dashboard
        )
        run_host(config, file, as_json=as_json, verbose=verbose, watch=watch)


@app.command()
@host_options
def status(data_dir: Path | None, config: Path | None, *, as_json: bool) -> None:
    """Show what serves."""
    with client_of(data_dir, config, as_json=as_json) as client:
        found = client.status()
        if as_json:
            print_json({**found.to_dict(), "http": client.contact.http})
        else:
            show(found, "render_status", client.contact)


@app.command()
@target_arguments
@allow_option
@choice_options
@click.option(
    "--expect",
    "digests",
    multiple=True,
    metavar="[NAME=]DIGEST",
    help="Reload only a source with exactly this digest.",
)
@click.option(
    "--when-busy",
    type=click.Choice(["newest", "queue", "refuse"]),
    help="While another reload of it runs: newest takes the place of those that wait, queue waits "
    "behind them, refuse is rejected.",
)
@when_options
@host_options
def reload(
    names: Sequence[str],
    sources: Sequence[Path],
    allowed: Sequence[str],
    changes: Sequence[str],
    digests: Sequence[str],
    data_dir: Path | None,
    config: Path | None,
    *,
    when_busy: WhenBusy | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Replace the code of modules, all of them or none; now, or later."""
    with client_of(data_dir, config, as_json=as_json) as client:
        from replank.cli.arguments import parse_digests, parse_targets
        from replank.coordinator.choices import Choices

        chosen = Choices(**{name: given.pop(name) for name in Choices.__struct_fields__})
        what = parse_targets(names, sources)
        expect = parse_digests(digests, what)
        how, when = read_when(given)
        if when:
            if allowed or changes or expect:
                text = "--allow-breaking, --expect-change and --expect are for a reload done now"
                raise click.UsageError(text)
            if chosen != Choices() or when_busy:
                raise click.UsageError("what is chosen for one reload is for one that is done now")
            record = client.schedule(what, **how, **when)
            if as_json:
                print_json(record)
            else:
                show(record, "render_scheduled")
            return

        def begin(on_line: Any) -> ReloadReport:
            return client.reload(
                what,
                on_line=on_line,
                allow_breaking=allowed,
                expect_changes=changes,
                expect=expect,
                when_busy=when_busy,
                choices=chosen,
                **how,
            )

        follow(begin, names, as_json=as_json)


@app.command()
@name_argument
@host_options
def rollback(name: str, data_dir: Path | None, config: Path | None, *, as_json: bool) -> None:
    """Go back to the version before, keeping what was written since."""
    with client_of(data_dir, config, as_json=as_json) as client:
        follow(lambda on_line: client.rollback(name, on_line=on_line), [name], as_json=as_json)


@app.command()
@target_arguments
@allow_option
@choice_options
@rehearse_option
@host_options
def plan(
    names: Sequence[str],
    sources: Sequence[Path],
    allowed: Sequence[str],
    changes: Sequence[str],
    data_dir: Path | None,
    config: Path | None,
    *,
    rehearse: bool,
    as_json: bool,
    **choices: Any,
) -> None:
    """Say what a reload would do; nothing changes.

    Exit code 3 when it would be rejected.
    """
    with client_of(data_dir, config, as_json=as_json) as client:
        from replank.cli.arguments import parse_targets
        from replank.cli.outcome import Exit
        from replank.coordinator.choices import Choices

        what, chosen = parse_targets(names, sources), Choices(**choices)
        found = client.plan(
            what,
            allow_breaking=allowed,
            expect_changes=changes,
            rehearse=rehearse,
            choices=chosen,
        )
        if as_json:
            print_json(found)
        else:
            show(found, "render_plan")
        raise click.exceptions.Exit(Exit.OK if found.accepted else Exit.REJECTED)


@app.command()
@call_arguments
@host_options
def call(
    name: str,
    method: str,
    words: Sequence[str],
    data_dir: Path | None,
    config: Path | None,
    *,
    as_json: bool,
) -> None:
    """Call a module and print the answer.

    ARGS are name=value each, plain values, or one JSON object or array. A value is JSON where it
    reads as JSON, else text.
    """
    with client_of(data_dir, config, as_json=as_json) as client:
        import json

        from replank.cli.arguments import parse_arguments

        result = client.call(name, method, parse_arguments(words))
        if as_json:
            print_json({"result": result})
        else:
            click.echo(json.dumps(result, ensure_ascii=False, indent=2))


@app.command()
@call_arguments
@host_options
def send(
    name: str,
    method: str,
    words: Sequence[str],
    data_dir: Path | None,
    config: Path | None,
    *,
    as_json: bool,
) -> None:
    """Queue a message for a module; returns when it is accepted. ARGS as for call."""
    with client_of(data_dir, config, as_json=as_json) as client:
        from replank.cli.arguments import parse_arguments

        client.send(name, method, parse_arguments(words))
        if as_json:
            print_json({"accepted": True})
        else:
            click.echo("accepted")


@app.command()
@click.option("-n", "--limit", type=click.IntRange(1, 1000), default=20, help="How many.")
@click.option("--module", help="Only reloads of this module.", shell_complete=complete_modules)
@host_options
def history(
    limit: int, module: str | None, data_dir: Path | None, config: Path | None, *, as_json: bool
) -> None:
    """List the last reloads, newest first; also when no host runs."""
    from replank.cli.outcome import telling

    with telling(as_json=as_json):
        from replank.control.locate import find_data_dir
        from replank.errors import UnknownModule, UsageError, did_you_mean
        from replank.journal.journal import JOURNAL_FILE, read_history
        from replank.journal.reading import read_modules

        # The journal itself, not the host: it can be read while it is written, and afterwards.
        path = find_data_dir(data_dir, config) / JOURNAL_FILE
        if not path.is_file():
            raise UsageError(f"there is no journal {path}", do="run a host first: replank run")
        found = read_history(path, limit, module)
        if module is not None and not found and module not in (known := read_modules(path)):
            raise UnknownModule(
                f"the journal {path} knows no module {module!r}",
                found=module,
                expected=", ".join(sorted(known)),
                do=did_you_mean(module, known) or "name one of these",
            )
        if as_json:
            print_json({"reloads": found})
        else:
            show(found, "render_history")


@app.command()
@host_options
def stop(data_dir: Path | None, config: Path | None, *, as_json: bool) -> None:
    """Ask a running host to drain and stop, keeping its state."""
    with client_of(data_dir, config, as_json=as_json) as client:
        client.stop()
        if as_json:
            print_json({"stopping": True})
        else:
            click.echo("stopping")


app.add_command(completion)
app.add_command(config)
app.add_command(bench)
app.add_command(diff)
app.add_command(doctor)
app.add_command(events)
app.add_command(init)
app.add_command(migrations)
app.add_command(schedule)
app.add_command(state)
app.add_command(top)
for command in (probation, promote, abort, pause, resume, digest, new_key, sign):
    app.add_command(command)

app.add_command(demo)
app.add_command(modules)


def main() -> None:
    """Run the command line."""
    app(prog_name="replank")


__all__ = ["app", "main"]
