"""Find what keeps a purged generation alive, and name the way to it from outside.

The search goes backwards from an object of the generation, through what the collector says refers
to it, one walk over all objects for each step. It ends at something that stays: a global of
another module, a timer, a running task, a cache; or when its time is over, with what it has found.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import sys
import types
import weakref
from collections.abc import Callable, Iterable
from time import perf_counter
from typing import Any, Final

from replank.plain import show

_STEPS_MAX: Final = 10
_FRONTIER_MAX: Final = 5_000
_CONTAINERS: Final = (dict, list, tuple, set, frozenset)
_RUNNING: Final = (types.FrameType, types.CoroutineType, types.GeneratorType)
_LruCache: Final = type(functools.lru_cache(maxsize=1)(lambda: None))
_STAYING: Final = (asyncio.TimerHandle, asyncio.Task, _LruCache, *_RUNNING)


def holders_of(alive: weakref.ref[Any], limit_s: float) -> tuple[str, ...] | None:
    """Return the chain that keeps an object alive, outermost first; None when it is gone.

    This walks over every object of the process, some milliseconds for each hundred thousand and
    step; nothing else runs meanwhile.

    Args:
        alive: The object.
        limit_s: Seconds after which no further step is begun.
    """
    target = alive()
    if target is None:
        return None
    search = _Search(target, limit_s)
    del target
    return search.run()


class _Search:
    """One search; its own containers are never taken for holders."""

    def __init__(self, target: Any, limit_s: float) -> None:
        self._deadline = perf_counter() + limit_s
        self._frontier: list[Any] = [target]
        self._towards: dict[int, Any] = {id(target): None}
        """By the id of an object, the next one on the way to the target."""
        self._kept: list[Any] = [target]
        self._globals = _owner_of_globals()

    def run(self) -> tuple[str, ...]:
        """Go backwards until something that stays is found, or the time is over."""
        furthest = self._frontier[0]
        for _ in range(_STEPS_MAX):
            began = perf_counter()
            found = self._step()
            if found is not None:
                return self._chain(found)
            if not self._frontier:
                return (*self._chain(furthest), "held from outside Python, or by its own cycle")
            furthest = self._frontier[0]
            if perf_counter() * 2 - began > self._deadline:  # the next would take as long
                break
        return ("...", *self._chain(furthest))

    def _step(self) -> Any | None:
        """Look at all that refers to the frontier; return a holder that stays."""
        wanted = {id(one) for one in self._frontier}
        found = gc.get_referrers(*self._frontier)
        ours = {id(one) for one in (self, vars(self), self._frontier, self._kept, self._towards)}
        ours |= {id(found), id(sys._getframe()), id(sys._getframe(1))}
        self._frontier = []
        for one in found:
            if id(one) in ours or id(one) in self._towards or _is_ours(one):
                continue
            self._towards[id(one)] = next(
                (child for child in gc.get_referents(one) if id(child) in wanted), None
            )
            self._kept.append(one)
            self._frontier.append(one)
        ends = [one for one in self._frontier if self._stays(one)]
        del self._frontier[_FRONTIER_MAX:]
        return ends[0] if ends else None

    def _stays(self, one: Any) -> bool:
        if isinstance(one, dict):
            return id(one) in self._globals
        return isinstance(one, _STAYING)

    def _chain(self, one: Any) -> tuple[str, ...]:
        links = []
        previous = None
        while one is not None:
            towards = self._towards.get(id(one))
            link = self._described(one, towards)
            if link != previous:
                links.append(link)
                previous = link
            one = towards
        return tuple(links)

    def _described(self, one: Any, towards: Any) -> str:
        """Name one link, by what it is and by which of its names leads on."""
        if isinstance(one, dict):
            owner = self._globals.get(id(one))
            key = next((key for key, value in one.items() if value is towards), None)
            if owner is not None:
                return f"global {key if isinstance(key, str) else '?'} of {owner}"
            return f"a dict, under {show(key, 40)}" if key is not None else "a dict"
        if isinstance(one, types.MethodType):
            return f"bound method {one.__func__.__qualname__}"
        if isinstance(one, types.FunctionType):
            return f"function {one.__qualname__}"
        if isinstance(one, types.CellType):
            return "its closure"
        return _described_by_kind(one)


def _described_by_kind(one: Any) -> str:
    for kinds, describe in _DESCRIPTIONS:
        if isinstance(one, kinds):
            return describe(one)
    return f"a {type(one).__qualname__} object"


_DESCRIPTIONS: Final[tuple[tuple[Any, Callable[[Any], str]], ...]] = (
    (asyncio.TimerHandle, lambda _: "a timer of the event loop"),
    (asyncio.Task, lambda one: f"task {one.get_name()}"),
    (_LruCache, lambda one: f"cache of {getattr(one, '__qualname__', 'a function')}"),
    (types.FrameType, lambda one: f"running {one.f_code.co_qualname} (line {one.f_lineno})"),
    (
        (types.CoroutineType, types.GeneratorType),
        lambda one: f"suspended {one.__qualname__}",
    ),
    (type, lambda one: f"class {one.__qualname__}"),
    (_CONTAINERS, lambda one: f"a {type(one).__name__}"),
    (types.ModuleType, lambda one: f"module {one.__name__}"),
)
"""The first that fits."""


def _owner_of_globals() -> dict[int, str]:
    """Return, by the id of its dict, the name of each module that anybody can import."""
    return {
        id(vars(module)): name
        for name, module in reversed(list(sys.modules.items()))  # the first name is its own
        if isinstance(module, types.ModuleType)
    }


def _is_ours(one: Any) -> bool:
    return isinstance(one, _Search) or (
        isinstance(one, types.FrameType) and one.f_code.co_filename == __file__
    )


def told(chain: Iterable[str]) -> str:
    """Return a chain as one line, from what stays to what it keeps alive."""
    return " -> ".join(chain)


__all__ = ["holders_of", "told"]
