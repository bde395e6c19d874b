"""Calls and messages by names, as servers make them: what waits is read when it enters."""

from __future__ import annotations

from typing import Any

from replank.coordinator.slot import Routes
from replank.traffic.handle import check_arguments
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
        call = self._routes.current(name).definition.calls.get(method)
        if call is not None:
            check_arguments(name, method, call.signature, args, kwargs or {})
        await slot.inbox.put(Message(method, args, kwargs or {}))


__all__ = ["CallsByName"]
