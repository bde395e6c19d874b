"""The calls of a module in its worker: read, run and answered; streams item by item."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections.abc import AsyncGenerator, Coroutine, Iterator
from typing import Any, Final

import msgspec

from replank.code.generation import Generation
from replank.definition import Call, CallKind
from replank.errors import RemoteError, UnknownCall, WrongArguments
from replank.hints import is_private, read_form
from replank.isolation.outside import current_call
from replank.isolation.values import Uncrossable, pack, unpack
from replank.traffic.json_arguments import CallReader, signature_text
from replank.traffic.message import RawArguments
from replank.traffic.stepwise import stepwise

_PLAIN: Final = (type(None), bool, int, float, str, list, dict, Any, object)
"""Classes whose values arrive as they were sent."""


class WorkerCalls:
    """Runs what the host's gate has let in.

    Args:
        generation: What is loaded here.
    """

    def __init__(self, generation: Generation) -> None:
        self._generation = generation
        self._calls = generation.definition.calls
        self._typed = {name: _typed_parameters(call) for name, call in self._calls.items()}
        self._readers: dict[str, CallReader] = {}
        self._streams: dict[int, AsyncGenerator[Any, None]] = {}
        self._held: set[int] = set()
        self._released = asyncio.Event()

    def call(self, number: int, body: bytes) -> Coroutine[Any, Any, bytes] | bytes:
        """Run a call, check or hook.

        Args:
            number: The host's number of the request: what it calls in turn is part of it.
            body: Its name and arguments.
        """
        name, args, kwargs = unpack(body)
        method = self._generation.methods.get(name)
        if method is None:
            raise self._unknown(name)
        args, kwargs = self._read(name, args, kwargs)
        call = self._calls.get(name)
        if call is not None and call.kind is CallKind.ASYNC:
            return self._finish(number, name, method(*args, **kwargs))
        context = contextvars.copy_context()
        context.run(current_call.set, number)
        result = context.run(method, *args, **kwargs)
        if isinstance(result, Coroutine):
            return self._finish(number, name, result)
        self._look_behind_seal(None)
        return self._packed(name, result)

    def check(self, name: str, raw: RawArguments) -> None:
        """Read the arguments of a message that is not handled yet.

        Args:
            name: The call.
            raw: Its arguments as JSON.

        Raises:
            WrongArguments: They do not fit.
        """
        if name not in self._calls:
            raise self._unknown(name)
        self._read(name, (raw,), {})

    async def open(self, stream: int, name: str, args: Any, kwargs: Any) -> None:
        """Begin a stream; it computes nothing yet."""
        method = self._generation.methods.get(name)
        if method is None:
            raise self._unknown(name)
        args, kwargs = self._read(name, args, kwargs)
        self._streams[stream] = method(*args, **kwargs)

    async def next(self, number: int, body: bytes) -> bytes:
        """Compute the next item of a stream."""
        (stream,) = unpack(body)
        current_call.set(number)
        items = self._streams[stream]

        def may_step() -> Coroutine[Any, Any, None] | None:
            return self._until_released(stream) if stream in self._held else None

        try:
            item = await stepwise(items.__anext__(), may_step)
        except StopAsyncIteration:
            self._look_behind_seal(None)
            self._streams.pop(stream, None)
            return pack(("end", None))
        except BaseException as error:
            self._look_behind_seal(error)
            raise
        self._look_behind_seal(None)
        return self._packed("a stream", ("item", item))

    async def close(self, stream: int) -> None:
        """End a stream early; its `finally` blocks run."""
        self._held.discard(stream)
        items = self._streams.pop(stream, None)
        if items is not None:
            await items.aclose()

    def hold(self, stream: int) -> None:
        """Keep a stream that waits for its next item where it stands."""
        self._held.add(stream)
        self._released.clear()

    def release(self) -> None:
        """Let the held streams go on."""
        self._held.clear()
        self._released.set()

    # -- inside -----------------------------------------------------------------------------------

    async def _until_released(self, stream: int) -> None:
        while stream in self._held:
            await self._released.wait()

    async def _finish(self, number: int, name: str, work: Coroutine[Any, Any, Any]) -> bytes:
        current_call.set(number)
        try:
            result = await work
        except BaseException as error:
            self._look_behind_seal(error)
            raise
        self._look_behind_seal(None)
        return self._packed(name, result)

    def _look_behind_seal(self, error: BaseException | None) -> None:
        seal = self._generation.seal
        if seal is not None:
            seal.check(error)

    def _packed(self, name: str, result: Any) -> bytes:
        try:
            return pack(result)
        except Uncrossable as error:
            raise RemoteError(
                f"the answer of {name} cannot leave the process of its module",
                module=self._generation.definition.name,
                found=str(error),
                expected="plain values, records, dataclasses, enums and the like",
                do="answer with plain values, or run the module in the host",
            ) from None

    def _read(self, name: str, args: Any, kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return arguments in the types that the call's annotations name."""
        if args and type(args[0]) is RawArguments:
            if name not in self._readers:
                module = self._generation.definition.name
                self._readers[name] = CallReader(module, self._calls[name])
            args, named = self._readers[name].read(args[0].body)
            return args, {**named, **kwargs}  # a stream that goes on has its `resume` as well
        typed = self._typed.get(name)
        if not typed:
            return args, kwargs
        call = self._calls[name]
        try:
            bound = call.signature.bind(*args, **kwargs)
        except TypeError:
            return args, kwargs  # the method itself says what is wrong, as it would in the host
        for key, hint in typed.items():
            if key in bound.arguments:
                bound.arguments[key] = self._converted(call, key, bound.arguments[key], hint)
        return bound.args, bound.kwargs

    def _converted(self, call: Call, key: str, value: Any, hint: Any) -> Any:
        try:
            return msgspec.convert(value, hint)
        except msgspec.ValidationError as error:
            if not _names_own(hint):
                return value  # as in the host: the method gets what was sent
            raise WrongArguments(
                f"{key} of {call.name} does not fit: {error}",
                module=self._generation.definition.name,
                found=str(error),
                expected=f"{call.name}{signature_text(call.signature)}",
                do="send what the annotation says: a record of the module's own as a dict",
            ) from None
        except TypeError:
            return value  # msgspec has no way to build this type

    def _unknown(self, name: str) -> UnknownCall:
        return UnknownCall(
            f"the version that serves has no call {name!r}",
            module=self._generation.definition.name,
            found=name,
            expected=", ".join(sorted(self._calls)) or "no calls at all",
        )


def _typed_parameters(call: Call) -> dict[str, Any]:
    """Return the parameters whose values may arrive as something plainer than their type."""
    varying = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    found = {}
    for name, parameter in call.signature.parameters.items():
        hint = call.hints.get(name, Any)
        if parameter.kind not in varying and not _is_plain(hint):
            found[name] = hint
    return found


def _is_plain(hint: Any) -> bool:
    return all(cls is None or cls in _PLAIN for cls in _classes(hint))


def _names_own(hint: Any) -> bool:
    return any(isinstance(cls, type) and is_private(cls.__module__) for cls in _classes(hint))


def _classes(hint: Any) -> Iterator[Any]:
    waiting = [hint]
    while waiting:
        try:
            form = read_form(waiting.pop())
        except Exception:  # noqa: S112 - what cannot be read is handed on as it is
            continue
        waiting += form.args
        yield form.cls


__all__ = ["WorkerCalls"]
