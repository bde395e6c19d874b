"""Big keyed state: a dict that can be copied and migrated while its module serves.

In steady state a `Table` *is* a dict: no method on its reading or writing path is overridden. When
a reload opens its window, the table's `__class__` is switched to one that notes the written keys
(`replank.state.layers`), and switched back when the window is over: the barriers cost nothing
when no reload runs.

One rule follows for C code that reads a dict's storage directly, without its methods (msgspec's
encoder is one): while a window is open it does not see what was inserted or deleted since. Go
through `items()` there.
"""

from __future__ import annotations

from typing import Any, ClassVar, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Table(dict[K, V]):
    """Be a dict whose records are copied and migrated while the module serves.

    Use it like any dict. Keys keep their order, values may be changed in place. As with a dict,
    `copy()` and `|` return a plain dict, and inserting or deleting while iterating is an error.
    """

    __slots__ = ("__weakref__", "_layers")

    _layers: Any
    """What the open window keeps beside the stored items; unset in steady state."""

    __replank_steady__: ClassVar[type[Table[Any, Any]] | None] = None
    """In the classes of an open window: the class to which the table returns."""

    def __reduce_ex__(self, _protocol: Any) -> tuple[Any, ...]:
        """Pickle and copy as a table of the same items, whatever window is open."""
        cls = type(self)
        attributes = getattr(self, "__dict__", None) or None
        return (cls.__replank_steady__ or cls, (), attributes, None, iter(self.items()))


__all__ = ["Table"]
