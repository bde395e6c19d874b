"""The statements by which a call enters and leaves its lane in its own frame.

They do what `Lane.enter` and `Chain.leave` do; calls of those would be half of what they cost.
"""

from __future__ import annotations

from typing import Final

from replank.traffic.leaf import SINCE

LANE: Final = "__replank_lane__"

COUNT_LINES: Final = [
    "__replank_c = __replank_chain__()",
    "if __replank_c is not None and __replank_c.first is not None:",
    f"    __replank_c.touch({LANE})",
    f"{LANE}.calls += 1",
]
"""What an atomic call does: nobody has to know that it is in flight."""

LEAVE_LINES: Final = [
    "if __replank_pass is not None:",
    f"    if {LANE}.quick and __replank_pass.others is None:",
    "        __replank_pass.first = None",
    f"        {LANE}.chains.discard(__replank_pass)",
    "    else:",
    "        __replank_pass.leave()",
]
"""What `Chain.leave` does; written out where nobody has to be told."""


def enter_lines(call: str) -> list[str]:
    """Return what `Lane.enter` does, written out for a call from outside while nobody looks."""
    return [
        "__replank_pass = __replank_chain__()",
        f"if {LANE}.quick and (__replank_pass is None or __replank_pass.first is None):",
        f"    {LANE}.calls += 1",
        f"    __replank_pass = {LANE}.leaf",
        "    if __replank_pass is not None:",
        "        __replank_pass.count += 1",
        f"        {SINCE} = __replank_beat__.at",
        "    else:",
        f"        __replank_pass = __replank_begin__({LANE}, {call!r}, __replank_beat__.at)",
        f"        {LANE}.chains.add(__replank_pass)",
        "        __replank_set_chain__(__replank_pass)",
        "else:",
        f"    __replank_pass = {LANE}.enter({call!r})",
        f"    {SINCE} = __replank_beat__.at",
    ]


__all__ = ["COUNT_LINES", "LANE", "LEAVE_LINES", "enter_lines"]
