"""Tell what belongs to one generation: whose code a callback, a thread or a task would run.

A generation's code stands under a private name (`ledger@7`), which every function, class and frame
of it carries. So what it has left running can be told from what anybody else has.

One thing that carries the name is not its own: an entry, through which somebody else calls it. A
client's task may have been made of one, or hold one, and must not be ended for that.
"""

from __future__ import annotations

import functools
import types
import weakref
from collections.abc import Iterable, Iterator
from typing import Any

from replank.hints import is_private
from replank.suspended import arguments

_DEPTH_MAX = 4
_RUNNABLE = (types.CoroutineType, types.FunctionType, types.MethodType, functools.partial)
"""What a coroutine would run; its other arguments may be anybody's data."""


class Owner:
    """One generation, or several, by their private names.

    Args:
        names: Such as `ledger@7`.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self.names = set(names)
        self.entries: set[types.CodeType] = set()
        """Code of what handles call."""

    def owns(self, thing: Any) -> bool:
        """Tell whether a function, object, task or the like would run, or is made of, its code."""
        return self._owns(thing, _DEPTH_MAX, set())

    def runs_in(self, frame: types.FrameType | None) -> bool:
        """Tell whether a frame, or one that called it, is of its code."""
        while frame is not None:
            if self.is_name(frame.f_globals.get("__name__")):
                return True
            frame = frame.f_back
        return False

    def is_name(self, module: Any) -> bool:
        """Tell whether a Python module's name is below one of the private names."""
        return isinstance(module, str) and module.partition(".")[0] in self.names

    def _is_entry(self, thing: Any) -> bool:
        """Tell an entry, also one that is a wrapper of ours around the author's method."""
        if isinstance(thing, types.FunctionType | types.CoroutineType):
            return _code_of(thing) in self.entries or _is_ours(_module_of(thing))
        return False

    def _owns(self, thing: Any, depth: int, seen: set[int]) -> bool:
        if depth == 0 or thing is None or id(thing) in seen:
            return False
        seen.add(id(thing))
        if self._is_entry(thing):
            return False
        if isinstance(thing, str | bytes | int | float | types.ModuleType):
            return isinstance(thing, types.ModuleType) and self.is_name(thing.__name__)
        if self.is_name(_module_of(thing)):
            return True
        return any(self._owns(one, depth - 1, seen) for one in _within(thing))


class Others(Owner):
    """Every generation but these: what belongs to one of them is certainly not theirs.

    Args:
        owner: Whose are left out.
    """

    def __init__(self, owner: Owner) -> None:
        super().__init__()
        self.entries = owner.entries
        self.names = owner.names  # the same set: it grows as they are loaded

    def is_name(self, module: Any) -> bool:
        """Tell whether a Python module's name is below another private name."""
        return isinstance(module, str) and is_private(module) and not super().is_name(module)


def codes_of(functions: Iterable[Any]) -> Iterator[types.CodeType]:
    """Yield the code of each function or bound method that has one.

    Args:
        functions: Such as the entries of a lane.
    """
    for one in functions:
        code = _code_of(getattr(one, "__func__", one))
        if code is not None:
            yield code


def _code_of(thing: Any) -> types.CodeType | None:
    code = getattr(thing, "__code__", None) or getattr(thing, "cr_code", None)
    return code if isinstance(code, types.CodeType) else None


def _module_of(thing: Any) -> Any:
    if isinstance(thing, types.FunctionType):
        return thing.__globals__.get("__name__")
    if isinstance(thing, type):
        return thing.__module__
    code_frame = getattr(thing, "cr_frame", None) or getattr(thing, "gi_frame", None)
    if isinstance(code_frame, types.FrameType):
        return code_frame.f_globals.get("__name__")
    return type(thing).__module__


def _within(thing: Any) -> Iterable[Any]:  # noqa: PLR0911 - one line a kind
    """Return what a callable or a coroutine leads to."""
    match thing:
        case types.FunctionType():
            return [*_cells(thing), getattr(thing, "__wrapped__", None)]
        case types.MethodType() | types.BuiltinMethodType():
            return (getattr(thing, "__func__", None), thing.__self__)
        case functools.partial():
            return (thing.func, *thing.args, *thing.keywords.values())
        case types.CoroutineType():
            # not what it awaits: that may be anybody's call
            return [one for one in arguments(thing) if isinstance(one, _RUNNABLE)]
        case weakref.ref():
            return (thing(),)
        case tuple() | list() if len(thing) < 16:  # noqa: PLR2004 - arguments, not data
            return thing
        case _:
            return ()


def _is_ours(module: Any) -> bool:
    return isinstance(module, str) and module.partition(".")[0] == "replank"


def _cells(function: types.FunctionType) -> list[Any]:
    found = []
    for cell in function.__closure__ or ():
        try:
            found.append(cell.cell_contents)
        except ValueError:  # empty still
            continue
    return found


__all__ = ["Others", "Owner", "codes_of"]
