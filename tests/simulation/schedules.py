"""One seed is one schedule: random operations between any two steps of a table's reload.

The table is compared with a plain dict after every operation and, whole and in order, after every
phase. Schedules run through window, fold, follower, rollback, abandon, undo and freeing. Records
are watched by writes, by reads (they hold a list) or cannot change; some are shared by two keys.
"""

from __future__ import annotations

import random
from typing import Any

from replank.record import Record
from replank.state import watching
from replank.state.collector import release_in_slices
from replank.state.layers import Layers
from replank.state.lazy import LazyTable, LazyWindow
from replank.state.mirror import CopyOutcome, Family, Mirror
from replank.state.tables import FoldingTable
from replank.state.watching import watched_classes
from replank.state.window import Window
from replank.table import Table


class Old(Record):
    n: int
    kept: int = 0


class New(Record):
    count: int
    label: str = "new"


class OldList(Record):
    items: list[int]


class NewList(Record):
    values: list[int]


def up(old: Any) -> Any:
    if type(old) is OldList:
        return NewList(list(old.items))
    if type(old) is int:
        return old
    return New(old.n)


def down(new: Any, old: Any) -> Any:
    if type(new) is NewList:
        return OldList(list(new.values))
    if type(new) is int:
        return new
    return Old(new.count, old.kept if old is not None else 0)


