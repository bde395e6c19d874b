"""Look whether a version on probation leaks: whether something that is no state grows with calls.

Several modules share one process, so its memory says nothing about one of them. What does is what a
module's code holds beside its declared state: its globals, attributes of its object and classes,
what its functions keep (a default that is changed, a closure, a cache without a limit). Their
lengths are read, some hundreds of them in a fraction of a millisecond, with the number of calls so
far. One that has grown in each quarter of what was seen, and grows on as it did, is told with its
name; what it holds is estimated from its newest entries.

What cannot be seen so: memory of C libraries, entries in what belongs to others (a library's
registry), and what lies deeper than four steps.
"""

from __future__ import annotations

import asyncio
import collections
import functools
import gc
import inspect
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Any, Final

Space = tuple[str, Mapping[str, Any]]
"""How what lies in it is called ("global {}"), and the names themselves."""

_DEPTH_MAX: Final = 4
_LOOKED_AT_MAX: Final = 1_000
_SLICE: Final = 25
"""Containers looked at in one go: less than a millisecond in which no call is served."""
_WALKED_INTO_MAX: Final = 64
"""Entries up to which a container's own entries are looked at, too: by users, say, not by calls."""
_LOOKS_MIN: Final = 8
_LOOKS_MAX: Final = 64
_PARTS: Final = 4
_SAMPLE: Final = 16
_SAMPLE_OBJECTS_MAX: Final = 2_000
_SIZED: Final = (dict, list, set, bytearray, collections.deque)
_LruCache: Final = type(functools.lru_cache(maxsize=1)(lambda: None))
_PLAIN: Final = frozenset({str, bytes, int, float, bool, complex, type(None)})
_HIDDEN: Final = ("__", "_replank")
_SHARED: Final = (
    *(type, types.ModuleType, types.FunctionType, types.MethodType, types.BuiltinFunctionType),
    *(types.CodeType, types.FrameType, asyncio.AbstractEventLoop),
)
"""What an entry refers to and does not own."""


@dataclass(frozen=True, slots=True)
class Grown:
    """Something that grows with the calls.

    Args:
        place: Its name, and what it is: "global SEEN (a list)".
        entries: How many more it has than at the beginning, and than in the version before.
        calls: In how many calls.
        size_bytes: About what they hold.
    """

    place: str
    entries: int
    calls: int
    size_bytes: int

    def __str__(self) -> str:
        return (
            f"{self.place} grows with the calls: {self.entries} entries more after {self.calls} "
            f"calls, about {self.size_bytes / 1e6:.2g} MB, and it is no declared state"
        )


def read_sizes(
    spaces: Iterable[Space], declared: Iterable[Any], into: dict[str, int]
) -> Iterator[None]:
    """Read how long each container is that can be reached, by its place; yields between slices.

    Args:
        spaces: Where to begin.
        declared: The state's values: they may grow.
        into: Is filled.
    """
    for number, (place, size, _) in enumerate(_Walk(declared).all(spaces), 1):
        into[place] = size
        if number % _SLICE == 0:
            yield


