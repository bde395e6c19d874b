"""Messages on their way to the disk, and the senders who wait until they are there."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from replank.errors import ReplankError

_BATCH_MAX: Final = 1_024
_BATCH_BYTES_MAX: Final = 4 * 1024 * 1024


class Outgoing(NamedTuple):
    """One message, and what its sender waits for."""

    payload: bytes
    accepted: asyncio.Future[None]


class OutgoingQueue:
    """Senders in the order of their coming; those who give up are passed over."""

    def __init__(self) -> None:
        self._waiting: deque[Outgoing] = deque()

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self._waiting)

    def add(self, payload: bytes) -> asyncio.Future[None]:
        """Queue a message; returns what its sender is to wait for.

        Args:
            payload: As it will lie on the disk.
        """
        accepted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(Outgoing(payload, accepted))
        return accepted

    def next_batch(self, room: int) -> list[Outgoing]:
        """Take as many as may be written at once.

        Args:
            room: How many messages have room.
        """
        batch: list[Outgoing] = []
        size = 0
        while self._waiting and len(batch) < min(room, _BATCH_MAX):
            if batch and size + len(self._waiting[0].payload) > _BATCH_BYTES_MAX:
                break
            one = self._waiting.popleft()
            if not one.accepted.done():
                batch.append(one)
                size += len(one.payload)
        return batch

    def refuse_all(self, refusal: Callable[[], ReplankError]) -> None:
        """Tell every sender that its message is not taken.

        Args:
            refusal: Makes what a sender is told.
        """
        while self._waiting:
            refuse([self._waiting.popleft()], refusal())


def accept(batch: Sequence[Outgoing]) -> None:
    """Tell the senders of a batch that their messages are on the disk."""
    for one in batch:
        if not one.accepted.done():
            one.accepted.set_result(None)


def refuse(batch: Sequence[Outgoing], error: ReplankError) -> None:
    """Tell the senders of a batch why their messages are not taken."""
    for one in batch:
        if not one.accepted.done():
            one.accepted.set_exception(error)


__all__ = ["Outgoing", "OutgoingQueue", "accept", "refuse"]
