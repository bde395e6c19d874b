"""Functions and classes of other Python modules that importing a candidate has replaced.

The child process of the probe looks at the modules that the candidate's source imports, and at
those which stand in them (`os.path`), before and after; all modules of the process would cost more
than the whole probe. In the host only the few places that the child has named are looked at.
Methods of others' classes are not looked for, nor what is replaced later than at import.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import re
import sys
import types
from collections.abc import Iterable, Iterator, Mapping
from operator import is_
from typing import Any, Final

from replank.hints import is_private
from replank.verification.ownership import Owner
from replank.verification.surroundings import MISSING, Change

_IMPORT: Final = re.compile(r"^[ \t]*(?:from|import)[ \t]+([\w.]+)", re.MULTILINE)

Callables = Mapping[str, Mapping[str, Any]]
"""The names of each module, with those of what cannot be called."""


def imported_by(sources: Iterable[str]) -> frozenset[str]:
    """Return the modules that some source files import by name, and Python's built-ins.

    Args:
        sources: Their text.
    """
    return frozenset({"builtins", *(name for text in sources for name in _IMPORT.findall(text))})


def callables_now(names: Iterable[str]) -> Callables:
    """Return what can be called in each of some modules and those in them, by module name.

    Args:
        names: Of modules; those that are not imported are left out.
    """
    modules = [one for name in names if (one := sys.modules.get(name)) is not None]
    modules += [
        value
        for one in modules
        for value in list(vars(one).values())
        if type(value) is types.ModuleType and sys.modules.get(value.__name__) is value
    ]
    # Copied whole: to look at each of some thousand values costs more than to keep them.
    return {one.__name__: vars(one).copy() for one in modules if not is_private(one.__name__)}


def patched(names: Iterable[str], before: Callables, owner: Owner) -> tuple[str, ...]:
    """Return what was replaced since, as "json.dumps".

    Args:
        names: Of the modules to look at.
        before: The same at an earlier moment.
        owner: The candidate. In modules that were imported only since, what it put there counts.
    """
    found: set[str] = set()
    for name, after in callables_now(names).items():
        were = before.get(name, {})
        if not _is_same(were, after):
            found.update(f"{name}.{key}" for key in _replaced(were, after, owner))
    return tuple(sorted(found))


def untouched(names: Iterable[str], before: Callables) -> bool:
    """Tell whether nothing at all was put into some modules, or taken out, since.

    Args:
        names: Of the modules to look at.
        before: The same at an earlier moment.
    """
    now = callables_now(names)
    return now.keys() == before.keys() and all(_is_same(before[name], now[name]) for name in now)


def _is_same(were: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Tell whether each name stands for the same thing, in the same order."""
    return were.keys() == after.keys() and all(map(is_, were.values(), after.values()))


def _replaced(were: Mapping[str, Any], after: Mapping[str, Any], owner: Owner) -> Iterator[str]:
    """Yield the names of what can be called, or could, and was replaced or taken away."""
    could = {key: value for key, value in were.items() if callable(value)}
    can = {key: value for key, value in after.items() if callable(value)}
    yield from could.keys() - can.keys()
    for key, value in can.items():
        if _is_replaced(could.get(key), value, owner):
            yield key


def read_places(places: Iterable[str]) -> dict[str, Any]:
    """Return what stands there; a module that is not there yet is imported.

    Args:
        places: As "json.dumps".
    """
    found = {}
    for place in places:
        name, _, key = place.rpartition(".")
        with contextlib.suppress(Exception):  # the candidate's import will say what is wrong
            found[place] = vars(importlib.import_module(name)).get(key, MISSING)
    return found


def place_changes(before: Mapping[str, Any]) -> Iterator[Change]:
    """Yield what became different there.

    Args:
        before: What stood there, by place.
    """
    for place, was in before.items():
        name, _, key = place.rpartition(".")
        space = vars(sys.modules[name])
        if (now := space.get(key, MISSING)) is not was:
            yield Change(
                place,
                functools.partial(_put_back, space, key, was, now),
                (now,),
                functools.partial(_stands, space, key, now),
            )


def _put_back(space: dict[str, Any], key: str, was: Any, now: Any) -> bool:
    if not _stands(space, key, now):
        return False
    if was is MISSING:
        space.pop(key, None)
    else:
        space[key] = was
    return True


def _stands(space: dict[str, Any], key: str, now: Any) -> bool:
    return space.get(key, MISSING) is now


def _is_replaced(was: Any, value: Any, owner: Owner) -> bool:
    return value is not was and (was is not None or owner.owns(value))


__all__ = ["callables_now", "imported_by", "patched", "place_changes", "read_places", "untouched"]