class Growth:
    """Watches what one generation holds.

    Args:
        spaces: Where to begin, asked at each look.
        declared: The state's values, asked at each look.
        before: What the version before held when it ended, by place: as much is no leak.

    Attributes:
        grown: What has grown at every look so far, what holds most first.
    """

    def __init__(
        self,
        spaces: Callable[[], list[Space]],
        declared: Callable[[], list[Any]],
        before: Mapping[str, int],
    ) -> None:
        self._spaces = spaces
        self._declared = declared
        self._before = before
        self._seen: dict[str, list[tuple[int, int]]] = {}
        self.grown: list[Grown] = []

    def look(self, calls: int) -> Iterator[None]:
        """Read all lengths, and find what has grown all the time; yields between slices.

        Args:
            calls: How many calls the module has had so far.
        """
        found: list[Grown] = []
        places: set[str] = set()
        walk = _Walk(self._declared()).all(self._spaces())
        for number, (place, size, value) in enumerate(walk, 1):
            places.add(place)
            seen = self._seen.setdefault(place, [])
            seen.append((calls, size))
            if len(seen) > _LOOKS_MAX:
                del seen[1:-1:2]
            more = self._more(place, seen)
            if more > 0:
                found.append(self._told(place, value, more))
            if number % _SLICE == 0:
                yield
        for gone in self._seen.keys() - places:
            del self._seen[gone]
        self.grown = sorted(found, key=lambda one: -one.size_bytes)

    def _told(self, place: str, value: Any, entries: int) -> Grown:
        seen = self._seen[place]
        calls = seen[-1][0] - seen[0][0]
        try:
            held = _held(value, entries)
        except Exception:  # as above: it grows all the same
            held = 0
        return Grown(place, entries, calls, held)

    def _more(self, place: str, seen: list[tuple[int, int]]) -> int:
        """Return how many entries came that are no mere filling up; 0 when it does not grow on."""
        if len(seen) < _LOOKS_MIN:
            return 0
        (calls_first, first), (calls_last, last) = seen[0], seen[-1]
        if last <= first or calls_last <= calls_first:
            return 0
        ends = [seen[(len(seen) - 1) * part // _PARTS] for part in range(_PARTS + 1)]
        pairs = list(pairwise(ends))
        if any(now[1] <= was[1] for was, now in pairs):
            return 0
        (calls_was, was), (calls_now, now) = pairs[-1]
        late = (now - was) / max(calls_now - calls_was, 1)
        if late < (last - first) / (calls_last - calls_first) / 2:
            return 0
        return last - max(first, self._before.get(place, 0))


class _Walk:
    """One walk over what can be reached, each thing met once."""

    def __init__(self, declared: Iterable[Any]) -> None:
        self._met = {id(one) for one in declared}

    def all(self, spaces: Iterable[Space]) -> Iterator[tuple[str, int, Any]]:
        """Yield place, length and the container itself."""
        waiting: collections.deque[tuple[str, Any, int]] = collections.deque(
            (pattern.format(name), value, 0)
            for pattern, space in spaces
            for name, value in list(space.items())
            if not name.startswith(_HIDDEN)
        )
        left = _LOOKED_AT_MAX
        while waiting and left:
            place, value, depth = waiting.popleft()
            if id(value) in self._met or type(value) in _PLAIN:
                continue
            self._met.add(id(value))
            left -= 1
            try:
                length = _length(value)
                within = list(_within(place, value)) if depth < _DEPTH_MAX else []
            except Exception:  # noqa: S112 - other people's objects may raise at being looked at
                continue
            waiting.extend((inner, one, depth + 1) for inner, one in within)
            if length is not None:
                yield f"{place} ({_kind(value)})", length, value


def _length(value: Any) -> int | None:
    """Return how long a container is; None for what is none, or has a limit of its own."""
    if isinstance(value, _LruCache):
        facts = value.cache_info()
        return facts.currsize if facts.maxsize is None else None
    if isinstance(value, _SIZED) and getattr(value, "maxlen", None) is None:
        return len(value)
    return None


def _kind(value: Any) -> str:
    if isinstance(value, _LruCache):
        return "a cache without a limit"
    return f"a {type(value).__name__}"


def _within(place: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield what lies one step further, with its place."""
    match value:
        case types.FunctionType():
            yield from _kept_by(place, value)
        case _LruCache():
            yield from _within(place, value.__wrapped__)
        case type():
            yield from _in_class(value)
        case dict() if len(value) <= _WALKED_INTO_MAX:
            yield from ((f"{place}[{key!r:.30}]", one) for key, one in list(value.items()))
        case list() | tuple() if len(value) <= _WALKED_INTO_MAX:
            yield from ((f"{place}[{n}]", one) for n, one in enumerate(list(value)))
        case _ if not _is_others(value):
            held = inspect.getattr_static(value, "__dict__", None) is not None
            for name, one in list(vars(value).items()) if held else ():
                yield f"{place}.{name}", one


def _in_class(owner: type) -> Iterator[tuple[str, Any]]:
    if "@" in owner.__module__:  # one of the module's own
        for name, one in list(vars(owner).items()):
            if not name.startswith(_HIDDEN):
                yield f"{owner.__qualname__}.{name}", one


def _kept_by(place: str, function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    """Yield what a function keeps between its calls."""
    if "@" not in (function.__module__ or ""):
        return
    called = function.__qualname__
    for one in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
        yield f"a default of {called}", one
    cells = function.__closure__ or ()
    for name, cell in zip(function.__code__.co_freevars, cells, strict=True):
        try:
            yield f"{name} in the closure of {called}", cell.cell_contents
        except ValueError:  # empty still
            continue
    yield from ((f"{place}.{name}", one) for name, one in vars(function).items())


def _is_others(value: Any) -> bool:
    """Tell what is not looked into: the runtime, Python's own things, what runs."""
    module = type(value).__module__
    own = module.partition(".")[0]
    return isinstance(value, _SHARED) or own in ("replank", "asyncio", "builtins", "logging")


def _held(value: Any, entries: int) -> int:
    """Estimate what the newest entries of a container hold."""
    if isinstance(value, bytearray):
        return entries
    if isinstance(value, _LruCache):
        inner = (one for one in gc.get_referents(value) if isinstance(one, dict))
        value = max(inner, key=len, default={})
    newest = list(islice(_newest(value), _SAMPLE))
    if not newest:
        return 0
    # Each entry has its place in the container, too.
    place = sys.getsizeof(value) / max(len(value), 1)
    return int((_deep(newest) / len(newest) + place) * entries)


def _newest(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from reversed(value.items())
    elif isinstance(value, list | collections.deque):
        yield from reversed(value)
    else:
        yield from value  # a set has no order


def _deep(values: list[Any]) -> int:
    """Return the bytes of some objects and all that they own, each counted once."""
    met: set[int] = {id(values)}
    waiting = list(values)
    size = 0
    while waiting and len(met) < _SAMPLE_OBJECTS_MAX:
        one = waiting.pop()
        if id(one) in met or isinstance(one, _SHARED):
            continue
        met.add(id(one))
        size += sys.getsizeof(one)
        waiting.extend(gc.get_referents(one))
    return size


__all__ = ["Grown", "Growth", "Space", "read_sizes"]
