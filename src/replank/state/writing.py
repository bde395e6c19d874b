"""Copy a small state at once; have a large one written by a forked child.

Both hold fast one moment: all fields of the module and its inbox's mark. Which of the two it is
depends on what they cost: copying by what it took the last time, a fork by the process's memory.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from time import perf_counter
from typing import Any, Final
from uuid import uuid4

import msgspec

from replank.errors import PhaseTimeout
from replank.forks import ChildDied, Fork, can_fork
from replank.memory import gather_pages, resident_bytes
from replank.state.collector import shared_heap
from replank.state.format import Snapshot, frames
from replank.state.holder import Holder
from replank.state.memo import Conflict
from replank.state.snapshot import (
    disk_errors,
    publish,
    take,
    temporary_of,
    trees_of,
    write,
    write_frames,
)
from replank.state.streaming import stream
from replank.threads import in_thread
from replank.traffic.messages import Mark

FORK_FROM_S: Final = 0.005
"""What copying may take while calls wait; more is left to a child."""
ITEM_S: Final = 2e-6
"""What copying one item takes, before it was measured."""
WORTH_MEASURING_S: Final = 0.001
"""A shorter copy says nothing about the next item: most of it is not for the items."""
FORK_S_A_BYTE: Final = 25e-12
"""What a fork takes: 7 to 10 ms at 300 MB."""


def name_for(folder: Path, module: str) -> Path:
    """Return the path of a new snapshot of a module."""
    return folder / f"{module}-{uuid4().hex[:12]}.snapshot"


class Writing:
    """A snapshot of the moment of its construction, which a forked child writes.

    Args:
        head: All of it but the state.
        values: The state, field by field, as its schema names it.
        holder: The generation that holds it.
        path: Where it will lie.

    Raises:
        OSError: There is no room for another process.
    """

    def __init__(
        self, head: Snapshot, values: Mapping[str, Any], holder: Holder, path: Path
    ) -> None:
        self.head = head
        self.path = path
        self.values = values
        self.holder = holder
        self.temporary = temporary_of(path)
        self._heap = contextlib.ExitStack()
        self._heap.enter_context(shared_heap())
        try:
            self._fork = Fork(self._write, f"the child that writes the state of {head.module}")
        except BaseException:
            self._heap.close()
            raise

    @property
    def pause_s(self) -> float:
        """How long the fork took, in seconds."""
        return self._fork.pause_s

    async def finish(self, limit_s: float) -> None:
        """Wait until it is on the disk under its name.

        Args:
            limit_s: Seconds that the child may take.

        Raises:
            SnapshotError: The state cannot be written, or the disk refuses.
            MigrationError: A value cannot be taken apart.
            ChildDied: The child was killed or crashed.
            PhaseTimeout: It did not end in time.
        """
        try:
            await self._fork.answer(limit_s)
            with disk_errors(self.path.name, self.head.module):
                await in_thread(publish, self.temporary, self.path)
        finally:
            self._heap.close()
            with contextlib.suppress(OSError):
                self.temporary.unlink(missing_ok=True)

    def again(self) -> Snapshot:
        """Copy the state as it is now; for a module that has stopped."""
        return _copied(self.head, self.values, self.holder)

    def _write(self) -> bytes:
        """Be the child's work."""
        trees = trees_of(self.holder.definition.hints, self.holder.own)
        with disk_errors(self.path.name, self.head.module):
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                write_frames(stream(self.head, self.values, trees), self.temporary)
            except Conflict:
                self.temporary.unlink()
                write_frames(frames(self.again()), self.temporary)
        return b"written"


