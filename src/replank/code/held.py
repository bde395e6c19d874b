"""What a generation holds beside its state, for the look at leaks on probation."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping
from typing import Any

from replank.code.caches import modules_below
from replank.code.generation import Generation
from replank.verification.growth import Grown, Growth, Space, read_sizes

RunningTasks = Callable[[], Mapping[Any, Any]]
"""Returns the tasks that the generation runs."""


class Held:
    """Reads it, in slices; each look is one more point on the way of every length.

    Args:
        generation: One that is loaded in this process.
        tasks: Its tasks: what they hold cannot be seen, but how many they are.
    """

    def __init__(self, generation: Generation, tasks: RunningTasks) -> None:
        self._generation = generation
        self._tasks = tasks
        self._growth = Growth(self._spaces, self._declared, {})

    async def sizes(self) -> dict[str, int]:
        """Return how long each container is that can be reached, by its place."""
        found: dict[str, int] = {}
        for _ in read_sizes(self._spaces(), self._declared(), found):
            await asyncio.sleep(0)
        return found

    async def begin(self, before: Mapping[str, int]) -> None:
        """Begin to watch.

        Args:
            before: What the version before held when it ended, by place: as much is no leak.
        """
        self._growth = Growth(self._spaces, self._declared, before)

    async def look(self, calls: int) -> tuple[Grown, ...]:
        """Look once; return what has grown with the calls so far, what holds most first.

        Args:
            calls: How many calls the generation has had.
        """
        for _ in self._growth.look(calls):
            await asyncio.sleep(0)
        return tuple(self._growth.grown)

    def _declared(self) -> list[Any]:
        generation = self._generation
        return list(generation.values().values()) if generation.target is not None else []

    def _spaces(self) -> list[Space]:
        """Return the names in which the generation can keep something."""
        generation = self._generation
        if generation.target is None:  # it was unloaded
            return []
        root = generation.code.private_name
        modules = [sys.modules[name] for name in modules_below(root)]
        found: list[Space] = [
            (f"global {'.'.join((*one.__name__.split('.')[1:], '{}'))}", vars(one))
            for one in modules
        ]
        if generation.definition.owner is not None:
            hints, names = generation.definition.hints, vars(generation.target)
            found.append(("self.{}", {k: one for k, one in names.items() if k not in hints}))
        return [*found, ("{}", {"its tasks": self._tasks()})]


__all__ = ["Held"]
