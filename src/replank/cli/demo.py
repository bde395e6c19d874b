"""`replank demo` and the two self-checks: their options are read when they run, not before."""

from __future__ import annotations

from typing import Any, Final

import click
from click.shell_completion import CompletionItem

_ALL_WORDS: Final = {
    "allow_extra_args": True,
    "ignore_unknown_options": True,
    "help_option_names": [],
}


class Forwarded(click.Command):
    """A command whose options are those of a function of `replank.demo.command`.

    Args:
        function: Name of the function.
    """

    def __init__(self, name: str, function: str, text: str) -> None:
        super().__init__(name, help=text, context_settings=dict(_ALL_WORDS))
        self._function = function

    def invoke(self, ctx: click.Context) -> Any:
        """Run the function with the words that were given."""
        return self._inner().main(args=ctx.args, prog_name=ctx.command_path)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return the options that begin so."""
        inner = self._inner()
        with inner.make_context(self.name, [*ctx.args], resilient_parsing=True) as context:
            found: list[CompletionItem] = inner.shell_complete(context, incomplete)
        return found

    def _inner(self) -> Any:
        import typer

        from replank.demo import command

        app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        app.command()(getattr(command, self._function))
        return typer.main.get_command(app)


demo: Final = Forwarded(
    "demo", "demo", "Watch a shop under load being reloaded, and count what is lost."
)


@click.group()
def modules() -> None:
    """Check this installation by itself."""


for _name, _text in (
    ("test-stateful-reload", "State is kept and migrated over 100 reloads."),
    ("test-concurrent-reload", "8 modules are reloaded at once under load."),
):
    modules.add_command(Forwarded(_name, _name.replace("-", "_"), _text))

__all__ = ["demo", "modules"]
