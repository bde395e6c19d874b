"""Look into suspended coroutines without leaving a mark on them.

To read `frame.f_locals` is not enough: before Python 3.13 the frame then keeps a dict with every
local for as long as it runs, so that a user's `del big` would no longer free anything.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterable
from types import CoroutineType, FrameType
from typing import Any


def references(coroutine: Any) -> list[Any]:
    """Return all that a suspended coroutine or generator refers to, its locals included.

    Args:
        coroutine: Not running.
    """
    return gc.get_referents(coroutine)


def arguments(coroutine: CoroutineType[Any, Any, Any]) -> Iterable[Any]:
    """Return the values that the parameters of a coroutine have now; none once it has ended.

    Args:
        coroutine: Not running.
    """
    frame: FrameType | None = coroutine.cr_frame
    if frame is None:
        return ()
    names = frame.f_code.co_varnames[: frame.f_code.co_argcount]
    in_use = {id(one) for one in gc.get_referents(coroutine) if type(one) is dict and one}
    found = frame.f_locals
    values = [found.get(name) for name in names]
    if sys.version_info < (3, 13) and id(found) not in in_use:
        found.clear()  # filled for us only, and kept by the frame
    return values


__all__ = ["arguments", "references"]
