"""What a schema is made of: plain data without classes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import msgspec

from replank.errors import SchemaError
from replank.hints import MAPPINGS, SEQUENCES, SETS

CONTAINER_KINDS = MAPPINGS | SEQUENCES | SETS
_NAMES = {"none": "None", "any": "Any", "uuid": "UUID", "decimal": "Decimal"}
_CONTAINER_NAMES = {
    "table": "Table",
    "ordereddict": "OrderedDict",
    "counter": "Counter",
}


def title(name: str) -> str:
    """Return a record type's name without what tells two shapes of it apart.

    A migration that changes `accounts.*` but not `archive.*` leaves two shapes of one type.
    """
    return name.partition("\0")[0]


class Shape(msgspec.Struct, frozen=True, omit_defaults=True):
    """The shape of one value.

    `name` is the name of a record, enum or object type; `values` are the members of a literal;
    `members` are an enum's names with their values; `constraints` are those of `msgspec.Meta`.
    """

    kind: str
    items: tuple[Shape, ...] = ()
    name: str = ""
    values: tuple[Any, ...] = ()
    members: dict[str, Any] = {}
    variable: bool = False
    constraints: dict[str, Any] = {}

    def __str__(self) -> str:
        """Say it as an author would write it."""
        inner = ", ".join(str(item) for item in self.items)
        if self.kind == "union":
            return " | ".join(sorted((str(item) for item in self.items), key=_none_last))
        if self.kind == "literal":
            return f"Literal[{', '.join(repr(value) for value in self.values)}]"
        if self.kind == "tuple" and (self.variable or not self.items):
            return f"tuple[{inner}, ...]" if self.items else "tuple[()]"
        if self.kind == "counter":
            return f"Counter[{self.items[0]}]"
        if self.kind in CONTAINER_KINDS:
            return f"{_CONTAINER_NAMES.get(self.kind, self.kind)}[{inner}]"
        return title(self.name) or _NAMES.get(self.kind, self.kind)


class Field(msgspec.Struct, frozen=True, omit_defaults=True):
    """One field of the state or of a record.

    `default` is the default as plain data when there is one and it is a simple value; `factory`
    says that the default is made anew for each record.
    """

    name: str
    shape: Shape
    required: bool = False
    default: Any = None
    factory: bool = False
    optional: bool = False

    def default_text(self) -> str:
        """Say the default as an author would write it, "..." when it is made by a factory."""
        return "..." if self.factory else repr(self.default)


class RecordShape(msgspec.Struct, frozen=True, omit_defaults=True):
    """The fields of one record type."""

    name: str
    fields: tuple[Field, ...]

    def field(self, name: str) -> Field | None:
        """Return the field of that name, or None."""
        return next((field for field in self.fields if field.name == name), None)


class Schema(msgspec.Struct, frozen=True):
    """The shape of a module's state.

    `version` is the number its author gave; `fingerprint` changes exactly when the shape does.
    """

    version: int
    fields: tuple[Field, ...]
    records: dict[str, RecordShape]
    fingerprint: str

    EMPTY: ClassVar[Schema]

    def field(self, name: str) -> Field | None:
        """Return the field of that name, or None."""
        return next((field for field in self.fields if field.name == name), None)

    def to_dict(self) -> dict[str, Any]:
        """Return the schema as JSON-able values."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """Read a schema that `to_dict` wrote.

        Raises:
            SchemaError: It is no schema.
        """
        try:
            return msgspec.convert(plain, cls)
        except msgspec.ValidationError as error:
            raise SchemaError(
                "a stored schema cannot be read", found=str(error), expected="what to_dict wrote"
            ) from error


def make_schema(
    version: int, fields: tuple[Field, ...], records: Mapping[str, RecordShape]
) -> Schema:
    """Put a schema together and compute its fingerprint.

    Args:
        version: The schema number.
        fields: The state's fields.
        records: The record types that the fields refer to, by name.
    """
    canonical = {
        "fields": _by_name(fields),
        "records": {name: _by_name(records[name].fields) for name in sorted(records)},
    }
    text = msgspec.json.encode(canonical, order="deterministic")
    fingerprint = "sha256:" + hashlib.sha256(text).hexdigest()
    return Schema(version, fields, dict(records), fingerprint)


def _by_name(fields: tuple[Field, ...]) -> list[Field]:
    return sorted(fields, key=lambda field: field.name)


def _none_last(text: str) -> tuple[bool, str]:
    return (text == "None", text)


Schema.EMPTY = make_schema(1, (), {})

__all__ = ["CONTAINER_KINDS", "Field", "RecordShape", "Schema", "Shape", "make_schema", "title"]
