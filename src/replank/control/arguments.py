"""The readers of arguments of every call, for the generations that serve."""

from __future__ import annotations

from typing import Any

from replank.definition import Call, Definition
from replank.errors import UnknownCall, UnknownModule, did_you_mean
from replank.instrumentation.events import Event, GenerationRetired, ModuleLoaded
from replank.traffic.json_arguments import Arguments, CallReader
from replank.traffic.message import RawArguments


class RemoteReader:
    """Hands the JSON on to the process that knows the types of the call.

    Args:
        call: The call.
    """

    __slots__ = ("call",)

    def __init__(self, call: Call) -> None:
        self.call = call

    def read(self, body: bytes) -> Arguments:
        """Return the body itself as the only argument.

        Args:
            body: What was sent.
        """
        return (RawArguments(body),), {}


class ReaderCache:
    """The readers of every call of every module, for the generation that serves.

    Args:
        host: Anything with `definition(name)` and `names()`.
    """

    __slots__ = ("_by_module", "_host")

    def __init__(self, host: Any) -> None:
        self._host = host
        self._by_module: dict[str, tuple[Definition, dict[str, CallReader | RemoteReader]]] = {}

    def reader(self, module: str, name: str) -> CallReader | RemoteReader:
        """Return the reader of a call.

        Args:
            module: Name of the module.
            name: Name of the call.

        Raises:
            UnknownModule: There is none of that name; names the nearest.
            UnknownCall: The module has none of that name; names the nearest.
        """
        definition = self._definition(module)
        cached = self._by_module.get(module)
        if cached is None or cached[0] is not definition:  # another generation serves
            cached = self._by_module[module] = (definition, {})
        reader = cached[1].get(name)
        if reader is None:
            call = definition.calls.get(name)
            if call is None:
                raise UnknownCall(
                    f"module {module} has no call {name!r}",
                    module=module,
                    found=name,
                    expected=", ".join(sorted(definition.calls)) or "no calls at all",
                    do=did_you_mean(name, definition.calls),
                )
            reader = cached[1][name] = (
                RemoteReader(call) if call.remote else CallReader(module, call)
            )
        return reader

    def note(self, event: Event) -> None:
        """Let go of a generation that serves no more: a listener for `Bus.subscribe`.

        Else a module that nobody calls over HTTP would stay in memory, and be told as a leak.

        Args:
            event: What happened.
        """
        if isinstance(event, ModuleLoaded | GenerationRetired):
            self._by_module.pop(event.name, None)

    def _definition(self, module: str) -> Definition:
        try:
            definition: Definition = self._host.definition(module)
        except (UnknownModule, KeyError):
            names = self._host.names()
            raise UnknownModule(
                f"there is no module {module!r}",
                found=module,
                expected=", ".join(sorted(names)) or "no modules at all",
                do=did_you_mean(module, names),
            ) from None
        return definition


__all__ = ["Arguments", "CallReader", "ReaderCache"]
