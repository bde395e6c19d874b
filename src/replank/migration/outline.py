"""What a step does to a schema: so that a forgotten field is found before anything is copied.

Each operation is followed through the description of the state. Where a function decides what
comes out the shape becomes *unknown*, which agrees with everything: building the new values
checks each of them later.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from replank.errors import SchemaError
from replank.hints import MAPPINGS
from replank.migration.conversions import Apply, Convert, Merge, Rekey, Split
from replank.migration.operations import (
    Add,
    Automatic,
    Operation,
    Remove,
    Rename,
)
from replank.migration.reshaping import Flatten, Move, Nest
from replank.migration.steps import Step
from replank.shapes import CONTAINER_KINDS, Field, RecordShape, Schema, Shape, make_schema

UNKNOWN = Shape("unknown")

Fields = dict[str, Field]
Edit = Callable[[Fields], None]


def outline(schema: Schema, step: Step) -> Schema | None:
    """Return the schema after a step, run upwards.

    Args:
        schema: The schema before it.
        step: The step.

    Returns:
        The schema after it, with unknown shapes; None when a function makes the whole state.

    Raises:
        SchemaError: The step names a field that is not there, or makes one that is.
    """
    fields, records = schema.fields, dict(schema.records)
    for operation in step.operations:
        if isinstance(operation, Apply):
            return None
        editor = _Editor(records, step, operation)
        fields = editor.run(fields)
    return make_schema(step.end, fields, records)


class _Editor:
    def __init__(self, records: dict[str, RecordShape], step: Step, operation: Operation) -> None:
        self.records = records
        self.step = step
        self.operation = operation

    def run(self, fields: tuple[Field, ...]) -> tuple[Field, ...]:
        operation = self.operation
        if isinstance(operation, Rekey):
            return self.reshape(fields, operation.segments, _unknown_keys)
        if isinstance(operation, Convert):
            return self.reshape(fields, operation.segments, lambda _shape: UNKNOWN)
        if isinstance(operation, Move):
            return self.move(fields, operation)
        return self.edit(fields, operation.segments, self.change)

    # -- descending

    def edit(
        self, fields: tuple[Field, ...], way: tuple[str, ...], edit: Edit
    ) -> tuple[Field, ...]:
        """Change the fields of the record that a path leads to."""
        if not way:
            named = {field.name: field for field in fields}
            edit(named)
            return tuple(named.values())
        return self.reshape(fields, way, lambda shape: self.inside(shape, edit))

    def inside(self, shape: Shape, edit: Edit) -> Shape:
        if shape.kind == "record":
            return self.variant(shape, lambda fields: self.edit(fields, (), edit))
        if shape.kind == "union":
            items = tuple(self.inside(item, edit) for item in shape.items)
            return msgspec.structs.replace(shape, items=items)
        return shape

    def reshape(
        self, fields: tuple[Field, ...], way: tuple[str, ...], change: Callable[[Shape], Shape]
    ) -> tuple[Field, ...]:
        """Change the shape that a path leads to."""
        name, rest = way[0], way[1:]
        if name not in {field.name for field in fields}:
            raise self.unknown(name, fields)
        return tuple(
            msgspec.structs.replace(field, shape=self.descend(field.shape, rest, change))
            if field.name == name
            else field
            for field in fields
        )

    def descend(
        self, shape: Shape, way: tuple[str, ...], change: Callable[[Shape], Shape]
    ) -> Shape:
        if not way:
            return change(shape)
        if shape.kind == "record":
            return self.variant(shape, lambda fields: self.reshape(fields, way, change))
        if shape.kind == "union":
            items = tuple(
                self.descend(item, way, change) if _has_insides(item) else item
                for item in shape.items
            )
            return msgspec.structs.replace(shape, items=items)
        if shape.kind in CONTAINER_KINDS:
            return self.items(shape, way, change)
        if shape.kind in ("any", "unknown", "object"):
            return shape
        raise SchemaError(
            f"{self.step.name}: {self.operation.text} leads through {shape}, which has no fields",
            expected="a path through records and containers",
        )

    def items(self, shape: Shape, way: tuple[str, ...], change: Callable[[Shape], Shape]) -> Shape:
        segment = way[0]
        last = 1 if shape.kind in MAPPINGS else None
        items = list(shape.items)
        chosen = [last] if last is not None else list(range(len(items)))
        if segment.isdigit() and shape.kind == "tuple" and not shape.variable:
            chosen = [int(segment)] if int(segment) < len(items) else []
        elif segment != "*":
            raise SchemaError(
                f"{self.step.name}: {self.operation.text} names {segment!r} in {shape}",
                expected="`*`, which stands for every key or item",
            )
        for index in chosen:
            items[index] = self.descend(items[index], way[1:], change)
        return msgspec.structs.replace(shape, items=tuple(items))

    def variant(
        self, shape: Shape, change: Callable[[tuple[Field, ...]], tuple[Field, ...]]
    ) -> Shape:
        """Describe a changed copy of a record type: other places may still hold the old shape."""
        record = self.records[shape.name]
        name = f"{shape.name}\0"
        while name in self.records:
            name += "\0"
        self.records[name] = RecordShape(name, ())  # reserves the name while inner ones are made
        self.records[name] = RecordShape(name, change(record.fields))
        return msgspec.structs.replace(shape, name=name)

    # -- changing

    def change(self, fields: Fields) -> None:  # noqa: C901 - one line a kind
        operation = self.operation
        if isinstance(operation, Add | Automatic):
            self.put(fields, operation.name, UNKNOWN)
        elif isinstance(operation, Remove):
            self.take(fields, operation.name)
        elif isinstance(operation, Rename):
            field = self.take(fields, operation.name)
            self.put(fields, operation.to, field.shape)
        elif isinstance(operation, Split):
            self.take(fields, operation.name)
            for name in operation.into:
                self.put(fields, name, UNKNOWN)
        elif isinstance(operation, Merge):
            for name in operation.names:
                self.take(fields, name)
            self.put(fields, operation.into, UNKNOWN)
        elif isinstance(operation, Nest):
            inner = tuple(self.take(fields, name) for name in operation.names)
            del inner  # the new record may be any type: building it checks it
            self.put(fields, operation.into, UNKNOWN)
        elif isinstance(operation, Flatten):
            outer = self.take(fields, operation.name)
            record = self.records.get(outer.shape.name)
            for name in operation.names:
                known = record.field(name) if record else None
                self.put(fields, name, known.shape if known else UNKNOWN)

    def move(self, fields: tuple[Field, ...], operation: Move) -> tuple[Field, ...]:
        taken: list[Field] = []

        def take(inner: Fields) -> None:
            taken.append(self.take(inner, operation.name))

        def put(inner: Fields) -> None:
            self.put(inner, operation.to, taken[0].shape if taken else UNKNOWN)

        fields = self.edit(fields, (*operation.segments, *operation.source), take)
        return self.edit(fields, (*operation.segments, *operation.target), put)

    def take(self, fields: Fields, name: str) -> Field:
        if name not in fields:
            raise self.unknown(name, tuple(fields.values()))
        return fields.pop(name)

    def put(self, fields: Fields, name: str, shape: Shape) -> None:
        if name in fields:
            raise SchemaError(
                f"{self.step.name}: {self.operation.text} makes a field that exists already",
                found=f"{name}: {fields[name].shape}",
                expected=f"no field {name!r} before this operation",
                do="take the operation out, or remove or rename the old field first",
            )
        fields[name] = Field(name, shape, required=True)

    def unknown(self, name: str, fields: tuple[Field, ...]) -> SchemaError:
        known = ", ".join(field.name for field in fields) or "no fields"
        return SchemaError(
            f"{self.step.name}: {self.operation.text} names {name!r}, which is not there",
            found=known,
            expected=f"a field {name!r} in schema {self.step.start}",
            do="correct the path; operations run in the order in which they are written",
        )


def _has_insides(shape: Shape) -> bool:
    return shape.kind in ("record", "union", "any", "unknown", "object", *CONTAINER_KINDS)


def _unknown_keys(shape: Shape) -> Shape:
    if shape.kind not in MAPPINGS:
        return shape
    return msgspec.structs.replace(shape, items=(UNKNOWN, *shape.items[1:]))


__all__ = ["UNKNOWN", "outline"]
