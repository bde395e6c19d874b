"""Calls and messages by names, as servers make them: what waits is read when it enters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from replank.coordinator.slot import Routes
from replank.isolation.remote import RemoteGeneration
from replank.traffic.calls import live_chain
from replank.traffic.handle import check_arguments
from replank.traffic.message import RawArguments
from replank.traffic.messages import Message


class CallsByName:
    """The part of the host that calls modules by names."""

    _routes: Routes

    async def call(
        self,
        name: str,
        method: str,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Call a module by names, as a server does.

        Args:
            name: The module's name.
            method: The call's name.
            args: Positional arguments.
            kwargs: Keyword arguments.

        Raises:
            UnknownModule: There is no such module.
            UnknownCall: It has no such call.
        """
        return await getattr(self._routes.slot(name).handle, method)(*args, **(kwargs or {}))

    async def call_with(
        self, name: str, method: str, read: Callable[[], tuple[tuple[Any, ...], dict[str, Any]]]
    ) -> Any:
        """Call a module with arguments that are read when the call enters.

        While a gate is closed the call waits unread: it may enter another version than the one that
        served when it came, and arguments of the module's own classes must be of that one.

        Args:
            name: The module's name.
            method: The call's name.
            read: Returns the arguments for the version that serves when it is called.

        Raises:
            UnknownModule: There is no such module.
            UnknownCall: It has no such call.
        """
        gate = self._routes.slot(name).gate
        if gate.is_open or live_chain() is not None:  # a chain may go through a closed gate
            return await self.call(name, method, *read())
        return await gate.wait_and_read(method, read)

    async def opened(self, name: str) -> None:
        """Return when a module's gate is open.

        Args:
            name: The module's name.

        Raises:
            UnknownModule: There is no such module.
        """
        await self._routes.slot(name).gate.opened()

    async def send(
        self,
        name: str,
        method: str,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> None:
        """Queue a message by names; returns when it is accepted.

        Args:
            name: The module's name.
            method: The call's name.
            args: Positional arguments.
            kwargs: Keyword arguments.

        Raises:
            UnknownModule: There is no such module.
            UnknownCall: It has no such call.
            WrongArguments: The arguments do not fit.
        """
        slot = self._routes.slot(name)
        generation = self._routes.current(name)
        call = generation.definition.calls.get(method)
        if args and type(args[0]) is RawArguments:
            if isinstance(generation, RemoteGeneration) and call is not None:
                await generation.check_arguments(method, args[0])
            args, kwargs = args[0].loosely()
        elif call is not None:
            check_arguments(name, method, call.signature, args, kwargs or {})
        await slot.inbox.put(Message(method, args, kwargs or {}))


__all__ = ["CallsByName"]
