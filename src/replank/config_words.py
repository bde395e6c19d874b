"""What a setting may hold, in words for whoever wrote something else."""

from __future__ import annotations

from typing import Any, Final

from msgspec import inspect

_SIMPLE: Final[dict[type, str]] = {
    inspect.BoolType: "true or false",
    inspect.StrType: "a text in quotes",
}


def expected_at(kind: Any, key: str) -> tuple[str, tuple[str, ...]]:
    """Say what may stand at a key.

    Args:
        kind: The configuration's type.
        key: A dotted key in it.

    Returns:
        The words, and the only values that there are, if they can be counted.
    """
    info = inspect.type_info(kind)
    for part in key.split("."):
        info = _inner(info, part)
    values = tuple(str(one) for one in _choices(info))
    return in_words(info, key), values


def in_words(info: inspect.Type, key: str = "") -> str:
    """Return one phrase about a type.

    Args:
        info: The type, as msgspec sees it.
        key: The key; its last word names the unit.
    """
    if choices := _choices(info):
        return "one of " + ", ".join(f'"{one}"' for one in choices)
    match info:
        case inspect.UnionType():
            # What may be left out is None; nobody writes that.
            some = (one for one in info.types if not isinstance(one, inspect.NoneType))
            words = " or ".join(in_words(one, key) for one in some)
        case inspect.IntType() | inspect.FloatType():
            words = _number_in_words(info, key)
        case inspect.VarTupleType() | inspect.ListType():
            words = f"a list in [ ], each {in_words(info.item_type)}"
        case inspect.DictType():
            words = f"a table, each value {in_words(info.value_type)}"
        case inspect.StructType() if any(one.name == "source" for one in info.fields):
            words = "a path in quotes, or a table with source"
        case _:
            words = _SIMPLE.get(type(info), "a table")
    return words


def _number_in_words(info: inspect.IntType | inspect.FloatType, key: str) -> str:
    kind = "a whole number" if isinstance(info, inspect.IntType) else "a number"
    unit = "bytes" if key.endswith("bytes") else "seconds" if key.endswith("_s") else ""
    told = f" of {unit}, without a unit" if unit else ""
    bounds = (
        ("more than", info.gt),
        ("at least", info.ge),
        ("less than", info.lt),
        ("at most", info.le),
    )
    parts = [f"{word} {value}" for word, value in bounds if value is not None]
    return kind + told + (f", {' and '.join(parts)}" if parts else "")


def _inner(info: inspect.Type, part: str) -> inspect.Type:
    """Return the type of what stands at a name; the whole where the name leads nowhere."""
    match info:
        case inspect.StructType():
            return next((field.type for field in info.fields if field.name == part), info)
        case inspect.DictType():
            return info.value_type
    return info


def _choices(info: inspect.Type) -> tuple[Any, ...]:
    """Return the values of one or several literals; nothing when there is another kind too."""
    match info:
        case inspect.LiteralType():
            return tuple(info.values)
        case inspect.UnionType():
            kinds = [one for one in info.types if not isinstance(one, inspect.NoneType)]
            found = [_choices(one) for one in kinds]
            return tuple(value for values in found for value in values) if all(found) else ()
    return ()


__all__ = ["expected_at", "in_words"]
