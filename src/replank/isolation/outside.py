"""What a module in a worker sees of the host: handles of other modules, and the host itself.

Everything here asks over the link. Each request names the call that makes it, so that the host runs
it within that call's chain: a drain lets it through, and it sees one epoch.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from typing import Any, Final, Protocol

from replank.errors import WrongArguments
from replank.isolation.values import Uncrossable, pack, unpack
from replank.traffic.handle import Blocking

current_call: Final[contextvars.ContextVar[int]] = contextvars.ContextVar(
    "replank_worker_call", default=0
)
"""The number of the call that the running code belongs to; 0 outside of all."""

_ITEM, _END = "item", "end"


class Asking(Protocol):
    """The way to the host."""

    async def ask(self, name: str, body: bytes) -> bytes:
        """Ask the host."""

    def tell(self, name: str, body: bytes) -> None:
        """Tell the host something that wants no answer."""


def _packed(what: str, *values: Any) -> bytes:
    try:
        return pack(values)
    except Uncrossable as error:
        raise WrongArguments(
            f"an argument of {what} cannot leave the process of the isolated module",
            found=str(error),
            expected="plain values, records, dataclasses, enums and the like",
            do="send plain values",
        ) from None


class OutsideHandle:
    """The handle of another module, as an isolated module has it.

    Args:
        name: The other module's name.
        link: The way to the host.
    """

    send: OutsideSender
    blocking: Blocking

    def __init__(self, name: str, link: Asking) -> None:
        self._name = name
        self._link = link
        self.send = OutsideSender(self)
        self.blocking = Blocking(self)

    def __getattr__(self, call: str) -> Callable[..., OutsideCall]:
        if call.startswith("__"):
            raise AttributeError(call)

        def begin(*args: Any, **kwargs: Any) -> OutsideCall:
            return OutsideCall(self._link, self._name, call, args, kwargs)

        return begin

    def __repr__(self) -> str:
        return f"<handle of {self._name}>"


class OutsideCall(AsyncIterator[Any]):
    """A call of another module that has not begun: awaited it is a call, iterated it is a stream.

    Args:
        link: The way to the host.
        module: The other module.
        call: Name of its call.
        args: Positional arguments.
        kwargs: Keyword arguments.
    """

    def __init__(
        self,
        link: Asking,
        module: str,
        call: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        self._link = link
        self._what = f"{module}.{call}"
        self._body = _packed(self._what, current_call.get(), module, call, args, kwargs)
        self._stream = 0

    def __await__(self) -> Generator[Any, None, Any]:
        return self._answer().__await__()

    async def _answer(self) -> Any:
        return unpack(await self._link.ask("outer", self._body))

    def __aiter__(self) -> OutsideCall:
        return self

    async def __anext__(self) -> Any:
        """Return the next item of the other module's stream."""
        if not self._stream:
            self._stream = unpack(await self._link.ask("outer_open", self._body))
        asked = pack((current_call.get(), self._stream))
        kind, item = unpack(await self._link.ask("outer_next", asked))
        if kind == _END:
            raise StopAsyncIteration
        return item

    async def aclose(self) -> None:
        """End the stream early."""
        if self._stream:
            stream, self._stream = self._stream, 0
            await self._link.ask("outer_close", pack((current_call.get(), stream)))


class OutsideSender:
    """Queue messages to another module."""

    def __init__(self, handle: OutsideHandle) -> None:
        self._handle = handle

    def __getattr__(self, call: str) -> Callable[..., Coroutine[Any, Any, None]]:
        if call.startswith("__"):
            raise AttributeError(call)
        handle = self._handle

        async def send(*args: Any, **kwargs: Any) -> None:
            what = f"{handle._name}.{call}"
            body = _packed(what, current_call.get(), handle._name, call, args, kwargs)
            await handle._link.ask("outer_send", body)

        return send


class OutsideTicket:
    """The answer to a request for a reload: await it for the report."""

    def __init__(self, link: Asking, asked: asyncio.Task[bytes]) -> None:
        self._link = link
        self._asked = asked
        asked.add_done_callback(lambda one: one.cancelled() or one.exception())

    def __await__(self) -> Generator[Any, None, Any]:
        return self._report().__await__()

    async def _report(self) -> Any:
        number = unpack(await asyncio.shield(self._asked))
        return unpack(await self._link.ask("ticket", pack((current_call.get(), number))))


class OutsideHost:
    """The host, as an isolated module has it: its handles, reloads, and whatever can be awaited.

    Args:
        link: The way to the host.
    """

    def __init__(self, link: Asking) -> None:
        self._link = link

    def __getitem__(self, name: str) -> OutsideHandle:
        """Return a module's handle; whether there is such a module is found out by its calls."""
        return OutsideHandle(name, self._link)

    def reload(self, what: Any, **choices: Any) -> OutsideTicket:
        """Ask for a reload, as `Host.reload` does.

        Args:
            what: A module's name, several, or sources by name.
            choices: As for `Host.reload`.

        Returns:
            A ticket; await it for the report, but not from a call of the module that is reloaded.
        """
        body = _packed("reload", current_call.get(), "reload", (what,), choices)
        asked = asyncio.get_running_loop().create_task(self._link.ask("host_ticket", body))
        return OutsideTicket(self._link, asked)

    def __getattr__(self, method: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        if method.startswith("_"):
            raise AttributeError(method)

        async def ask(*args: Any, **kwargs: Any) -> Any:
            body = _packed(method, current_call.get(), method, args, kwargs)
            return unpack(await self._link.ask("host", body))

        return ask


__all__ = ["OutsideCall", "OutsideHandle", "OutsideHost", "OutsideTicket", "current_call"]
