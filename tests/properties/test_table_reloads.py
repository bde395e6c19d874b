"""Table against dict, across windows, commits, folds, undos, rollbacks and returns."""

from __future__ import annotations

import copy
import pickle

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from replank.record import Record
from replank.state.lazy import LazyTable, LazyWindow
from replank.state.slices import run_all
from replank.state.watching import watched_classes
from replank.state.window import Window
from replank.table import Table

KEYS = st.one_of(st.integers(0, 8), st.sampled_from(["a", "b", "c", (1, 2)]))
NUMBERS = st.integers(0, 99)


class V1(Record):
    n: int
    extra: int = 0


class V2(Record):
    m: int


def up(record):
    return V2(record.n)


def down(record, old):
    return V1(record.m, old.extra if old is not None else 0)


def back(record):
    return V1(record.m)


def forth(record, _old):
    return V2(record.n)


class TableReloads(RuleBasedStateMachine):
    """The model is a dict of numbers; the table holds records of the version that serves."""

    window_class = Window

    def __init__(self):
        super().__init__()
        self.table, self.model = Table(), {}
        self.new = False
        self.window = self.follower = self.work = None
        self.phase = "steady"

    def record(self, number):
        return V2(number) if self.new else V1(number)

    def number(self, record):
        assert type(record) is (V2 if self.new else V1)
        return record.m if self.new else record.n

    @initialize(items=st.dictionaries(KEYS, NUMBERS))
    def fill(self, items):
        for key, number in items.items():
            self.put(key, number)

    # What users do.

    @rule(key=KEYS, number=NUMBERS)
    def put(self, key, number):
        self.table[key] = self.record(number)
        self.model[key] = number

    @rule(key=KEYS)
    def add_in_place(self, key):
        record = self.table.get(key)
        assert (record is None) == (key not in self.model)
        if record is not None:
            if self.new:
                record.m += 1
            else:
                record.n += 1
            self.model[key] += 1

    @rule(key=KEYS)
    def delete(self, key):
        found = self.table.pop(key, None)
        expected = self.model.pop(key, None)
        assert (None if found is None else self.number(found)) == expected

    @rule()
    def take_last(self):
        if self.model:
            key, record = self.table.popitem()
            assert (key, self.number(record)) == self.model.popitem()

    @rule(key=KEYS, number=NUMBERS)
    def set_default(self, key, number):
        got = self.table.setdefault(key, self.record(number))
        assert self.number(got) == self.model.setdefault(key, number)

    @rule(items=st.dictionaries(KEYS, NUMBERS, max_size=4), union=st.booleans())
    def update(self, items, union):
        records = {key: self.record(number) for key, number in items.items()}
        if union:
            self.table |= records
        else:
            self.table.update(records)
        self.model.update(items)

    @rule()
    def clear(self):
        self.table.clear()
        self.model.clear()

    @rule()
    def copies(self):
        for other in (self.table.copy(), copy.copy(self.table), self.table | {}, dict(self.table)):
            assert [(k, self.number(v)) for k, v in other.items()] == list(self.model.items())
        assert pickle.loads(pickle.dumps(self.table)) == self.table

    # What a reload does.

    @precondition(lambda self: self.phase == "steady")
    @rule(follow=st.booleans())
    def open(self, follow):
        one, other = (back, forth) if self.new else (up, down)
        self.window = self.window_class(
            self.table, one, downgrade=other if follow else None, limit=0
        )
        self.window.open()
        self.work = self.window.copy_slices()
        self.phase = "window"

    @precondition(lambda self: self.work is not None)
    @rule(steps=st.integers(1, 4))
    def work_on(self, steps):
        for _ in range(steps):
            if next(self.work, "end") == "end":
                self.finish_work()
                return

    @precondition(lambda self: self.work is not None)
    @rule()
    def finish_work(self):
        run_all(self.work)
        self.work = None
        if self.phase == "folding":
            self.follower = self.window._follower
            self.phase = "steady" if self.follower is None else "followed"
        elif self.phase in ("folding back", "ending"):
            self.follower, self.phase = None, "steady"

    @precondition(lambda self: self.phase == "window")
    @rule()
    def commit(self):
        self.window.finish()
        self.window.commit()
        self.new, self.work, self.phase = not self.new, None, "committed"
        self.at_commit = dict(self.model)

    @precondition(lambda self: self.phase == "committed")
    @rule()
    def fold(self):
        self.work, self.phase = self.window.fold_slices(), "folding"

    @precondition(lambda self: self.phase == "committed")
    @rule()
    def undo(self):
        self.window.undo()
        self.model, self.new = self.at_commit, not self.new
        self.phase = "window"

    @precondition(lambda self: self.phase in ("window", "committed"))
    @rule()
    def abandon(self):
        if self.phase == "committed":
            self.model, self.new = self.at_commit, not self.new
        self.window.abandon()
        self.work, self.phase = None, "steady"

    @precondition(lambda self: self.phase == "followed" and self.work is None)
    @rule()
    def follow(self):
        self.work = self.follower.follow_slices()

    @precondition(lambda self: self.phase == "followed")
    @rule()
    def roll_back(self):
        self.follower.drain()
        self.follower.rollback()
        self.new = not self.new
        self.work, self.phase = self.follower.fold_slices(), "folding back"

    @precondition(lambda self: self.phase == "followed")
    @rule()
    def end_probation(self):
        self.work, self.phase = self.window.end_slices(), "ending"

    # What must always hold.

    @invariant()
    def is_the_dict(self):
        table, model = self.table, self.model
        assert len(table) == len(model)
        assert list(table) == list(model)
        assert [self.number(record) for record in table.values()] == list(model.values())
        assert list(reversed(table.keys())) == list(reversed(model.keys()))
        assert table.keys() == model.keys()
        assert all(key in table for key in model)

    @invariant()
    def costs_nothing_in_steady_state(self):
        if self.phase == "steady":
            assert type(self.table) is Table
            assert not watched_classes()

    def teardown(self):
        if self.phase in ("window", "committed"):
            self.abandon()
        elif self.phase in ("folding", "folding back", "ending"):
            self.finish_work()
        if self.phase == "followed":
            run_all(self.window.end_slices())
        self.is_the_dict()
        assert not watched_classes()


class LazyReloads(TableReloads):
    """The same with records that are migrated when they are used."""

    window_class = LazyWindow

    @invariant()
    def is_the_dict(self):
        table, model = self.table, self.model
        if not isinstance(table, LazyTable):
            super().is_the_dict()
            return
        # Looking at the records would migrate them all: the other rules look at some.
        assert len(table) == len(model)
        assert list(table) == list(model)
        assert list(reversed(table.keys())) == list(reversed(model.keys()))
        assert all(key in table for key in model)

    @rule()
    def look_at_all(self):
        super().is_the_dict()


TestTableReloads = TableReloads.TestCase
TestTableReloads.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestLazyReloads = LazyReloads.TestCase
TestLazyReloads.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
