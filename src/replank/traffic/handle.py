"""The stable reference through which a module is called; it never goes stale."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

from replank.errors import UnknownCall, UsageError, WrongArguments
from replank.traffic.lane import Lane
from replank.traffic.messages import Inbox, Message

_OWN_NAMES = frozenset({"send", "blocking"})

OnServe = Callable[[dict[str, Any], Lane], None]
"""Is told of a handle's own names whenever they lead to a lane's entries anew."""


class Handle:
    """Call a module, whichever generation serves.

    `await handle.deposit("ada", 5)` is a call, `await handle.send.deposit("ada", 5)` queues a
    message, and `handle.blocking.deposit("ada", 5)` is a call from another thread.

    The current generation's entries lie in this object's `__dict__`, so a call through an open
    gate costs one attribute look-up more than a bare one. A reference kept to `handle.deposit`
    stays right too: a retired entry leads to the generation that serves.
    """

    send: Sender
    blocking: Blocking
    _name: str
    _inbox: Inbox
    _entries: dict[str, Callable[..., Any]]
    _on_serve: OnServe | None

    def __init__(self, name: str, inbox: Inbox, on_serve: OnServe | None = None) -> None:
        self.__dict__["_name"] = name
        self.__dict__["_inbox"] = inbox
        self.__dict__["send"] = Sender(self)
        self.__dict__["blocking"] = Blocking(self)
        self.__dict__["_entries"] = {}
        self.__dict__["_on_serve"] = on_serve

    def _serve(self, lane: Lane) -> None:
        """Point every call at a generation's lane."""
        space = self.__dict__
        for old in space["_entries"].keys() - _OWN_NAMES:
            space.pop(old, None)
        space["_entries"] = lane.entries
        space.update({k: v for k, v in lane.entries.items() if k not in _OWN_NAMES})
        on_serve: OnServe | None = space["_on_serve"]
        if on_serve is not None:
            on_serve(space, lane)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("__"):
            raise AttributeError(name)
        raise _unknown(self, name)

    def __setattr__(self, name: str, value: object) -> None:
        raise UsageError(
            f"a handle cannot be written to ({name})",
            module=self._name,
            do="call the module to change its state",
        )

    def __repr__(self) -> str:
        return f"<handle of {self._name}>"


class Sender:
    """Queue messages: `await handle.send.deposit("ada", 5)` returns when it is accepted."""

    def __init__(self, handle: Handle) -> None:
        self._handle = handle

    def __getattr__(self, call: str) -> Callable[..., Coroutine[Any, Any, None]]:
        if call.startswith("__"):
            raise AttributeError(call)
        inbox = self._handle._inbox

        async def send(*args: Any, **kwargs: Any) -> None:
            await inbox.put(Message(call, args, kwargs))

        return send


class Blocking:
    """Call from a thread other than the event loop's and wait for the answer."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()

    def __getattr__(self, call: str) -> Callable[..., Any]:
        if call.startswith("__"):
            raise AttributeError(call)

        def wait(*args: Any, **kwargs: Any) -> Any:
            if threading.get_ident() == self._thread:
                raise UsageError(
                    "a blocking call on the event loop would wait for itself",
                    module=self._handle._name,
                    do=f"await handle.{call}(...) instead",
                )

            async def run() -> Any:  # the look-up too belongs on the loop's thread
                return await getattr(self._handle, call)(*args, **kwargs)

            return asyncio.run_coroutine_threadsafe(run(), self._loop).result()

        return wait


def check_arguments(
    module: str, call: str, signature: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    """Refuse arguments that do not fit a call's parameters.

    Args:
        module: Name of the module, for the error.
        call: Name of the call.
        signature: Its `inspect.Signature`, without self.
        args: Positional arguments.
        kwargs: Keyword arguments.

    Raises:
        WrongArguments: They do not fit.
    """
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        raise WrongArguments(
            f"{call}: {error}", module=module, expected=f"{call}{signature}"
        ) from None


def _unknown(handle: Handle, name: str) -> UnknownCall:
    return UnknownCall(
        f"there is no call {name!r}",
        module=handle._name,
        found=name,
        expected=", ".join(sorted(handle._entries)) or "no calls at all",
    )
