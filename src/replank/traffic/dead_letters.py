"""Messages that are put aside: those that cannot be read, and those that crash their module."""

from __future__ import annotations

from typing import Final

import msgspec

from replank.errors import ModuleCrashed, ReplankError
from replank.journal.port import TrimmablePort
from replank.traffic.payload import DeadLetter

_CRASHES_MAX: Final = 3
"""A message under which the module's process ended so often is put aside."""


class DeadLetters:
    """The stream of what was put aside, and who is about to be.

    Args:
        port: Where the stream is.
        module: Whose messages they are.
    """

    def __init__(self, port: TrimmablePort, module: str) -> None:
        self.stream = f"dead/{module}"
        self._port = port
        self._condemned: dict[int, ModuleCrashed | None] = {}
        """By position, messages that are not handled again, and why; None once that was told."""
        self._crashed: tuple[int, int] = (0, 0)
        """The position of the message under which the module's process ended, and how often."""

    def count_crash(self, position: int, error: ModuleCrashed) -> None:
        """Count the ends of the module's process under one message: some are enough.

        Args:
            position: Of the message.
            error: How the process ended.
        """
        times = self._crashed[1] + 1 if self._crashed[0] == position else 1
        self._crashed = (position, times)
        if times >= _CRASHES_MAX:
            self._condemned[position] = error

    def condemned(self, position: int) -> bool:
        """Tell whether a message is not to be handled again."""
        return position in self._condemned

    def take_reason(self, position: int) -> ModuleCrashed | None:
        """Return why a message is condemned, once: None when that was told already."""
        reason, self._condemned[position] = self._condemned[position], None
        return reason

    async def add(self, position: int, payload: bytes, error: ReplankError) -> None:
        """Keep a message for who looks after it.

        Args:
            position: Of the message.
            payload: As it was accepted.
            error: Why it is put aside.

        Raises:
            JournalError: It could not be written.
        """
        letter = msgspec.msgpack.encode(DeadLetter(position, str(error), payload))
        await self._port.publish(self.stream, [letter])

    async def read(self, after: int, limit: int) -> tuple[DeadLetter, ...]:
        """Return what was put aside, oldest first.

        Args:
            after: How many to pass over.
            limit: How many at most.

        Raises:
            JournalError: They cannot be read.
        """
        entries = await self._port.read(self.stream, after, limit)
        return tuple(msgspec.msgpack.decode(one.payload, type=DeadLetter) for one in entries)


__all__ = ["DeadLetters"]
