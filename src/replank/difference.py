"""What changed between two shapes of a state, line by line.

A difference is *safe* when every old value is, or becomes without a decision of the author, a
good new value: a field added with a default, a widened type, another order. All else needs a
step. Paths are those of migration steps: dotted from the state, `*` for every key or item.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator

import msgspec

from replank.hints import MAPPINGS, SEQUENCES, SETS
from replank.shapes import CONTAINER_KINDS, Field, Schema, Shape, title

_WIDER = frozenset({("int", "float"), ("bool", "int"), ("bool", "float")})


class Change(enum.StrEnum):
    """The kind of one difference."""

    ADDED = "added"
    REMOVED = "removed"
    RETYPED = "retyped"
    KEYS_RETYPED = "keys_retyped"
    WIDENED = "widened"
    RENAMED_TYPE = "renamed_type"
    DEFAULT_CHANGED = "default_changed"
    CONSTRAINTS_CHANGED = "constraints_changed"
    MEMBERS_CHANGED = "members_changed"


class Difference(msgspec.Struct, frozen=True):
    """One difference between two schemas.

    `text` is the line to show; `old` and `new` are the shapes where there are both.
    """

    path: str
    kind: Change
    text: str
    safe: bool
    old: Shape | None = None
    new: Shape | None = None
    field: Field | None = None
    """The added or removed field."""


def difference(old: Schema, new: Schema) -> tuple[Difference, ...]:
    """Compare two schemas.

    Args:
        old: The schema of the state as it is.
        new: The schema of the code that shall take it.

    Returns:
        What changed, in the order of the new fields, removed ones last; nothing for a change of
        order alone.
    """
    return tuple(_Comparison(old, new).fields("", old.fields, new.fields))


class _Comparison:
    def __init__(self, old: Schema, new: Schema) -> None:
        self.old = old
        self.new = new
        self.open: set[tuple[str, str]] = set()  # record pairs on the way down: ends recursion

    def fields(
        self, prefix: str, old: tuple[Field, ...], new: tuple[Field, ...]
    ) -> Iterator[Difference]:
        before = {field.name: field for field in old}
        for field in new:
            path = f"{prefix}{field.name}"
            if (was := before.pop(field.name, None)) is not None:
                yield from self.shapes(path, was.shape, field.shape)
                yield from _compare_defaults(path, was, field)
            else:
                yield _added(path, field)
        for field in before.values():
            path = f"{prefix}{field.name}"
            text = f"{path} removed (was {field.shape})"
            yield Difference(path, Change.REMOVED, text, safe=False, old=field.shape, field=field)

    def shapes(self, path: str, old: Shape, new: Shape) -> Iterator[Difference]:  # noqa: C901 - one line a kind
        if old.kind == "unknown":  # what a step made of it: building the new value checks it
            return
        if old.kind == "record" and new.kind == "record":
            yield from self.records(path, old, new)
        elif "union" in (old.kind, new.kind) and new.kind != "any":
            yield from self.unions(path, old, new)
        elif old == new:
            yield from self.items(path, old, new)
        elif _same_family(old.kind, new.kind):
            if old.kind != new.kind:
                yield _changed(path, Change.WIDENED, old, new, safe=True)
            yield from self.items(path, old, new)
        elif old.kind == new.kind == "tuple" and len(old.items) == len(new.items):
            safe = old.variable == new.variable or new.variable
            if old.variable != new.variable:
                yield _changed(path, Change.RETYPED, old, new, safe=safe)
            yield from self.items(path, old, new)
        elif _same_but_constraints(old, new):
            yield _changed(path, Change.CONSTRAINTS_CHANGED, old, new, safe=True)
        elif old.kind == new.kind and old.kind in ("enum", "flag", "literal", "object"):
            yield _compare_members(path, old, new)
        else:
            safe = self.accepts(old, new)
            yield _changed(path, Change.WIDENED if safe else Change.RETYPED, old, new, safe=safe)

    def records(self, path: str, old: Shape, new: Shape) -> Iterator[Difference]:
        pair = (old.name, new.name)
        if pair in self.open:
            return
        self.open.add(pair)
        before, after = self.old.records[old.name].fields, self.new.records[new.name].fields
        inner = list(self.fields(f"{path}.", before, after))
        if title(old.name) != title(new.name):
            # A renamed type is told from another type by its fields: the same ones, or it is
            # taken for a change of type that needs a step.
            same = not any(d.kind in (Change.ADDED, Change.REMOVED) for d in inner)
            yield _changed(path, Change.RENAMED_TYPE, old, new, safe=same)
        yield from inner
        self.open.discard(pair)

    def items(self, path: str, old: Shape, new: Shape) -> Iterator[Difference]:
        if new.kind in MAPPINGS and old.kind in MAPPINGS:
            key_old, value_old = old.items
            key_new, value_new = new.items
            if key_old != key_new:
                safe = self.accepts(key_old, key_new)
                kind = Change.WIDENED if safe else Change.KEYS_RETYPED
                text = f"{path}: keys {key_old} -> {key_new}"
                yield Difference(path, kind, text, safe=safe, old=key_old, new=key_new)
            yield from self.shapes(f"{path}.*", value_old, value_new)
            return
        fixed = new.kind == "tuple" and not new.variable
        for index, (one, other) in enumerate(zip(old.items, new.items, strict=False)):
            yield from self.shapes(f"{path}.{index if fixed else '*'}", one, other)

    def unions(self, path: str, old: Shape, new: Shape) -> Iterator[Difference]:
        """Compare member by member, and say whether the new one allows all of the old."""
        before = list(old.items) if old.kind == "union" else [old]
        after = list(new.items) if new.kind == "union" else [new]
        inner: list[Difference] = []
        for one, other in _pairs(before, after):
            inner.extend(self.shapes(path, one, other))
            before.remove(one)
            after.remove(other)
        members = new.items if new.kind == "union" else (new,)
        safe = all(any(self.accepts(shape, n) for n in members) for shape in before)
        if before or after:
            kind = Change.WIDENED if safe else Change.RETYPED
            yield _changed(path, kind, old, new, safe=safe)
        yield from inner

    def accepts(self, old: Shape, new: Shape) -> bool:  # noqa: PLR0911 - one rule a line
        """Tell whether every old value is a new value."""
        if new.kind == "any" or old.kind == "unknown" or (old == new and not self._records_in(old)):
            return True
        if new.kind == "union":
            members = old.items if old.kind == "union" else (old,)
            return all(any(self.accepts(m, n) for n in new.items) for m in members)
        if old.kind == "union":
            return all(self.accepts(member, new) for member in old.items)
        if (old.kind, new.kind) in _WIDER or _same_but_constraints(old, new):
            return True
        if old.kind == "literal":
            if new.kind == "literal":
                return set(map(repr, old.values)) <= set(map(repr, new.values))
            names = {"none" if v is None else type(v).__name__ for v in old.values}
            return names == {new.kind}
        return not any(not found.safe for found in self._within(old, new))

    def _within(self, old: Shape, new: Shape) -> Iterator[Difference]:
        comparable = old.kind == new.kind or _same_family(old.kind, new.kind)
        tuples = old.kind == new.kind == "tuple"
        if not comparable or (tuples and len(old.items) != len(new.items)):
            yield _changed("", Change.RETYPED, old, new, safe=False)
        elif old.kind in (*CONTAINER_KINDS, "record", "enum", "flag", "object"):
            yield from self.shapes("", old, new)

    def _records_in(self, shape: Shape) -> bool:
        return shape.kind == "record" or any(self._records_in(item) for item in shape.items)


def _pairs(before: list[Shape], after: list[Shape]) -> list[tuple[Shape, Shape]]:
    """Pair the members of two unions: equal ones, the same name, else the only one of its kind."""
    pairs = [(one, one) for one in before if one in after]
    for one in before:
        if one in after:
            continue
        rest = [n for n in after if n.kind == one.kind and n not in before]
        same = [n for n in rest if n.name == one.name]
        alone = len([b for b in before if b.kind == one.kind and b not in after]) == 1
        if len(same) == 1:
            pairs.append((one, same[0]))
        elif alone and len(rest) == 1 and one.kind not in ("enum", "flag"):
            pairs.append((one, rest[0]))
    return pairs


def _same_family(old: str, new: str) -> bool:
    """Tell whether containers hold the same items, so that one is filled from the other."""
    if old == new == "tuple":
        return False
    return any(old in family and new in family for family in (MAPPINGS, SETS)) or (
        {old, new} <= SEQUENCES - {"tuple"}
    )


def _same_but_constraints(old: Shape, new: Shape) -> bool:
    bare = msgspec.structs.replace(old, constraints={})
    return old != new and bare == msgspec.structs.replace(new, constraints={})


def _compare_members(path: str, old: Shape, new: Shape) -> Difference:
    if old.kind == "object":
        return _changed(path, Change.RENAMED_TYPE, old, new, safe=False)
    if old.kind == "literal":
        safe = set(map(repr, old.values)) <= set(map(repr, new.values))
        return _changed(path, Change.WIDENED if safe else Change.RETYPED, old, new, safe=safe)
    gone = [name for name in old.members if name not in new.members]
    came = [name for name in new.members if name not in old.members]
    moved = [n for n, value in old.members.items() if n in new.members and new.members[n] != value]
    parts = [f"member {name} removed" for name in gone] + [f"member {name} added" for name in came]
    parts += [f"{name} = {old.members[name]!r} -> {new.members[name]!r}" for name in moved]
    parts += [f"called {new.name}"] if old.name != new.name else []
    # Members are kept by name, so a changed value is harmless, except in a Flag, whose
    # combinations have no name.
    safe = not gone and not (old.kind == "flag" and moved)
    text = f"{path}: {old.name} {', '.join(parts)}"
    return Difference(path, Change.MEMBERS_CHANGED, text, safe=safe, old=old, new=new)


def _compare_defaults(path: str, old: Field, new: Field) -> Iterator[Difference]:
    def told(field: Field) -> str:
        return "none" if field.required else field.default_text()

    if old.optional and not new.optional and new.required:
        text = f"{path} is now required (it could be absent)"
        yield Difference(path, Change.RETYPED, text, safe=False, old=old.shape, new=new.shape)
    elif told(old) != told(new):
        text = f"{path}: default {told(old)} -> {told(new)}"
        yield Difference(
            path, Change.DEFAULT_CHANGED, text, safe=True, old=old.shape, new=new.shape
        )


def _added(path: str, field: Field) -> Difference:
    if field.required:
        text = f"{path} added ({field.shape}, no default)"
    elif field.optional:
        text = f"{path} added ({field.shape}, may be absent)"
    else:
        text = f"{path} added ({field.shape} = {field.default_text()})"
    safe = not field.required
    return Difference(path, Change.ADDED, text, safe=safe, new=field.shape, field=field)


def _changed(path: str, kind: Change, old: Shape, new: Shape, *, safe: bool) -> Difference:
    if kind is Change.CONSTRAINTS_CHANGED:
        text = f"{path}: constraints {old.constraints} -> {new.constraints} (values are checked)"
    else:
        text = f"{path}: {old} -> {new}"
    return Difference(path, kind, text, safe=safe, old=old, new=new)


__all__ = ["Change", "Difference", "difference"]
