"""The classes a table passes through during a reload; `layers.py` has the theory and the rules.

Table -> CopyingTable -> FoldingTable -> FollowedTable -> Table
              |                |               |
           abandon           undo           rollback (-> FoldingTable)
"""

# ruff: noqa: D102  # the public methods are those of dict

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from replank.state.layers import MISSING, SHARDS, Layers, walk
from replank.state.views import ItemsView, KeysView, ValuesView, same_items, show_items
from replank.table import Table


class LayeredTable(Table[Any, Any]):
    """The whole interface of dict on three small functions: look, write, remove."""

    __slots__ = ()
    __replank_steady__ = Table
    __hash__ = None  # type: ignore[assignment]

    _layers: Layers

    def _look(self, key: Any) -> Any:
        raise NotImplementedError

    def _write(self, key: Any, value: Any) -> None:
        raise NotImplementedError

    def _remove(self, key: Any) -> Any:
        raise NotImplementedError

    def __getitem__(self, key: Any) -> Any:
        value = self._look(key)
        if value is not MISSING:
            return value
        missing = getattr(type(self), "__missing__", None)
        if missing is None:
            raise KeyError(key)
        return missing(self, key)

    def get(self, key: Any, default: Any = None) -> Any:
        value = self._look(key)
        return default if value is MISSING else value

    def __contains__(self, key: Any) -> bool:
        return self._look(key) is not MISSING

    def __len__(self) -> int:
        return self._layers.size

    def __setitem__(self, key: Any, value: Any) -> None:
        self._write(key, value)

    def __delitem__(self, key: Any) -> None:
        if self._remove(key) is MISSING:
            raise KeyError(key)

    def pop(self, key: Any, *default: Any) -> Any:
        if len(default) > 1:
            raise TypeError(f"pop expected at most 2 arguments, got {1 + len(default)}")
        value = self._remove(key)
        if value is not MISSING:
            return value
        if default:
            return default[0]
        raise KeyError(key)

    def popitem(self) -> tuple[Any, Any]:
        key = self._layers.last()
        if key is MISSING:
            raise KeyError("popitem(): dictionary is empty")
        return key, self._remove(key)

    def setdefault(self, key: Any, default: Any = None) -> Any:
        value = self._look(key)
        if value is MISSING:
            self._write(key, default)
            return default
        return value

    def update(self, *others: Any, **more: Any) -> None:
        if len(others) > 1:
            raise TypeError(f"update expected at most 1 argument, got {len(others)}")
        if others and hasattr(others[0], "keys"):
            for key in others[0].keys():  # noqa: SIM118  # dict asks for keys(), and so do we
                self._write(key, others[0][key])
        elif others:
            for key, value in dict(others[0]).items():
                self._write(key, value)
        for key, value in more.items():
            self._write(key, value)

    def clear(self) -> None:
        layers = self._layers
        if layers.fresh:
            layers.save()
        layers.dirty.update(layers.sequence())
        layers.dead.update(dict.__iter__(self))
        layers.late.clear()
        for shard in layers.fresh:
            shard.clear()
        layers.size = 0

    def __iter__(self) -> Iterator[Any]:
        return walk(self._layers, lambda key: key)

    def __reversed__(self) -> Iterator[Any]:
        return walk(self._layers, lambda key: key, backwards=True)

    def keys(self) -> Any:
        return KeysView(self)

    def values(self) -> Any:
        return ValuesView(self)

    def items(self) -> Any:
        return ItemsView(self)

    def copy(self) -> dict[Any, Any]:
        return dict(self.items())

    @classmethod
    def fromkeys(cls, keys: Iterable[Any], value: Any = None) -> Any:
        steady: Any = cls.__replank_steady__
        return steady.fromkeys(keys, value)

    def __eq__(self, other: object) -> Any:
        return same_items(self, other)

    def __ne__(self, other: object) -> Any:
        same = same_items(self, other)
        return same if same is NotImplemented else not same

    def __or__(self, other: Any) -> Any:
        return self.copy() | dict(other) if isinstance(other, dict) else NotImplemented

    def __ror__(self, other: Any) -> Any:
        return dict(other) | self.copy() if isinstance(other, dict) else NotImplemented

    def __ior__(self, other: Any) -> Any:
        self.update(other)
        return self

    def __repr__(self) -> str:
        return show_items(self)


