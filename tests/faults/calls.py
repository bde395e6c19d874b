"""Count the calls of our own functions inside one part of one phase, and let one of them raise."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import replank

BASE = Path(replank.__file__).parent


class Injected(Exception):
    """An error of ours, put where none should be."""


class Calls:
    """Counts the calls of our own functions inside parts of phases; the k-th one raises.

    It follows calls and returns with a stack of its own: when a task goes on after a wait, Python
    calls its outer frames first, and those are outside the part.
    """

    def __init__(self, at: int = 0) -> None:
        self.at = at
        self.names: list[str] = []
        self._stack: list[CodeType] = []

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        if event == "return" and self._stack:
            self._stack.pop()
        if event != "call":
            return
        code = frame.f_code
        if code.co_filename.startswith(str(BASE)) and self._counts(code):
            self.names.append(code.co_qualname)
            if len(self.names) == self.at:
                sys.setprofile(None)
                raise Injected(f"in {code.co_qualname}")
        self._stack.append(code)

    def _counts(self, code: CodeType) -> bool:
        """Tell whether a call is made inside the part, and not to take something back.

        What takes back, and what opens the gates at last, is the last resort: what is to be done
        when that fails, there is nobody left to do. And a task that is being started is in the
        hands of nobody for one call, and the point of no return is one call wide.
        """
        if Calls.work.__code__ not in self._stack or code.co_name in HOLDING | CLEANING:
            return False
        return not any(one.co_name in CLEANING for one in self._stack)

    async def work(self, work: Callable[[], Any]) -> Any:
        """Do the work of one part, counted."""
        self._stack = [Calls.work.__code__]
        sys.setprofile(self)
        try:
            return await work()
        finally:
            sys.setprofile(None)


CLEANING = frozenset(
    {
        "forget_undo",
        "spawn",
        "_resume",
        "__exit__",
        "close",
        "unload",
        "_forget",
        "_forget_inspected",
        "_reopen",
        "_settle",
    }
)


HOLDING = frozenset(
    {"run", "call", "guard", "<lambda>", "_guarded", "guarded", "_awaiting", "settled"}
)
"""These hold a coroutine that nobody has awaited yet: Python would warn of it at some later time."""
