"""What a version wrote that the version before it has no room for, kept for its return.

After a rollback the old records serve and are written again. When the new version returns, its
fields come from two sides: what the migration makes of the old record, and what was parked. The
rule is a merge of three: a parked field comes back only if the migration still gives the value it
gave when the field was parked. If it gives another one the old version wrote to it: that is newer.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterable, Iterator
from operator import attrgetter
from typing import Any, Final, get_type_hints

import msgspec

from replank.state.kinds import kind_of


class _Parked:
    """Returned by a downgrade for a record that the old version has no room for at all."""

    def __repr__(self) -> str:
        return "PARKED"


PARKED: Final = _Parked()

_ABSENT: Final = object()


@dataclasses.dataclass(frozen=True, slots=True)
class Cell:
    """One parked field: what the migration gave then, and what the new version had written."""

    given: Any
    parked: Any


def fields_of(record: Any) -> dict[str, Any]:
    """Return a record's fields by name; other values have none."""
    if isinstance(record, msgspec.Struct):
        return {name: getattr(record, name, None) for name in record.__struct_fields__}
    if dataclasses.is_dataclass(record) and not isinstance(record, type):
        return {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}
    return dict(getattr(record, "__dict__", {}))


def reader_of(cls: type) -> Callable[[Any], Any]:
    """Return what reads all fields of a class's records at once, for comparing two of them."""
    names = getattr(cls, "__struct_fields__", None)
    if names is None and dataclasses.is_dataclass(cls):
        names = [field.name for field in dataclasses.fields(cls)]
    return attrgetter(*names) if names else fields_of


def _plain(value: Any) -> Any:
    """Return a value without objects of the generation that is leaving."""
    if kind_of(type(value)).atom:
        return value
    try:
        return msgspec.to_builtins(value)
    except (TypeError, msgspec.MsgspecError):
        return copy.deepcopy(value)


def _typed(value: Any, hint: Any) -> Any:
    """Return a plain value as the new generation declares it."""
    if hint is Any or kind_of(type(value)).atom:
        return value
    try:
        return msgspec.convert(value, hint, strict=False)
    except (TypeError, msgspec.MsgspecError):
        return value


class Residue:
    """The parked data of one table, by key."""

    def __init__(self) -> None:
        self.fields: dict[Any, dict[str, Cell]] = {}
        self.records: dict[Any, tuple[str, dict[str, Any]]] = {}
        """Whole records, as class name and plain fields."""

    def __len__(self) -> int:
        return len(self.fields) + len(self.records)

    def park(self, key: Any, new: Any, returned: Any) -> None:
        """Note the fields of a new record that do not come back by down and up again."""
        self.records.pop(key, None)
        again = fields_of(returned)
        cells = {
            name: Cell(_plain(again.get(name)), _plain(value))
            for name, value in fields_of(new).items()
            if again.get(name, _ABSENT) != value
        }
        if cells:
            self.fields[key] = cells
        else:
            self.fields.pop(key, None)

    def park_record(self, key: Any, new: Any) -> None:
        """Note a whole record that the old version has no room for."""
        self.fields.pop(key, None)
        plain = {name: _plain(value) for name, value in fields_of(new).items()}
        self.records[key] = (type(new).__qualname__, plain)

    def forget(self, key: Any) -> None:
        """Drop what is parked for a key that was deleted."""
        self.fields.pop(key, None)
        self.records.pop(key, None)

    def merge(self, key: Any, new: Any) -> Any:
        """Return the new record with the parked fields that are still valid."""
        cells = self.fields.get(key)
        if cells is None:
            return new
        hints = _hints(type(new))
        current = fields_of(new)
        valid = {
            name: _typed(cell.parked, hints.get(name, Any))
            for name, cell in cells.items()
            if name in current and _plain(current[name]) == cell.given
        }
        return _with_fields(new, valid) if valid else new

    def merge_into(self, table: dict[Any, Any], record_class: Any) -> None:
        """Give a table that was just built what is parked of it.

        Args:
            table: The table; nobody else has it yet.
            record_class: Of its records.
        """
        for key in self.fields.keys() & table.keys():
            table[key] = self.merge(key, table[key])
        classes = {record_class} if isinstance(record_class, type) else set()
        for key, record in self.new_records(classes | {type(one) for one in table.values()}):
            table.setdefault(key, record)

    def new_records(self, classes: Iterable[type]) -> Iterator[tuple[Any, Any]]:
        """Yield the parked records again, as objects of the classes that the new version uses."""
        by_name = {cls.__qualname__: cls for cls in classes}
        for key, (name, plain) in self.records.items():
            cls = by_name.get(name)
            if cls is None:
                continue
            hints = _hints(cls)
            fields = {field: _typed(value, hints.get(field, Any)) for field, value in plain.items()}
            yield key, _build(cls, fields)


def _hints(cls: type) -> dict[str, Any]:
    try:
        return get_type_hints(cls)
    except Exception:  # a name that does not resolve: the values go in as they are
        return {}


def _build(cls: type, fields: dict[str, Any]) -> Any:
    if issubclass(cls, msgspec.Struct) or dataclasses.is_dataclass(cls):
        return cls(**fields)
    made = cls.__new__(cls)
    for name, value in fields.items():
        object.__setattr__(made, name, value)
    return made


def _with_fields(record: Any, fields: dict[str, Any]) -> Any:
    """Return the record, which nobody else has yet, with some fields set."""
    if isinstance(record, msgspec.Struct) and record.__struct_config__.frozen:
        return msgspec.structs.replace(record, **fields)
    if dataclasses.is_dataclass(record) and not isinstance(record, type):
        return dataclasses.replace(record, **fields)
    for name, value in fields.items():
        setattr(record, name, value)
    return record
