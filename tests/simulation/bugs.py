"""Lost-update bugs that earlier versions had, put back: each must be found by its seed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from replank.state.layers import SHARDS, Layers, Steps
from replank.state.mirror import Copy, CopyOutcome, Mirror
from replank.state.tables import FoldingTable
from replank.state.watching import Places, quiet
from tests.simulation.schedules import Schedule


class RevivesIntoFolded(FoldingTable):
    """A key deleted and written again goes to its small dict, which may be folded already."""

    __slots__ = ()

    def _write(self, key: Any, value: Any) -> None:
        layers = self._layers
        if key in layers.dead and key not in layers.late:
            layers.save()
            layers.dirty.add(key)
            layers.dead.discard(key)
            layers.fresh[hash(key) % SHARDS][key] = value
            layers.size += 1
        else:
            super()._write(key, value)


class MarksDeadTooLong(Layers):
    """Deleted keys leave the base but stay marked as deleted until the end."""

    __slots__ = ()

    def settle_steps(self, step: int = 32) -> Steps:
        for key in list(self.dead):
            self.epoch += 1
            dict.pop(self.table, key, None)
            yield
        self.dead.clear()
        yield from super().settle_steps(step)


class AssignsMarks(Mirror):
    """The marks left of a round are assigned over those that traffic added meanwhile."""

    def catch_up_steps(self, limit: int, pause_s: float, step: int = 32) -> Copy:
        while True:
            keys, self.layers.dirty = self.layers.dirty, set()
            for value in list(self.watch.written.values()):
                keys.update(self.watch.places.keys(value))
                yield
            self.watch.written.clear()
            if len(keys) <= limit:
                self.layers.dirty = keys
                return CopyOutcome.READY
            for key in keys:
                with quiet():
                    self.copy_key(key)
                yield


class ForgetsGrace(Mirror):
    """What was read is copied at once and forgotten, though a call may still hold it."""

    def catch_up_steps(self, limit: int, pause_s: float, step: int = 32) -> Copy:
        touched = self.layers.touched
        for _ in range(len(touched or ())):
            with quiet():
                self._copy_written(touched.popitem()[1])
            yield
        return (yield from super().catch_up_steps(limit, pause_s, step))


class _OneKey(Places):
    """Only the first key of an object is known."""

    __slots__ = ()

    def add(self, value: Any, key: Any) -> bool:
        if self.keys(value):
            return False
        return super().add(value, key)


class ForgetsAliases(Mirror):
    """An object under two keys is brought up to date under one."""

    def walk_steps(self, items: Any, step: int = 32) -> Copy:
        self.watch.places = _OneKey()
        return super().walk_steps(items, step)


class Revives(Schedule):
    folding_class = RevivesIntoFolded


class MarksTooLong(Schedule):
    layers_class = MarksDeadTooLong


class Assigns(Schedule):
    mirror_class = AssignsMarks


class NoGrace(Schedule):
    mirror_class = ForgetsGrace


class NoAliases(Schedule):
    mirror_class = ForgetsAliases


def all_bugs() -> Iterator[type[Schedule]]:
    yield from (Revives, MarksTooLong, Assigns, NoGrace, NoAliases)
