"""Objects that a state refers to more than once, where its records travel one by one.

A record of a large table becomes a new one on its own, so what else refers to it has to be told
which one that is. Three cases:

- one record under several keys or in several tables: the mirrors see to it (`Family`);
- a record that the small state refers to, too: its copy there is marked with the new record, and
  `seeds` makes the small state refer to that one;
- a part (a record or list inside a record) that something else holds as well: nothing can be done
  in slices. `PartsShared` says so, and the whole state has to be copied at once.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any

from replank.errors import MigrationError
from replank.plain import TWIN_KEY, Opaque
from replank.state.layers import MISSING, SHARDS
from replank.state.memo import Memo
from replank.state.mirror import Family, Mirror


class PartsShared(MigrationError):
    """Records that travel one by one would be parted from what they share."""


def parts_shared_steps(module: str, family: Family) -> Generator[None, None, None]:
    """Look for parts that two records hold, in small steps, when everything was copied once.

    Args:
        module: The module's name.
        family: The mirrors of its tables.

    Raises:
        PartsShared: There is one.
    """
    mirrors = [mirror for mirror in family.mirrors if mirror.watch.has_parts]
    for index in range(SHARDS):
        for mirror in mirrors:
            for number in mirror.watch.parts.several(index):
                _refuse_if_shared(module, [mirror], number)
            for found in _elsewhere(family, mirror, index):
                for number in mirror.watch.parts.at(index).keys() & found.keys():
                    _refuse_if_shared(module, family.mirrors, number)
        yield


def _elsewhere(family: Family, mirror: Mirror, index: int) -> Iterable[dict[int, Any]]:
    """Yield where else a table's parts may lie: as records anywhere, as other tables' parts."""
    for other in family.mirrors:
        yield other.watch.places.at(index)
        if other is not mirror:
            yield other.watch.parts.at(index)


def _refuse_if_shared(module: str, mirrors: list[Mirror], number: int) -> None:
    """Refuse a part by its id, if it is where the notes say: they may be out of date."""
    holders: dict[int, Any] = {}
    part = None
    for mirror in mirrors:
        for key in mirror.watch.places.keys_at(number):
            if id(mirror.look(key)) == number:
                holders[number] = key
        for key in mirror.watch.parts.keys_at(number):
            owner = mirror.look(key)
            found = _part(mirror, key, number)
            if found is not None:
                part, holders[id(owner)] = found, key
    if part is not None and len(holders) > 1:
        one, other, *_ = holders.values()
        raise _shared(module, f"the records {one!r} and {other!r}", part)


def _part(mirror: Mirror, key: Any, number: int) -> Any:
    """Return what a key's record holds inside under an id, or None."""
    value = mirror.look(key)
    return None if value is MISSING else mirror.watch.part(value, number)


def _shared(module: str, who: str, part: Any) -> PartsShared:
    return PartsShared(
        f"{who} hold the same object, and would each get one of their own",
        module=module,
        found=f"one {type(part).__qualname__} in both",
        expected="records that share nothing which can change, when they are copied one by one",
        do="refer to it by its key, make its class frozen, or reload with the mode eager, which "
        "copies everything in the pause",
    )


class Twins:
    """Marks what the small state and the large tables have in common.

    Args:
        module: The module's name.
        mirrors: Returns those of its tables.
    """

    def __init__(self, module: str, mirrors: Callable[[], Iterable[Mirror]]) -> None:
        self._module = module
        self._mirrors = mirrors
        self._marks: dict[int, Opaque] = {}
        """By the new record's id: the same mark each time, so that trees can be compared."""

    def mark(self, tree: Any, met: Memo) -> bool:
        """Mark each node that was made of a large table's record; return whether there is one.

        Args:
            tree: The small state, taken apart.
            met: The memo with which that was done: its nodes by their objects' ids.

        Raises:
            PartsShared: The small state holds a part of a record.
        """
        found = False
        parts: dict[int, PartsShared] = {}
        for mirror in self._mirrors():
            for number, node in met.items():
                if number <= 0:  # not an object's
                    continue
                if mirror.watch.has_parts:
                    parts |= self._parts(mirror, number, node)
                for key in mirror.watch.places.keys_at(number):
                    if id(mirror.look(key)) == number:
                        found = self._mark(node, mirror.twin(key)) or found
        if parts:  # they may be there as parts of a marked record only
            for number in _walk(tree):
                if number in parts:
                    raise parts[number]
        return found

    def _parts(self, mirror: Mirror, number: int, node: Any) -> dict[int, PartsShared]:
        """Return what to say if a node is there on its own that was made of a record's part."""
        for key in mirror.watch.parts.keys_at(number):
            part = _part(mirror, key, number)
            if part is not None:
                who = f"the record {key!r} and another field"
                return {id(node): _shared(self._module, who, part)}
        return {}

    def _mark(self, node: Any, twin: Any) -> bool:
        if twin is MISSING or node.__class__ is not dict:
            return False
        node[TWIN_KEY] = self._marks.setdefault(id(twin), Opaque(twin))
        return True


def seeds(tree: Any) -> Memo:
    """Return the marked nodes of a tree, by their ids: what each of them is.

    Args:
        tree: A state without classes; steps may have changed it since it was marked.
    """
    found: Memo = {}
    for _ in _walk(tree, found):
        pass
    return found


def _walk(tree: Any, marked: Memo | None = None) -> Iterator[int]:
    """Yield the ids of a tree's containers, but not of what is in a marked node.

    Args:
        tree: A state without classes.
        marked: Filled with the marked nodes.
    """
    met: set[int] = set()
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        number = id(node)
        if number in met or not isinstance(node, dict | list | tuple | collections.deque):
            continue
        met.add(number)
        mark = node.get(TWIN_KEY) if isinstance(node, dict) else None
        if mark.__class__ is Opaque:
            if marked is not None:
                marked[number] = mark.value
            continue
        yield number
        waiting += node.values() if isinstance(node, dict) else node


__all__ = ["PartsShared", "Twins", "parts_shared_steps", "seeds"]
