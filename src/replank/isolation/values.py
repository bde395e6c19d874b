"""Values on their way between two processes of ours: arguments, answers, exceptions.

They are pickled, because both ends are ours and most of what modules pass around is builtin. Two
things differ from plain pickle:

- An object of a module's *own* class exists in one process only. It travels as plain data: a record
  as a dict of its fields, an enum member as its value. What has no plain form is refused by name.
- The receiving host imports nothing for a value: a class whose package it has not imported itself
  (or that is not of the standard library) is refused. Else an answer could bring the native library
  into the host that the module was isolated for.

It is no border against malice: a worker runs the code of its module, as the host would.
"""

from __future__ import annotations

import builtins
import enum
import io
import pickle
import sys
import traceback
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from replank.errors import RemoteError, ReplankError
from replank.hints import is_private, record_fields, record_flavour
from replank.table import Table
from replank.traffic.handle import Handle

_PROTOCOL: Final = 5
_SHOWN_CHARS: Final = 20_000
_BUILTINS: Final[tuple[Any, ...]] = (
    bool,
    int,
    float,
    str,
    bytes,
    bytearray,
    dict,
    list,
    tuple,
    set,
    frozenset,
)

_TOO_STRONG: Final = (SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration)
"""What would end the host's loop, or what no future takes: it arrives as a `RemoteError`."""


class Uncrossable(TypeError):
    """A value cannot leave its process."""


def itself(value: Any) -> Any:
    """Return the value: how an enum member of a module's own arrives as its value."""
    return value


class _Writer(pickle.Pickler):
    def reducer_override(self, thing: Any) -> Any:
        kind = type(thing)
        if kind is Table:
            return dict, (list(thing.items()),)
        if kind is Handle:
            raise Uncrossable(f"{thing!r} does not leave the host")
        if is_private(kind.__module__):
            return _plain_form(thing)
        if isinstance(thing, type) or callable(thing):
            module = getattr(thing, "__module__", None)
            if isinstance(module, str) and is_private(module):
                raise Uncrossable(f"{thing.__qualname__} exists in its module's process only")
        return NotImplemented


def _plain_form(thing: Any) -> Any:
    kind = type(thing)
    if isinstance(thing, enum.Enum):
        return itself, (thing.value,)
    if record_flavour(kind) is not None and not isinstance(thing, dict):
        pairs = [(one.name, getattr(thing, one.name)) for one in record_fields(kind)]
        return dict, (pairs,)
    for builtin in _BUILTINS:
        if isinstance(thing, builtin):
            return itself, (builtin(thing),)
    raise Uncrossable(
        f"a {kind.__qualname__} has no plain form; records, dataclasses and enums have one"
    )


def pack(value: Any) -> bytes:
    """Return a value as bytes for another process of this host.

    Args:
        value: Anything; objects of a module's own classes become plain data.

    Raises:
        Uncrossable: It, or a part of it, exists in this process only.
    """
    buffer = io.BytesIO()
    try:
        _Writer(buffer, _PROTOCOL).dump(value)
    except Uncrossable:
        raise
    except Exception as error:  # what has no pickle says so in many ways
        raise Uncrossable(f"{type(value).__qualname__}: {error}") from None
    return buffer.getvalue()


class _HostReader(pickle.Unpickler):
    """Finds classes among what is imported already; imports only the standard library."""

    def find_class(self, module: str, name: str, /) -> Any:
        known = module in sys.modules or module.partition(".")[0] in sys.stdlib_module_names
        if not known:
            raise Uncrossable(
                f"{module}.{name} is not imported in the host, and is not imported for an answer"
            )
        return super().find_class(module, name)


def unpack(data: bytes) -> Any:
    """Return what another process packed; in a worker, which may import anything.

    Args:
        data: From `pack`.
    """
    return pickle.loads(data)  # noqa: S301 - our own processes, see the module's docstring


def unpack_in_host(data: bytes) -> Any:
    """Return what a worker packed.

    Args:
        data: From `pack`.

    Raises:
        Uncrossable: It is of a class that the host has not imported.
    """
    return _HostReader(io.BytesIO(data)).load()


class Told(NamedTuple):
    """An exception of another process."""

    name: str
    text: str
    pickled: bytes | None
    """The exception itself, when its class exists elsewhere, too."""
    base: tuple[str, ...]
    """Names of the builtin classes that it is of, nearest first."""
    frames: str
    """Its traceback as text."""
    location: str | None
    """The author's file and line."""
    own_frames: str
    """The author's own frames, for a report."""


def tell(error: BaseException, location: str | None, own_frames: str) -> Told:
    """Take an exception apart for another process.

    Args:
        error: What was raised.
        location: Where in the author's source.
        own_frames: Its frames in the author's source.
    """
    builtin = tuple(one.__name__ for one in type(error).__mro__ if one.__module__ == "builtins")
    try:
        pickled = None if is_private(type(error).__module__) else pack(error)
    except Uncrossable:
        pickled = None
    frames = "".join(traceback.format_exception(error))[-_SHOWN_CHARS:]
    text = error.what if isinstance(error, ReplankError) else str(error)
    return Told(type(error).__name__, text, pickled, builtin, frames, location, own_frames)


def raised(told: Told, where: str, read: Callable[[bytes], Any]) -> BaseException:
    """Return an exception of another process as one of this process.

    Args:
        told: What it said.
        where: Which process, for the note.
        read: Unpacks.
    """
    error: BaseException | None = None
    if told.pickled is not None:
        try:
            error = read(told.pickled)
        except Exception:
            error = None  # its class is not known here
    if not isinstance(error, BaseException) or isinstance(error, _TOO_STRONG):
        error = _stand_in(told)
    error.add_note(f"raised in {where}:\n{told.frames.rstrip()}")
    error.remote_location = told.location  # type: ignore[attr-defined]
    error.remote_frames = told.own_frames  # type: ignore[attr-defined]
    if isinstance(error, ReplankError):
        error.location = error.location or told.location
        error.candidate_traceback = error.candidate_traceback or told.own_frames
    return error


def _stand_in(told: Told) -> RemoteError:
    """Return an error in whose place `except ValueError` works as it would in one process."""
    facts: dict[str, Any] = {
        "found": f"{told.name}: {told.text}" if told.text else told.name,
        "location": told.location,
    }
    what = f"{told.name}: {told.text}" if told.text else told.name
    for name in told.base:
        base = getattr(builtins, name, None)
        if base is Exception or not (isinstance(base, type) and issubclass(base, Exception)):
            break
        if issubclass(base, _TOO_STRONG):
            continue
        try:
            kind = type("RemoteError", (RemoteError, base), {"__module__": RemoteError.__module__})
            made: RemoteError = kind(what, **facts)
        except TypeError:  # two layouts that do not go together
            continue
        made.type_name = told.name
        return made
    plain = RemoteError(what, **facts)
    plain.type_name = told.name
    return plain


__all__ = ["Told", "Uncrossable", "itself", "pack", "raised", "tell", "unpack", "unpack_in_host"]
