"""Writes that wait for the one writer thread: whoever's turn it is writes for all of them.

A transaction costs one flush of the disk, whatever is in it. While one is being written others
queue up; the first of them takes all along. Should that fail, each is written by itself, so that
nobody bears another's error.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

_TURN_S: Final = 5.0
"""How long another connection waits for the writer's turn to end."""

Work = Callable[[sqlite3.Connection], Any]


class Write:
    """One write that waits; filled by whoever writes it.

    Args:
        work: What to do in the transaction; it may be done again when a transaction failed.

    Attributes:
        done: Whether it was written, or failed.
        dropped: Whether nobody wants it any more: then it is not begun.
    """

    __slots__ = ("answer", "done", "dropped", "error", "work")

    def __init__(self, work: Work) -> None:
        self.work = work
        self.done = self.dropped = False
        self.answer: Any = None
        self.error: BaseException | None = None

    def do(self, transaction: Callable[[Work], Any]) -> None:
        """Write it by itself, and keep what came of it."""
        try:
            self.answer = transaction(self.work)
        except BaseException as error:
            self.error = error
        self.done = True


class GroupedWrites:
    """The writes that wait. Added on the loop's thread, written on the writer's.

    Args:
        transaction: Does work in one transaction, all or none.
    """

    def __init__(self, transaction: Callable[[Work], Any]) -> None:
        self._transaction = transaction
        self._turn = threading.Lock()
        self._waiting: deque[Write] = deque()

    def add(self, work: Work) -> Write:
        """Have a write wait for its turn."""
        write = Write(work)
        self._waiting.append(write)
        return write

    def settle(self, write: Write) -> Any:
        """Write all that wait when this one was not written yet; return its answer, or raise."""
        if not write.done:
            with self._turn:
                self._write_waiting()
        if write.error is not None:
            raise write.error
        return write.answer

    @contextmanager
    def held(self) -> Iterator[None]:
        """Have none of them written inside, where another connection writes.

        SQLite would have it sleep and look again while one is written, for longer each time; it
        still does when that takes too long, and says so.
        """
        taken = self._turn.acquire(timeout=_TURN_S)
        try:
            yield
        finally:
            if taken:
                self._turn.release()

    def _write_waiting(self) -> None:
        taken = [self._waiting.popleft() for _ in range(len(self._waiting))]
        batch = [one for one in taken if not one.dropped]
        if len(batch) > 1:
            try:
                answers = self._transaction(lambda db: [one.work(db) for one in batch])
            except Exception:  # noqa: S110 - told below, to the one whose fault it is
                pass
            else:
                for one, answer in zip(batch, answers, strict=True):
                    one.answer, one.done = answer, True
                return
        for one in batch:
            one.do(self._transaction)


__all__ = ["GroupedWrites", "Write"]