class Copier:
    """Holds fast one module's state, again and again, at the lowest price.

    Attributes:
        forks: Whether large states go to a child; False once one has died.

    Args:
        module: The module's name.
        folder: Where snapshots lie.
    """

    def __init__(self, module: str, folder: Path) -> None:
        self.module = module
        self.forks = True
        self._folder = folder
        self._item_s = ITEM_S
        self._fork_s = math.inf

    async def approach(self, holder: Holder) -> None:
        """Make ready, while calls go on, what would take longer when none is in flight.

        Args:
            holder: The generation that holds the state.
        """
        if self.forks and can_fork() and state_items(holder) * self._item_s > FORK_FROM_S:
            await gather_pages()

    def freeze(self, holder: Holder, digest: str, mark: Mark) -> Snapshot | Writing:
        """Copy the state with its mark, or fork; nothing may be in flight in the module.

        Args:
            holder: The generation that holds the state.
            digest: Digest of its version.
            mark: Its inbox's, taken in the same step.

        Raises:
            MigrationError: A value cannot be taken apart.
        """
        definition = holder.definition
        head = take(
            self.module,
            {},
            definition.schema,
            label=definition.label,
            digest=digest,
            hints=definition.hints,
            own=holder.own,
            messages=mark.messages,
            inbox_position=mark.position,
        )
        named = {field.name for field in definition.schema.fields} - set(definition.carried)
        values = {name: value for name, value in holder.values().items() if name in named}
        items = 1 + sum(map(_items, values.values()))
        worth = worth_a_fork(items, item_s=self._item_s, fork_s=self._fork_s)
        if self.forks and worth and can_fork():
            with contextlib.suppress(OSError):  # no room for a process: then here
                writing = Writing(head, values, holder, name_for(self._folder, self.module))
                # The least so far: one on a busy machine says nothing of the next.
                self._fork_s = min(self._fork_s, writing.pause_s)
                return writing
        return self._measured(items, lambda: _copied(head, values, holder))

    async def put(
        self, frozen: Snapshot | Writing, kind: str, limit_s: float
    ) -> tuple[Snapshot, Path]:
        """Have what was held fast on the disk under its name.

        Args:
            frozen: From `freeze`.
            kind: Why: at a "stop", when nothing changes any more, what a child did not write is
                copied here.
            limit_s: Seconds that a child may take.

        Returns:
            All of it but the state, and where it lies.

        Raises:
            SnapshotError: The state cannot be written, or the disk refuses.
            ChildDied: The child that wrote it was killed; the next save copies in this process.
            PhaseTimeout: It did not end in time.
        """
        if isinstance(frozen, Writing):
            try:
                await frozen.finish(limit_s)
            except (ChildDied, PhaseTimeout):
                self.forks = False
                if kind != "stop":
                    raise
                frozen = frozen.again()
            else:
                return frozen.head, frozen.path
        path = name_for(self._folder, frozen.module)
        with disk_errors(path.name, frozen.module):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        await in_thread(write, frozen, path)
        return frozen, path

    def _measured(self, items: int, copy: Callable[[], Snapshot]) -> Snapshot:
        began = perf_counter()
        try:
            return copy()
        finally:
            taken_s = perf_counter() - began
            if taken_s > WORTH_MEASURING_S:
                self._item_s = taken_s / items


def worth_a_fork(items: int, *, item_s: float = ITEM_S, fork_s: float = math.inf) -> bool:
    """Tell whether copying a state takes too long, and longer than a fork.

    Args:
        items: How many it has.
        item_s: Seconds that copying one takes.
        fork_s: Seconds that a fork took.
    """
    return items * item_s > max(FORK_FROM_S, min(fork_s, resident_bytes() * FORK_S_A_BYTE))


def state_items(holder: Holder) -> int:
    """Count the items of a live state.

    Args:
        holder: The generation that holds it.
    """
    return sum(map(_items, holder.values().values()))


def _items(value: Any) -> int:
    """Count a field's items, itself included: what is in them is found out by measuring."""
    return 1 + (len(value) if isinstance(value, dict | list | set | frozenset) else 0)


def _copied(head: Snapshot, values: Mapping[str, Any], holder: Holder) -> Snapshot:
    definition = holder.definition
    taken = take(head.module, values, definition.schema, hints=definition.hints, own=holder.own)
    return msgspec.structs.replace(head, tree=taken.tree, records=taken.records)


__all__ = ["Copier", "Writing", "name_for", "state_items", "worth_a_fork"]
