"""What a durable message is on the disk, and how the version that handles it reads it.

A message is kept as plain values, without the names of any classes, so that whichever version
serves when it is handled can turn it into its own types, by the annotations of the call.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Mapping
from typing import Any

import msgspec

from replank.definition import Call
from replank.errors import UnknownCall, WrongArguments
from replank.traffic.messages import Message, to_plain


class DeadLetter(msgspec.Struct, frozen=True):
    """A message that the version which should have handled it could not read."""

    position: int
    """In the module's stream; 0 when it had come back from an inbox that was not durable."""
    reason: str
    payload: bytes
    """As it was accepted: MessagePack of `to_plain`."""


def encode_message(message: Message, module: str) -> bytes:
    """Write a message as MessagePack of plain values.

    Args:
        message: What was sent.
        module: Name of the module, for errors.

    Raises:
        WrongArguments: An argument has no schema, or is too large a number.
    """
    try:
        return msgspec.msgpack.encode(to_plain(message))
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise WrongArguments(
            f"a durable message to {message.call} cannot be written to the disk",
            module=module,
            found=str(error),
            expected="plain values, records, dataclasses, enums, dates and the like",
            do="send values that have a schema, or turn durable off for this module",
        ) from error


def read_bare(payload: bytes) -> Message:
    """Return a message as far as it can be read without its types.

    Args:
        payload: What was accepted; when it is no message, it becomes the argument of one to "".
    """
    with contextlib.suppress(msgspec.MsgspecError, TypeError, KeyError):
        plain = msgspec.msgpack.decode(payload)
        return Message(plain["call"], tuple(plain["args"]), dict(plain["kwargs"]))
    return Message("", (payload,), {})


def read_message(payload: bytes, calls: Mapping[str, Call], module: str) -> Message:
    """Read a message that was accepted, its arguments typed by the call's annotations.

    Args:
        payload: MessagePack of `to_plain`, perhaps of an earlier version's message.
        calls: The calls of the version that will handle it.
        module: Name of the module, for errors.

    Raises:
        UnknownCall: The version has no such call any more.
        WrongArguments: The arguments do not fit its parameters or their types.
    """
    plain = read_bare(payload)
    call = calls.get(plain.call)
    if call is None:
        raise UnknownCall(
            f"the version that serves has no call {plain.call!r}",
            module=module,
            found=f"a message to {plain.call!r}, accepted earlier",
            expected=", ".join(sorted(calls)) or "no calls at all",
        )
    try:
        bound = call.signature.bind(*plain.args, **plain.kwargs)
        for name, value in bound.arguments.items():
            bound.arguments[name] = _typed(call, name, value)
    except (TypeError, msgspec.ValidationError) as error:
        raise WrongArguments(
            f"a message to {plain.call}, accepted earlier, does not fit the version that serves",
            module=module,
            found=str(error),
            expected=f"{plain.call}{call.signature}",
            do="read it from the dead letters and send it again in the new form",
        ) from error
    return Message(plain.call, bound.args, bound.kwargs)


def _typed(call: Call, name: str, value: Any) -> Any:
    hint = call.hints.get(name, Any)
    kind = call.signature.parameters[name].kind
    if kind is inspect.Parameter.VAR_POSITIONAL:
        return tuple(_converted(name, one, hint) for one in value)
    if kind is inspect.Parameter.VAR_KEYWORD:
        return {key: _converted(key, one, hint) for key, one in value.items()}
    return _converted(name, value, hint)


def _converted(name: str, value: Any, hint: Any) -> Any:
    if hint is Any:
        return value
    try:
        return msgspec.convert(value, hint)
    except TypeError:
        return value  # msgspec has no way to build this type: it stays as it was sent
    except msgspec.ValidationError as error:
        try:  # what fits as it is stays as it is; only then "5" is taken for 5
            return msgspec.convert(value, hint, strict=False)
        except msgspec.ValidationError:
            raise msgspec.ValidationError(f"{name}: {error}") from error


__all__ = ["DeadLetter", "encode_message", "read_bare", "read_message"]
