"""One message, as plain values, and in the types of the version that is to handle it.

A message outlives the version that it was sent to, and so does an open stream with its arguments.
What a version made of its own classes is foreign to the next one: it is taken apart into plain
values and built again by the annotations of the call that will get it.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from replank.definition import Call
from replank.errors import WrongArguments
from replank.hints import is_private

_DEPTH_MAX = 20


class RawArguments(NamedTuple):
    """Arguments as JSON: the process that knows the annotations reads them."""

    body: bytes

    def loosely(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return positional and keyword arguments as plain JSON values, not looked at further."""
        plain = msgspec.json.decode(self.body) if self.body.strip() else {}
        return (tuple(plain), {}) if isinstance(plain, list) else ((), plain)


class Message(NamedTuple):
    """One queued call whose answer nobody waits for."""

    call: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def renewed(message: Message, calls: Mapping[str, Call], module: str) -> Message:
    """Return a message that another version took, in the types of the one that will handle it.

    Only an argument that holds objects of a module's own classes is taken apart; all others are
    handed on as they are.

    Args:
        message: What was sent.
        calls: The calls of the version that will handle it.
        module: The module's name, for errors.

    Raises:
        WrongArguments: An argument does not fit the new types.
    """
    call = calls.get(message.call)
    if call is None:
        return message
    by_place, rest, named = _parameters(call.signature)
    by_place += [rest] * (len(message.args) - len(by_place))
    args = [
        renew(value, call, key, module) for key, value in zip(by_place, message.args, strict=False)
    ]
    kwargs = {
        key: renew(value, call, key if key in call.signature.parameters else named, module)
        for key, value in message.kwargs.items()
    }
    return Message(message.call, tuple(args), kwargs)


def renew(value: Any, call: Call, key: str, module: str) -> Any:
    """Return one argument in the types of the version that will get it.

    Args:
        value: As another version made it.
        call: The call that will get it.
        key: Name of the parameter.
        module: The module's name, for errors.

    Raises:
        WrongArguments: It does not fit the parameter's type.
    """
    if not _holds_own(value, _DEPTH_MAX):
        return value
    try:
        plain = msgspec.to_builtins(value, builtin_types=(bytes,))
        return msgspec.convert(plain, call.hints.get(key, Any))
    except (TypeError, ValueError, RecursionError) as error:  # a ValidationError is a ValueError
        raise WrongArguments(
            f"{key} of {call.name}, made by an earlier version, does not fit the one that serves",
            module=module,
            found=str(error),
            expected=f"{call.name}{call.signature}",
            do=f"keep the type of {key} readable: give new fields a default",
        ) from error


def _holds_own(value: Any, depth: int) -> bool:
    """Tell whether a value is, or holds, an object of some module's own class."""
    kind = type(value)
    if is_private(kind.__module__):
        return True
    if not depth:
        return False
    if isinstance(value, dict):
        return any(_holds_own(part, depth - 1) for pair in value.items() for part in pair)
    if isinstance(value, list | tuple | set | frozenset):
        return any(_holds_own(part, depth - 1) for part in value)
    return False


def to_plain(message: Message) -> dict[str, Any]:
    """Return a message as plain values, for the disk.

    Args:
        message: A message whose arguments have a schema of msgspec's.
    """
    args, kwargs = message.args, message.kwargs
    if args and type(args[0]) is RawArguments:
        args, kwargs = args[0].loosely()
    plain: dict[str, Any] = msgspec.to_builtins(
        {"call": message.call, "args": list(args), "kwargs": kwargs},
        builtin_types=(bytes,),
    )
    return plain


def from_plain(plain: Mapping[str, Any], calls: Mapping[str, Call]) -> Message:
    """Read a message back, its arguments typed by the call's annotations.

    Args:
        plain: What `to_plain` returned.
        calls: The calls of the version that will handle it.
    """
    name, args, kwargs = plain["call"], list(plain["args"]), dict(plain["kwargs"])
    call = calls.get(name)
    if call is not None:
        by_place, rest, named = _parameters(call.signature)
        by_place += [rest] * (len(args) - len(by_place))
        args = [_typed(call, key, value) for key, value in zip(by_place, args, strict=False)]
        kwargs = {
            key: _typed(call, key if key in call.signature.parameters else named, value)
            for key, value in kwargs.items()
        }
    return Message(name, tuple(args), kwargs)


def _parameters(signature: inspect.Signature) -> tuple[list[str], str, str]:
    """Return the positional parameters' names, and those of `*args` and `**kwargs`, "" for none."""
    by_place: list[str] = []
    rest = named = ""
    for name, parameter in signature.parameters.items():
        if parameter.kind is parameter.VAR_POSITIONAL:
            rest = name
        elif parameter.kind is parameter.VAR_KEYWORD:
            named = name
        elif parameter.kind is not parameter.KEYWORD_ONLY:
            by_place.append(name)
    return by_place, rest, named


def _typed(call: Call, key: str, value: Any) -> Any:
    if key not in call.hints:
        return value
    try:
        return msgspec.convert(value, call.hints[key])
    except (msgspec.ValidationError, TypeError):
        return value  # its handling will say what is wrong with it


__all__ = ["Message", "RawArguments", "from_plain", "renew", "renewed", "to_plain"]
