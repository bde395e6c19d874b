"""The writer's thread and whoever writes beside it take turns."""

from __future__ import annotations

import threading

import pytest

from replank.journal import grouped
from replank.journal.grouped import GroupedWrites


def test_nothing_is_written_while_another_connection_writes() -> None:
    written: list[str] = []
    one = GroupedWrites(lambda work: written.append(work(None)))
    write = one.add(lambda _: "theirs")
    begun = threading.Event()

    def settle() -> None:
        begun.set()
        one.settle(write)

    writer = threading.Thread(target=settle)
    with one.held():
        writer.start()
        begun.wait(10)
        written.append("ours")
    writer.join(10)
    assert written == ["ours", "theirs"]


def test_another_connection_waits_for_the_write_that_is_under_way() -> None:
    begun, go_on, done = threading.Event(), threading.Event(), []

    def work(_: object) -> None:
        begun.set()
        go_on.wait(10)
        done.append("theirs")

    one = GroupedWrites(lambda work: work(None))
    writer = threading.Thread(target=one.settle, args=[one.add(work)])
    writer.start()
    begun.wait(10)
    threading.Timer(0.01, go_on.set).start()
    with one.held():
        done.append("ours")
    writer.join(10)
    assert done == ["theirs", "ours"]


def test_a_write_that_does_not_end_leaves_the_word_to_sqlite(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(grouped, "_TURN_S", 0.001)
    begun, go_on = threading.Event(), threading.Event()

    def work(_: object) -> None:
        begun.set()
        go_on.wait(10)

    one = GroupedWrites(lambda work: work(None))
    writer = threading.Thread(target=one.settle, args=[one.add(work)])
    writer.start()
    begun.wait(10)
    with one.held():
        go_on.set()
    writer.join(10)
    with one.held():  # nobody holds it any more
        pass
