"""Containers that are read as ever and refuse to be written: the classes behind a seal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from replank.errors import StateSealed
from replank.state.layers import phase_class
from replank.table import Table

Refusal = Callable[[], StateSealed]
"""Makes the error for a write."""

_DICT_WRITERS: Final = (
    *("__setitem__", "__delitem__", "__ior__", "pop", "popitem", "setdefault", "update", "clear"),
)
_LIST_WRITERS: Final = (
    *("__setitem__", "__delitem__", "__iadd__", "__imul__", "append", "extend", "insert"),
    *("pop", "remove", "clear", "sort", "reverse"),
)
_SET_WRITERS: Final = (
    *("__iand__", "__ior__", "__isub__", "__ixor__", "add", "discard", "remove", "pop", "clear"),
    *("update", "intersection_update", "difference_update", "symmetric_difference_update"),
)


def _refusing(attribute: str, names: tuple[str, ...]) -> dict[str, Any]:
    def refuse(self: Any, *_: Any, **__: Any) -> Any:
        error: StateSealed = getattr(self, attribute)()
        raise error

    return dict.fromkeys(names, refuse)


def _reduce(base: type) -> Callable[..., Any]:
    # Copied and pickled as what it stands for.
    return lambda self, _protocol: (base, (base(self),))


def _sealed_class(base: type, names: tuple[str, ...]) -> type:
    space = {"__slots__": ("_refusal",), "__reduce_ex__": _reduce(base)}
    return type(
        f"Sealed{base.__name__.title()}", (base,), {**space, **_refusing("_refusal", names)}
    )


_SEALED: Final[dict[type, type]] = {
    dict: _sealed_class(dict, _DICT_WRITERS),
    list: _sealed_class(list, _LIST_WRITERS),
    set: _sealed_class(set, _SET_WRITERS),
}


def sealed_copy(value: Any, refusal: Refusal) -> Any:
    """Return a list, dict or set of the same items that cannot be written; others as they are.

    Args:
        value: A value of the state.
        refusal: Makes the error for a write.
    """
    kind = _SEALED.get(type(value))
    if kind is None:
        return value
    copy = kind(value)
    copy._refusal = refusal
    return copy


def is_untouched(shown: Any, value: Any) -> bool:
    """Tell whether a sealed copy holds what it was made of: C code may write past its methods.

    Args:
        shown: What `sealed_copy` returned.
        value: What it was made of, unless that has been written since.
    """
    if type(shown) not in _SEALED.values():
        return True
    if len(shown) != len(value):
        return False
    if isinstance(shown, list):
        return all(one is other for one, other in zip(shown, value, strict=True))
    if isinstance(shown, dict):
        return all(key in value and value[key] is one for key, one in shown.items())
    return bool(shown == value)


class SealedTable(Table[Any, Any]):
    """A table that is read as ever and refuses to be written; `_layers` makes the error."""

    __slots__ = ()
    __replank_steady__ = Table

    locals().update(_refusing("_layers", _DICT_WRITERS))


def sealed_table(table: Table[Any, Any], refusal: Refusal) -> None:
    """Switch a table to the class that refuses writes; the way back is its own class.

    Args:
        table: A table in steady state.
        refusal: Makes the error for a write.
    """
    kind = phase_class(type(table), SealedTable)
    table._layers = refusal
    table.__class__ = kind


class Moved:
    """What stands where a table was that the next generation has taken over: no use is allowed.

    Its records are the new version's, in the new version's types; what the old code would read
    from it could be wrong, and what it would write certainly is.

    Args:
        refusal: Makes the error for a use.
    """

    def __init__(self, refusal: Refusal) -> None:
        self.__dict__["_refusal"] = refusal

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # what copies and compares looks for these in vain
            raise AttributeError(name)
        error: StateSealed = self.__dict__["_refusal"]()
        raise error

    locals().update(
        _refusing(
            "_refusal",
            (
                *("__getitem__", "__contains__", "__iter__", "__len__", "__reversed__", "__or__"),
                *("__setitem__", "__delitem__", "__ior__", "__setattr__", "__bool__"),
            ),
        )
    )


__all__ = ["Moved", "Refusal", "SealedTable", "is_untouched", "sealed_copy", "sealed_table"]
