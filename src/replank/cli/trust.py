"""`replank digest`, `new-key` and `sign`: name exactly what is meant to run, and vouch for it."""

from __future__ import annotations

from pathlib import Path

import click

from replank.cli.options import PATH, json_option, print_json


@click.command()
@click.argument("source", type=PATH)
@json_option
def digest(source: Path, *, as_json: bool) -> None:
    """Print the digest of a module's file or package folder, for `reload --expect`."""
    from replank.cli.outcome import telling

    with telling(as_json=as_json):
        from replank.code.source import digest_of
        from replank.errors import UsageError

        if not source.exists():
            raise UsageError(f"there is no file {source}", do="check the path")
        found = digest_of(source)
        if as_json:
            print_json({"source": str(source), "digest": found})
        else:
            click.echo(found)


@click.command("new-key")
@click.argument("path", type=PATH)
@json_option
def new_key(path: Path, *, as_json: bool) -> None:
    """Write a private key to a new file, and print its public half for `[trust] keys`."""
    from replank.cli.outcome import telling

    with telling(as_json=as_json):
        from replank.code import trust

        public = trust.new_key(path)
        if as_json:
            print_json({"path": str(path), "key": public})
        else:
            click.echo(public)


@click.command()
@click.argument("sources", nargs=-1, required=True, type=PATH, metavar="SOURCE...")
@click.option("--key", required=True, type=PATH, help="File of the private key.")
@json_option
def sign(sources: tuple[Path, ...], key: Path, *, as_json: bool) -> None:
    """Sign module files or package folders as they are now."""
    from replank.cli.outcome import telling

    with telling(as_json=as_json):
        from replank.code import trust

        signed = {source: trust.sign(source, key) for source in sources}
        if as_json:
            facts = [{"source": str(path), "digest": one.digest} for path, one in signed.items()]
            print_json({"signed": facts})
            return
        for source, one in signed.items():
            click.echo(f"{trust.signature_path(source)}: {one.digest}")


__all__ = ["digest", "new_key", "sign"]
