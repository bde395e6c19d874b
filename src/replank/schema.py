"""The shape of a module's state, read from annotations; its fingerprint.

A schema is plain data without classes: it can be stored in the journal, compared with the schema
of another generation, and read by a program that does not have the module's code.

Rules:
- Record types are described once, by name, so that recursive types end.
- The fingerprint ignores the order of fields, the schema number, and the private name of the
  generation, so the same source has the same fingerprint in every generation.
- A record's flavour (Struct, dataclass, TypedDict ...) is no part of its shape: it is the same
  tree in a snapshot.
- What has no shape is carried by identity; one such type anywhere in a field's annotation means
  that the whole field is carried.
"""

from __future__ import annotations

import enum
import inspect
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, get_origin

import msgspec

from replank.difference import Change, Difference, difference
from replank.errors import SchemaError
from replank.hints import (
    NO_DEFAULT,
    Form,
    FormField,
    is_private,
    read_form,
    record_fields,
)
from replank.module import UsesMark
from replank.shapes import CONTAINER_KINDS, Field, RecordShape, Schema, Shape, make_schema

_LIMITS = ("ge", "gt", "le", "lt", "multiple_of", "pattern", "min_length", "max_length")


def read_schema(
    hints: Mapping[str, Any],
    defaults: Mapping[str, Any],
    *,
    version: int,
    where: str,
    own: Callable[[type], bool] | None = None,
) -> tuple[Schema, tuple[str, ...]]:
    """Read the shape of a module's state from its annotations.

    Args:
        hints: Resolved hint of each state field, in order.
        defaults: Default of each field that has one.
        version: The author's schema number.
        where: Name of the module or class, for errors.
        own: Tells whether a class without a schema belongs to the module, so that its objects
            are moved to the new generation's class rather than carried; by default: whether it
            lives under a private module name (`ledger@7`).

    Returns:
        The schema, and the names of the fields that are carried by identity.

    Raises:
        SchemaError: Two record types have the same name.
        DefinitionError: An annotation of a record type cannot be resolved.
    """
    reader = _Reader(where, own or (lambda cls: is_private(cls.__module__)))
    fields: list[Field] = []
    carried: list[str] = []
    for name, hint in hints.items():
        if isinstance(defaults.get(name), UsesMark) or _is_marked(hint, "uses"):
            continue
        if get_origin(hint) is ClassVar or hint is ClassVar:
            continue
        shape = reader.try_shape(hint)
        if shape is None:
            carried.append(name)
            continue
        default = defaults.get(name, NO_DEFAULT)
        # A container without a default starts empty: `accounts: Table[str, Account]`.
        empty = default is NO_DEFAULT and shape.kind in CONTAINER_KINDS
        fields.append(_describe(FormField(name, hint, default, dict if empty else None), shape))
    return make_schema(version, tuple(fields), reader.used(fields)), tuple(carried)


def _is_marked(hint: Any, kind: str) -> bool:
    return read_form(hint).kind == kind


class _Foreign(Exception):
    """The annotation contains a type without a schema."""


