"""Drive a coroutine step by step, so that it can be kept at the await where it stands."""

from __future__ import annotations

import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Protocol


class Steps(Protocol):
    """What is driven: a coroutine, or the next item of an async generator."""

    def send(self, value: Any, /) -> Any:
        """Take the next step."""

    def throw(self, error: BaseException, /) -> Any:
        """Take the next step with an error."""

    def close(self) -> object:
        """End it where it stands."""


@types.coroutine
def stepwise(
    coroutine: Steps, may_step: Callable[[], Coroutine[Any, Any, None] | None]
) -> Generator[Any, Any, Any]:
    """Drive a coroutine, and ask before each of its steps; a cancellation always gets through.

    Args:
        coroutine: What to drive.
        may_step: Returns what to wait for before the next step, or None.
    """
    error: BaseException | None = None
    value: Any = None
    try:
        while True:
            if error is None:
                try:
                    if (waiting := may_step()) is not None:
                        yield from waiting.__await__()
                except BaseException as raised:
                    error = raised
            try:
                awaited = coroutine.send(value) if error is None else coroutine.throw(error)
            except StopIteration as stop:
                return stop.value
            error = value = None
            try:
                value = yield awaited
            except BaseException as raised:
                error = raised
    finally:
        coroutine.close()


__all__ = ["Steps", "stepwise"]
