"""What a candidate sees of a large table before it serves: the copy so far, to be read only."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any, NoReturn

from replank.errors import CheckError
from replank.state.layers import MISSING, SHARDS
from replank.state.mirror import Mirror
from replank.table import Table


class RehearsedTable(Table[Any, Any]):
    """Look like the candidate's table while its records lie in the window's small dicts.

    Args:
        mirror: The window's copy; nobody works on it while checks run.
    """

    __slots__ = ("_mirror",)

    def __init__(self, mirror: Mirror) -> None:
        super().__init__()
        self._mirror = mirror

    def __getitem__(self, key: Any) -> Any:
        value = self._mirror.target[hash(key) % SHARDS].get(key, MISSING)
        if value is MISSING:
            raise KeyError(key)
        return value

    def get(self, key: Any, default: Any = None) -> Any:
        """Return the record under a key, or the default."""
        return self._mirror.target[hash(key) % SHARDS].get(key, default)

    def __contains__(self, key: object) -> bool:
        return key in self._mirror.target[hash(key) % SHARDS]

    def __len__(self) -> int:
        return sum(map(len, self._mirror.target))

    def __bool__(self) -> bool:
        return any(self._mirror.target)

    def __iter__(self) -> Iterator[Any]:
        return chain.from_iterable(self._mirror.target)

    def keys(self) -> Any:
        """Return the keys; not in the order that the table will have."""
        return _Items(self, lambda shard: shard.keys())

    def values(self) -> Any:
        """Return the records."""
        return _Items(self, lambda shard: shard.values())

    def items(self) -> Any:
        """Return pairs of key and record."""
        return _Items(self, lambda shard: shard.items())

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise CheckError(
            "a check wrote to the state that it was shown",
            found="a write to a table during the rehearsal",
            expected="a check that only looks",
            do='mark it @check(when="pause"), or write nothing in it',
        )

    __setitem__ = __delitem__ = pop = popitem = setdefault = update = clear = _refuse


class _Items:
    """One of the three views: sized, iterable, and able to say what it contains."""

    __slots__ = ("_pick", "_table")

    def __init__(self, table: RehearsedTable, pick: Any) -> None:
        self._table = table
        self._pick = pick

    def __iter__(self) -> Iterator[Any]:
        return chain.from_iterable(map(self._pick, self._table._mirror.target))

    def __len__(self) -> int:
        return len(self._table)

    def __contains__(self, thing: object) -> bool:
        return any(thing in self._pick(shard) for shard in self._table._mirror.target)