class Schedule:
    """Run one seed; raise AssertionError at the first difference."""

    folding_class: type[Table[Any, Any]] = FoldingTable
    layers_class: type[Layers] = Layers
    mirror_class: type[Mirror] = Mirror
    window_class: type[Window] = Window

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        chance = self.random.random
        self.kind = self.random.choice(["record", "record", "list", "int"])
        self.keys = [f"k{i}" for i in range(self.random.choice([3, 10, 40]))]
        self.new = False
        self.model: dict[str, list[int]] = {}
        """The box (a list with one number) under each key; shared boxes are shared records."""
        self.table: Table[str, Any] = Table()
        for key in self.keys:
            if chance() < 0.7:
                self.insert(key)
        for key in self.random.sample(self.keys, 2):
            self.share(key)
        self.delete_part = chance() * 0.3
        self.write_part = chance() * 0.4
        self.held: list[tuple[Any, list[int]]] = []

    # Operations of traffic.

    def make(self, number: int) -> Any:
        if self.kind == "int":
            return number
        if self.kind == "list":
            return NewList([number]) if self.new else OldList([number])
        return New(number) if self.new else Old(number)

    @staticmethod
    def number(value: Any) -> int:
        if type(value) is int:
            return value
        if type(value) in (OldList, NewList):
            return (value.items if type(value) is OldList else value.values)[-1]
        return value.n if type(value) is Old else value.count

    def insert(self, key: str) -> None:
        number = self.random.randrange(1000)
        self.table[key] = self.make(number)
        self.model[key] = [number]

    def share(self, key: str) -> None:
        other = self.random.choice(self.keys)
        if other in self.model:
            self.table[key] = self.table[other]
            self.model[key] = self.model[other]

    def check_value(self, key: str, value: Any) -> None:
        assert self.number(value) == self.model[key][0], ("value", key, value, self.model[key])
        if self.kind != "int":
            kinds = (New, NewList) if self.new else (Old, OldList)
            assert isinstance(value, kinds), ("version", key, value)

    def bump(self, value: Any, box: list[int], key: str) -> None:
        if type(value) is int:
            self.table[key] = value + 1
            self.model[key] = [value + 1]
            return
        box[0] += 1
        if type(value) is OldList:
            value.items.append(box[0])
        elif type(value) is NewList:
            value.values.append(box[0])
        elif type(value) is Old:
            value.n = box[0]
        else:
            value.count = box[0]

    def operation(self) -> None:
        chance, key = self.random.random(), self.random.choice(self.keys)
        table, model = self.table, self.model
        if chance < self.delete_part:
            if self.random.random() < 0.3 and model:
                got, expected = table.popitem(), model.popitem()
                assert got[0] == expected[0], ("popitem", got, expected)
            else:
                got = table.pop(key, None)
                assert (got is None) == (model.pop(key, None) is None), ("pop", key)
        elif chance < self.delete_part + self.write_part:
            self.insert(key)
        elif chance < self.delete_part + self.write_part + 0.05:
            self.share(key)
        elif chance < 0.9:
            value = table.get(key)
            assert (value is None) == (key not in model), ("get", key)
            if value is not None:
                self.check_value(key, value)
                self.bump(value, model[key], key)
                self.held.append((table[key], model[key]))
        elif chance < 0.95 and self.held and self.kind != "int":
            value, box = self.random.choice(self.held)  # a call that goes on with what it read
            self.bump(value, box, key)
        elif chance < 0.97:
            assert list(table) == list(model), "order"
        else:
            assert len(table) == len(model), "length"
            assert (key in table) == (key in model), ("in", key)

    def operations(self, most: int) -> None:
        for _ in range(self.random.randrange(most)):
            self.operation()

    def steps(self, generator: Any) -> Any:
        while True:
            self.operations(4)
            try:
                next(generator)
            except StopIteration as stop:
                return stop.value

    def compare(self, phase: str) -> None:
        layers = getattr(self.table, "_layers", None)
        touched = None if layers is None else layers.touched
        if layers is not None:
            layers.touched = None  # looking at everything must not hide what was not noted
        try:
            self.compare_all(phase)
        finally:
            if layers is not None:
                layers.touched = touched

    def compare_all(self, phase: str) -> None:
        assert list(self.table) == list(self.model), ("order", phase)
        assert len(self.table) == len(self.model), ("length", phase)
        for key, value in self.table.items():
            self.check_value(key, value)
        assert list(reversed(self.table)) == list(reversed(self.model)), ("reversed", phase)
        if self.kind != "int":
            self.compare_identity(phase)

    def compare_identity(self, phase: str) -> None:
        seen: dict[int, str] = {}
        for key, box in self.model.items():
            first = seen.setdefault(id(box), key)
            same = self.table[first] is self.table[key]
            assert same, ("identity", phase, first, key)

    # The reload.

    def run(self) -> None:
        try:
            for _ in range(self.random.choice([1, 1, 2])):
                self.reload()
            assert not watched_classes(), "barriers are left"
        finally:
            for barrier in list(watching._barriers.values()):  # a failed seed must not harm others
                barrier.sinks.clear()
                barrier.remove()
            watching._barriers.clear()

    def pause(self) -> None:
        """Calls are drained: nobody holds a value any more."""
        self.held.clear()

    def reload(self) -> None:
        going_down = self.new
        one, other = (lambda v: down(v, None), lambda v, _: up(v)) if going_down else (up, down)
        hints = [OldList if self.kind == "list" else Old, NewList if self.kind == "list" else New]
        if going_down:
            hints.reverse()
        has_follower = self.random.random() < 0.7
        window = self.window_class(
            self.table,
            one,
            downgrade=other if has_follower else None,
            old_type=hints[0] if self.kind != "int" else int,
            family=Family(),
            limit=self.random.choice([0, 2, 64]),
        )
        window.open()
        window.layers.__class__ = self.layers_class
        if self.mirror_class is not Mirror:
            window.mirror.__class__ = self.mirror_class
        marks_max = window.mirror.marks_max = self.random.choice([0, 3, 2000])
        self.operations(3)
        self.held.clear()  # the grace period
        if self.copy(window):
            self.commit(window, marks_max, has_follower=has_follower)
        self.compare("end")
        assert type(self.table) is Table

    def copy(self, window: Window) -> bool:
        """Copy while serving; return whether to go on to the commit."""
        copying = window.copy_slices()
        if self.random.random() < 0.1:
            for _ in range(self.random.randrange(20)):
                self.operations(3)
                next(copying, None)
            copying.close()
            self.abandon(window)
            return False
        outcome = self.steps(copying)
        assert outcome in tuple(CopyOutcome)
        self.operations(4)
        if self.random.random() < 0.3:
            keys = window.mirror.take_read()
            self.operations(3)
            self.held.clear()  # another grace period
            self.steps(window.mirror.copy_read_steps(keys))
        if self.random.random() < 0.5:
            self.steps(window.copy_slices())
        self.compare("window")
        return True

    def abandon(self, window: Window) -> None:
        window.abandon()
        assert type(self.table) is Table
        self.compare("abandoned")
        self.steps(release_in_slices(window.garbage))

    def commit(self, window: Window, marks_max: int, *, has_follower: bool) -> None:
        self.pause()
        self.compare("drained")
        window.finish()
        window.commit()
        if type(self.table) is FoldingTable and self.folding_class is not FoldingTable:
            self.table.__class__ = self.folding_class
        if self.random.random() < 0.15:
            before = {key: box[0] for key, box in self.model.items()}
            order, boxes = list(self.model), dict(self.model)
            self.new = not self.new
            for _ in range(self.random.randrange(4)):
                self.operation()  # on_start of the candidate writes, then the reload fails
            self.pause()
            self.new = not self.new
            for key in order:
                boxes[key][0] = before[key]
            self.model = {key: boxes[key] for key in order}
            self.abandon(window)
            return
        self.new = not self.new
        if has_follower:
            window.follower().mirror.marks_max = marks_max
        self.compare("committed")
        self.steps(window.fold_slices())
        self.steps(release_in_slices(window.garbage))
        self.compare("folded")
        if has_follower:
            self.probation(window)
        assert type(self.table) is Table

    def probation(self, window: Window) -> None:
        follower = window.follower()
        for _ in range(self.random.randrange(4)):
            self.steps(follower.follow_slices())
            self.operations(6)
            if self.random.random() < 0.3:
                keys = follower.mirror.take_read()
                self.held.clear()
                self.steps(follower.mirror.copy_read_steps(keys))
        self.compare("followed")
        if self.random.random() < 0.6:
            self.pause()
            follower.drain()
            follower.rollback()
            self.new = not self.new
            self.compare("rolled back")
            self.steps(follower.fold_slices())
        else:
            self.steps(window.end_slices())
        self.steps(release_in_slices(follower.garbage))
        self.compare("after probation")


class LazySchedule(Schedule):
    """The same with records that become new ones when they are used."""

    window_class = LazyWindow

    def compare_all(self, phase: str) -> None:
        if not isinstance(self.table, LazyTable) or self.random.random() < 0.2:
            super().compare_all(phase)
            return
        # Looking at a record would migrate it: most are to be left for traffic and the sweep.
        assert list(self.table) == list(self.model), ("order", phase)
        assert len(self.table) == len(self.model), ("length", phase)


def run(seed: int, kind: type[Schedule] = Schedule) -> None:
    """Run one seed."""
    kind(seed).run()


def first_failure(seeds: range, kind: type[Schedule]) -> int | None:
    """Return the first seed that fails, or None."""
    for seed in seeds:
        try:
            run(seed, kind)
        except (AssertionError, KeyError):
            return seed
    return None
