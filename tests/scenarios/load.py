"""Callers and senders that keep their own account, to be compared with the module's."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Self

Call = Callable[[str, int], Awaitable[Any]]


@dataclass
class Load:
    """So many callers, each with its own sequence of numbers, until told to stop.

    `call` performs one call and returns (version label, ...); `send` queues one message.
    """

    call: Call
    send: Call
    callers: int = 50
    senders: int = 4
    answers: list[str] = field(default_factory=list)
    sent: dict[str, int] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    _stop: bool = False
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    progress: asyncio.Event = field(default_factory=asyncio.Event)

    async def __aenter__(self) -> Self:
        for index in range(self.callers):
            self._tasks.append(asyncio.create_task(self._caller(f"caller-{index}")))
        for index in range(self.senders):
            self._tasks.append(asyncio.create_task(self._sender(f"sender-{index}")))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop = True
        await asyncio.gather(*self._tasks)

    async def some_answers(self, count: int = 1) -> None:
        """Return when so many more answers have come."""
        goal = len(self.answers) + count
        while len(self.answers) < goal:
            self.progress.clear()
            await self.progress.wait()

    async def _caller(self, name: str) -> None:
        number = 0
        while not self._stop:
            number += 1
            try:
                version, *_ = await self.call(name, number)
            except Exception as error:
                self.errors.append(repr(error))
                return
            self.sent[name] = number
            self.answers.append(version)
            self.progress.set()
            await asyncio.sleep(0)

    async def _sender(self, name: str) -> None:
        number = 0
        while not self._stop:
            number += 1
            await self.send(name, number)
            self.sent[name] = number
            await asyncio.sleep(0)

    def compare(self, account: dict[str, Any]) -> dict[str, int]:
        """Return what was lost, doubled and reordered, by our own account and the module's."""
        expected = {name: number * (number + 1) // 2 for name, number in self.sent.items()}
        lost = sum(account["last"].get(name, 0) < number for name, number in self.sent.items())
        return {
            "lost": lost,
            "doubled": account["doubled"],
            "reordered": account["reordered"],
            "wrong_sums": sum(
                account["total"].get(name, 0) != total for name, total in expected.items()
            ),
            "errors": len(self.errors),
            "unexplained": account["sum"] - sum(expected.values()),
        }

    def mixed_answers(self) -> int:
        """Return how often an answer by an older version came after one by a newer."""
        turns = [a for a, b in zip(self.answers, self.answers[1:], strict=False) if a != b]
        return len(turns)


NOTHING_WRONG = {
    "lost": 0,
    "doubled": 0,
    "reordered": 0,
    "wrong_sums": 0,
    "errors": 0,
    "unexplained": 0,
}
