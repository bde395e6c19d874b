"""From one version's values to the other's: one class switch, and afterwards the tidying.

`commit` is all that happens while calls wait. `undo` takes it back as long as nothing was folded.
`fold_steps` then brings the values home slice by slice, and hands over what it displaces.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from replank.errors import InternalError
from replank.state.layers import MISSING, SHARDS, STEP, Layers, Steps
from replank.state.tables import CopyingTable, FoldingTable, LayeredTable

Displaced = Callable[[Any, Any, Any], None]
"""Called with each key that was folded, its value that serves, and the one it displaced."""


class Switch:
    """Put values of another version before those in the table."""

    def __init__(self, layers: Layers, shown: type[LayeredTable] = FoldingTable) -> None:
        self.layers = layers
        self._shown = shown
        self.committed = False
        self.folding = False

    def commit(
        self,
        fresh: list[dict[Any, Any]],
        absent: Iterable[Any] = (),
        extra: Mapping[Any, Any] | None = None,
    ) -> None:
        """Let users see the fresh values, and only those.

        Args:
            fresh: The values by key, in `SHARDS` small dicts: one for every key that is live.
            absent: Live keys that the other version does not have.
            extra: Items that only the other version has, in the order in which they are appended.
        """
        layers = self.layers
        layers.saved = None
        layers.fresh = fresh
        layers.enter(self._shown)
        self.committed = True
        for key in absent:
            layers.table.pop(key)
        for key, value in (extra or {}).items():
            layers.table[key] = value
        layers.dirty.clear()

    def undo(self) -> None:
        """Take the commit back; what was written since is dropped with it.

        Raises:
            InternalError: Folding has begun: the way back is a rollback.
        """
        if not self.committed or self.folding:
            raise InternalError("a commit can be undone only before its values are folded")
        layers = self.layers
        if layers.saved is not None:
            layers.late, layers.dead, layers.size = layers.saved
            layers.saved = None
        layers.fresh = []
        layers.tail = None
        layers.epoch += 1
        layers.enter(CopyingTable)
        self.committed = False

    def fold_steps(self, displaced: Displaced | None = None, step: int = STEP) -> Steps:
        """Bring every fresh value to its place in the base, then the base's keys up to date."""
        layers = self.layers
        self.folding = True
        layers.saved = ({}, set(), 0)  # there is no undo any more, and nothing to save for it
        late, base, count = layers.late, layers.table, 0
        for index in range(SHARDS):
            shard = layers.fresh[index]
            while shard:
                key, value = shard.popitem()
                if key in late:
                    old, late[key] = late[key], value
                else:
                    old = dict.get(base, key, MISSING)
                    dict.__setitem__(base, key, value)
                if displaced is not None:
                    displaced(key, value, old)
                del old
                count += 1
                if not count % step:
                    yield
            layers.fresh[index] = {}  # an emptied dict keeps its room, and the old values need it
        yield from layers.settle_steps(step)