class _Reader:
    """Walks hints down to their leaves and collects the record types on the way."""

    def __init__(self, where: str, own: Callable[[type], bool]) -> None:
        self.where = where
        self.own = own
        self.records: dict[str, RecordShape] = {}
        self.classes: dict[str, Any] = {}
        self.foreign: set[Any] = set()

    def try_shape(self, hint: Any) -> Shape | None:
        before = set(self.classes)
        try:
            return self.shape(hint)
        except _Foreign:
            # Records met on the way to a foreign type must not look as if they were described.
            for name in set(self.classes) - before:
                self.classes.pop(name)
                self.records.pop(name, None)
            return None

    def shape(self, hint: Any) -> Shape:
        form = read_form(hint)
        shape = self._shape(form)
        if not form.constraints:
            return shape
        limits = {
            name: value
            for meta in form.constraints
            for name in _LIMITS
            if (value := getattr(meta, name)) is not None
        }
        return msgspec.structs.replace(shape, constraints=limits) if limits else shape

    def _shape(self, form: Form) -> Shape:  # noqa: PLR0911 - one line a kind
        kind = form.kind
        if kind in ("carry", "uses", "foreign"):
            if kind == "foreign" and isinstance(form.cls, type) and self.own(form.cls):
                return Shape("object", name=form.cls.__qualname__)
            raise _Foreign
        if kind == "record":
            return self._record(form.cls)
        if kind == "object":
            if not self.own(form.cls):
                raise _Foreign
            return Shape("object", name=form.cls.__qualname__)
        if kind == "literal":
            return Shape(kind, values=tuple(sorted((plain(v) for v in form.values), key=repr)))
        if kind in ("enum", "flag"):
            members = {n: plain(m.value) for n, m in sorted(form.cls.__members__.items())}
            return Shape(kind, name=form.cls.__qualname__, members=members)
        if kind == "union":
            return self._union(form)
        items = tuple(self.shape(arg) for arg in form.args)
        return Shape(kind, items, variable=form.variable)

    def _union(self, form: Form) -> Shape:
        members: dict[str, Shape] = {}
        for arg in form.args:
            shape = self.shape(arg)
            for member in shape.items if shape.kind == "union" else (shape,):
                members[repr(member)] = member
        if any(member.kind == "any" for member in members.values()):
            return Shape("any")
        ordered = tuple(members[key] for key in sorted(members))
        return ordered[0] if len(ordered) == 1 else Shape("union", ordered)

    def _record(self, cls: Any) -> Shape:
        name = cls.__qualname__
        known = self.classes.get(name)
        if known is None:
            self.classes[name] = cls
            fields = tuple(
                _describe(field, self.shape(field.hint))
                for field in record_fields(cls)
                if get_origin(field.hint) is not ClassVar
            )
            self.records[name] = RecordShape(name, fields)
        elif known is not cls:
            raise SchemaError(
                f"two record types of the state of {self.where} are both called {name}",
                found=f"{known.__module__}.{name} and {cls.__module__}.{name}",
                expected="one name for one type",
                do="rename one of them",
            )
        return Shape("record", name=name)

    def used(self, fields: list[Field]) -> dict[str, RecordShape]:
        """Keep only the record types that the fields reach."""
        reached: dict[str, RecordShape] = {}
        waiting = [field.shape for field in fields]
        while waiting:
            shape = waiting.pop()
            waiting.extend(shape.items)
            if shape.kind == "record" and shape.name not in reached:
                record = self.records[shape.name]
                reached[shape.name] = record
                waiting.extend(field.shape for field in record.fields)
        return reached


def _describe(field: FormField, shape: Shape) -> Field:
    if field.optional:
        return Field(field.name, shape, optional=True)
    if field.factory is not None:
        return Field(field.name, shape, factory=True)
    if field.default is NO_DEFAULT:
        return Field(field.name, shape, required=True)
    default = field.default
    if isinstance(default, list | dict | set | tuple | frozenset) or (
        shape.kind in CONTAINER_KINDS or shape.kind in ("record", "object")
    ):
        return Field(field.name, shape, factory=default is not None)
    return Field(field.name, shape, default=plain(default))


def plain(value: Any) -> Any:
    """Say a simple value as JSON-able data: itself, an enum member's name, or its text.

    Args:
        value: A default, a literal, or the value of an enum member.
    """
    if isinstance(value, enum.Enum):
        return f"{type(value).__qualname__}.{value.name}"
    if value is None or isinstance(value, bool | str | float):
        return value
    if isinstance(value, int):
        return value if abs(value) < 1 << 63 else str(value)
    if inspect.isroutine(value) or isinstance(value, type):
        return getattr(value, "__qualname__", "callable")
    # An object's own repr may hold its address, which differs from process to process.
    text = repr(value)
    return type(value).__qualname__ if " at 0x" in text else text


__all__ = [
    "Change",
    "Difference",
    "Field",
    "RecordShape",
    "Schema",
    "Shape",
    "difference",
    "make_schema",
    "plain",
    "read_schema",
]
