"""Where in a tree an operation works: dotted from the state, `*` for every key or item."""

from __future__ import annotations

import collections
import re
from collections.abc import Iterator
from typing import Any

from replank.errors import MigrationError, SchemaError
from replank.plain import ITEMS_KEY, SCALAR_TYPES, TYPE_KEY, show

Location = tuple[Any, ...]
"""The keys that lead to a node. An item of a list counts by its content: items move."""

_SEGMENT = re.compile(r"\*|[^\W\d]\w*|\d+")


def parse(path: str) -> tuple[str, ...]:
    """Split a path into its segments.

    Args:
        path: Such as "accounts.*.cents"; "" is the state itself.

    Raises:
        SchemaError: It is no path.
    """
    if path == "":
        return ()
    segments = tuple(path.split(".")) if isinstance(path, str) else ()
    if not segments or not all(_SEGMENT.fullmatch(segment) for segment in segments):
        raise SchemaError(
            "a migration step names something that is no path",
            found=repr(path),
            expected='a dotted path such as "accounts.*.cents"',
        )
    return segments


def parse_field(path: str) -> tuple[tuple[str, ...], str]:
    """Split a path into the way to the parent and the name of a field.

    Raises:
        SchemaError: The path ends in `*` or is empty.
    """
    segments = parse(path)
    if not segments or segments[-1] == "*" or segments[-1].isdigit():
        raise SchemaError(
            "a migration step must name a field here",
            found=repr(path),
            expected='a path that ends in a name, such as "accounts.*.cents"',
        )
    return segments[:-1], segments[-1]


def parse_name(name: str) -> str:
    """Check that a text is a plain field name.

    Raises:
        SchemaError: It is not.
    """
    if not isinstance(name, str) or not name.isidentifier():
        raise SchemaError(
            "a migration step must give a plain field name here",
            found=repr(name),
            expected='a name without dots, such as "amount"',
        )
    return name


def shown(location: Location) -> str:
    """Say a location as an author would write it: `accounts['ada'].cents`."""
    text = ""
    for n, key in enumerate(location):
        if isinstance(key, _Item):
            text += f"[{key.index}]"
        elif isinstance(key, str) and key.isidentifier() and (n == 0 or n % 2 == 0):
            text += f".{key}" if text else key
        else:
            text += f"[{show(key, 40)}]"
    return text or "the state"


class _Item:
    """A list item in a location: equal when the content is."""

    __slots__ = ("content", "index")

    def __init__(self, index: int, content: Any) -> None:
        self.index = index
        self.content = content

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Item) and self.content == other.content

    def __hash__(self) -> int:
        return hash(self.content)


def item_key(index: int, item: Any, own: frozenset[str]) -> _Item:
    """Return what stands for a list item in a location.

    Args:
        index: Where it is now.
        item: The item.
        own: Fields that the operation itself changes: they do not count.
    """
    if isinstance(item, dict):
        parts = [
            (name, value)
            for name, value in item.items()
            if value.__class__ in SCALAR_TYPES and name not in own
        ]
        return _Item(index, tuple(sorted(parts, key=repr)))
    return _Item(index, index)


def item_parts(key: Any) -> tuple[int, Any] | None:
    """Return what a list item's key in a location consists of; None for any other key."""
    return (key.index, key.content) if isinstance(key, _Item) else None


def item_at(index: int, content: Any) -> Any:
    """Return a list item's key from its parts."""
    return _Item(index, content)


def nodes(
    tree: Any, segments: tuple[str, ...], own: frozenset[str] = frozenset()
) -> Iterator[tuple[Any, Location]]:
    """Yield every node that a path leads to, with its location; None on the way is passed over.

    Args:
        tree: Where the path begins.
        segments: The path.
        own: Fields that the operation changes, see `item_key`.

    Raises:
        MigrationError: The path leads through something without fields or items.
    """
    return _nodes(tree, segments, 0, (), own)


def _nodes(
    node: Any, segments: tuple[str, ...], depth: int, location: Location, own: frozenset[str]
) -> Iterator[tuple[Any, Location]]:
    if node is None and depth:
        return
    if depth == len(segments):
        yield node, location
        return
    segment = segments[depth]
    if segment == "*":
        yield from _items(node, segments, depth + 1, location, own)
    elif isinstance(node, dict):
        if segment in node:
            yield from _nodes(node[segment], segments, depth + 1, (*location, segment), own)
        elif TYPE_KEY not in node:
            raise no_field(segment, node, location)
    elif segment.isdigit() and isinstance(node, list | tuple) and int(segment) < len(node):
        index = int(segment)
        yield from _nodes(node[index], segments, depth + 1, (*location, index), own)
    else:
        raise no_field(segment, node, location)


def _items(
    node: Any, segments: tuple[str, ...], depth: int, location: Location, own: frozenset[str]
) -> Iterator[tuple[Any, Location]]:
    for key, item in children(node, own, location):
        if depth < len(segments):
            yield from _nodes(item, segments, depth, (*location, key), own)
        elif item is not None:  # a generator for each record would cost more than its change
            yield item, (*location, key)


def children(node: Any, own: frozenset[str], location: Location) -> list[tuple[Any, Any]]:
    """List key and item of everything in a container.

    Raises:
        MigrationError: It is no container.
    """
    if isinstance(node, dict):
        kind = node.get(TYPE_KEY)
        if kind == "$map":
            return [(show(key), item) for key, item in node["pairs"]]
        if kind == "$set":
            return [(item_key(n, item, own), item) for n, item in enumerate(node["items"])]
        if kind is not None and ITEMS_KEY in node:
            return children(node[ITEMS_KEY], own, location)
        if kind is None:
            return list(node.items())
    elif isinstance(node, list | tuple | collections.deque):
        return [(item_key(n, item, own), item) for n, item in enumerate(node)]
    elif isinstance(node, set | frozenset):
        return [(item, item) for item in node]
    raise MigrationError(
        f"a step goes through every item of {shown(location)}, which has none",
        found=show(node),
        expected="a dict, Table, list, tuple, deque or set",
    )


def no_field(name: str, node: Any, location: Location) -> MigrationError:
    """Return the error for a path that leads to a field which a node does not have."""
    known = ", ".join(map(str, node)) if isinstance(node, dict) else show(node)
    return MigrationError(
        f"a step names {name!r}, which {shown(location)} does not have",
        found=known or "nothing",
        expected=f"a field {name!r}",
    ).at("", (*location, name))


__all__ = [
    "Location",
    "children",
    "item_at",
    "item_key",
    "item_parts",
    "no_field",
    "nodes",
    "parse",
    "parse_field",
    "parse_name",
    "shown",
]
