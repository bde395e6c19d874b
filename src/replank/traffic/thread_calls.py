"""One call in a thread of its module's pool, and where it stands, for whoever waits for it."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any


class ThreadCall:
    """One call on its way through a thread."""

    __slots__ = ("_ident", "_ran")

    def __init__(self) -> None:
        self._ident: int | None = None
        self._ran = False

    @property
    def waits(self) -> bool:
        """Whether every thread of the pool is busy, so that it has not begun."""
        return not self._ran

    def run(
        self, method: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        """Run the method; in the thread.

        Raises:
            BaseException: What the method raises.
        """
        self._ran = True
        self._ident = threading.get_ident()
        try:
            return method(*args, **kwargs)
        except StopIteration as error:  # no future takes one; a coroutine turns it into this
            raise RuntimeError("the call raised StopIteration") from error
        finally:
            self._ident = None

    def frames(self) -> list[FrameType]:
        """Return where it stands, from outermost to innermost; nothing while it does not run."""
        ident = self._ident
        frame = sys._current_frames().get(ident) if ident is not None else None
        found: list[FrameType] = []
        while frame is not None and frame.f_code is not ThreadCall.run.__code__:
            found.append(frame)
            frame = frame.f_back
        return found[::-1]


__all__ = ["ThreadCall"]