class CopyingTable(LayeredTable):
    """A table in an open window: the base keeps its keys and what is written is marked."""

    __slots__ = ()

    def _look(self, key: Any) -> Any:
        layers = self._layers
        value = layers.late.get(key, MISSING)
        if value is MISSING and key not in layers.dead:
            value = dict.get(self, key, MISSING)
        if layers.touched is not None and value is not MISSING:
            layers.touched[id(value)] = value
        return value

    def _write(self, key: Any, value: Any) -> None:
        layers = self._layers
        layers.dirty.add(key)
        if layers.touched is not None:
            layers.touched[id(value)] = value
        if key in layers.late:
            layers.late[key] = value
        elif key not in layers.dead and dict.__contains__(self, key):
            dict.__setitem__(self, key, value)
        else:
            layers.late[key] = value
            layers.size += 1

    def _remove(self, key: Any) -> Any:
        layers = self._layers
        value = layers.late.pop(key, MISSING)
        if value is MISSING:
            value = MISSING if key in layers.dead else dict.get(self, key, MISSING)
            if value is MISSING:
                return MISSING
            layers.dead.add(key)
        layers.dirty.add(key)
        layers.size -= 1
        return value


class FoldingTable(LayeredTable):
    """A table after a commit: the other version's values first, until all are folded in."""

    __slots__ = ()

    def _look(self, key: Any) -> Any:
        layers = self._layers
        value = layers.fresh[hash(key) % SHARDS].get(key, MISSING)
        if value is MISSING:
            value = layers.late.get(key, MISSING)
            if value is MISSING and key not in layers.dead:
                value = dict.get(self, key, MISSING)
        if layers.touched is not None and value is not MISSING:
            layers.touched[id(value)] = value
        return value

    def _write(self, key: Any, value: Any) -> None:
        layers = self._layers
        layers.dirty.add(key)
        if layers.touched is not None:
            layers.touched[id(value)] = value
        shard = layers.fresh[hash(key) % SHARDS]
        if key in shard:
            shard[key] = value
        elif key in layers.late:
            layers.late[key] = value
        elif key not in layers.dead and dict.__contains__(self, key):
            dict.__setitem__(self, key, value)
        else:
            layers.save()
            layers.late[key] = value  # rule 1
            layers.size += 1

    def _remove(self, key: Any) -> Any:
        layers = self._layers
        shard = layers.fresh[hash(key) % SHARDS]
        is_late = key in layers.late
        if not is_late and (key in layers.dead or not dict.__contains__(self, key)):
            return MISSING
        layers.save()
        layers.dirty.add(key)
        value = shard.pop(key, MISSING)
        if is_late:
            stale = layers.late.pop(key)
        else:
            stale = dict.__getitem__(self, key)
            layers.dead.add(key)
        layers.size -= 1
        return stale if value is MISSING else value


class FollowedTable(Table[Any, Any]):
    """A table in probation: a plain base again, whose written keys are marked for the follower."""

    __slots__ = ()
    __replank_steady__ = Table

    _layers: Layers

    def __setitem__(self, key: Any, value: Any) -> None:
        self._layers.dirty.add(key)
        dict.__setitem__(self, key, value)

    def __delitem__(self, key: Any) -> None:
        dict.__delitem__(self, key)
        self._layers.dirty.add(key)

    def pop(self, key: Any, *default: Any) -> Any:
        self._layers.dirty.add(key)
        return dict.pop(self, key, *default)

    def popitem(self) -> tuple[Any, Any]:
        key, value = dict.popitem(self)
        self._layers.dirty.add(key)
        return key, value

    def setdefault(self, key: Any, default: Any = None) -> Any:
        self._layers.dirty.add(key)
        return dict.setdefault(self, key, default)

    def update(self, *others: Any, **more: Any) -> None:
        new = dict(*others, **more)
        self._layers.dirty.update(new)
        dict.update(self, new)

    def __ior__(self, other: Any) -> Any:  # type: ignore[misc]  # as in typeshed's dict
        self.update(other)
        return self

    def clear(self) -> None:
        self._layers.dirty.update(self)
        dict.clear(self)

    @classmethod
    def fromkeys(cls, keys: Iterable[Any], value: Any = None) -> Any:
        steady: Any = cls.__replank_steady__
        return steady.fromkeys(keys, value)


class ReadFollowedTable(LayeredTable):
    """As `FollowedTable`, for values that cannot be watched: what was read counts as written."""

    __slots__ = ()

    def _look(self, key: Any) -> Any:
        value = dict.get(self, key, MISSING)
        if value is not MISSING:
            self._layers.note(value)
        return value

    def _write(self, key: Any, value: Any) -> None:
        layers = self._layers
        layers.dirty.add(key)
        layers.note(value)
        dict.__setitem__(self, key, value)
        layers.size = dict.__len__(self)

    def _remove(self, key: Any) -> Any:
        value = dict.pop(self, key, MISSING)
        if value is not MISSING:
            self._layers.dirty.add(key)
            self._layers.size = dict.__len__(self)
        return value

    def popitem(self) -> tuple[Any, Any]:
        key, value = dict.popitem(self)
        self._layers.dirty.add(key)
        self._layers.size = dict.__len__(self)
        return key, value

    def clear(self) -> None:
        self._layers.dirty.update(dict.__iter__(self))
        dict.clear(self)
        self._layers.size = 0
