"""The last calls of a module's queries, kept so that a candidate can be asked them again.

A call is kept as bytes, before it runs, so what its caller or the method does with the arguments
later changes nothing, and so that what is kept has a size.

A call that is not kept costs nothing: what keeps calls stands in a handle for one call only. Then
the handle has its plain entry again, until a fiftieth of a second later the next call is met. While
there is room every call is kept.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol

from replank.definition import Call, CallKind
from replank.errors import WrongArguments
from replank.traffic.messages import Message
from replank.traffic.payload import encode_message

EVERY_S: Final = 0.02
"""Seconds between two calls of a method that are kept, once there is no room for all."""
_PAYLOAD_BYTES_MAX: Final = 64 * 1024

Entry = Callable[..., Any]
Later = Callable[[float, Callable[[], None]], object]


class LaneOfRecent(Protocol):
    """What is needed of a lane."""

    @property
    def entries(self) -> dict[str, Entry]:
        """What a handle calls, by call name."""

    @property
    def contract(self) -> Any:
        """What is known of each call, by name."""


def _on_the_loop(delay_s: float, act: Callable[[], None]) -> object:
    return asyncio.get_running_loop().call_later(delay_s, act)


class Recent:
    """A bounded memory of calls.

    Args:
        module: Name of the module.
        calls_max: Calls kept; the oldest go first, of the method that has the most.
        bytes_max: Bytes kept.
        later: Does something after so many seconds.

    Attributes:
        left_out: Calls that could not be kept: an argument has no schema, or is too long.
    """

    def __init__(
        self, module: str, *, calls_max: int, bytes_max: int, later: Later = _on_the_loop
    ) -> None:
        self.left_out = 0
        self._module = module
        self._calls_max = calls_max
        self._bytes_max = bytes_max
        self._later = later
        self._payloads: dict[str, deque[bytes]] = {}
        self._count = 0
        self._bytes = 0
        self._full = False

    @property
    def size_bytes(self) -> int:
        """How much is kept."""
        return self._bytes

    def payloads(self) -> tuple[bytes, ...]:
        """Return what is kept, for `read_message`, each call once.

        The newest of each method come first: when there is no time for all, none is left out
        because others are called more often.
        """
        newest_first = [list(reversed(one)) for one in self._payloads.values()]
        longest = max(map(len, newest_first), default=0)
        ranks = range(longest)
        return tuple(dict.fromkeys(one[n] for n in ranks for one in newest_first if n < len(one)))

    def serve(self, space: dict[str, Any], lane: LaneOfRecent) -> None:
        """Keep calls that come through a handle, for as long as it leads to this lane.

        Args:
            space: The handle's own names, in which the lane's entries stand.
            lane: The lane.
        """
        calls: dict[str, Call] = lane.contract
        for name, call in calls.items():
            if call.query and call.kind is not CallKind.STREAM:
                self._arm(name, space, lane)

    def note(self, call: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Keep one call."""
        try:
            payload = encode_message(Message(call, args, kwargs), self._module)
        except WrongArguments:
            self.left_out += 1
            return
        if len(payload) > min(_PAYLOAD_BYTES_MAX, self._bytes_max):
            self.left_out += 1
            return
        self._payloads.setdefault(call, deque()).append(payload)
        self._count += 1
        self._bytes += len(payload)
        while self._count > self._calls_max or self._bytes > self._bytes_max:
            self._full = True
            fullest = max(self._payloads.values(), key=len)
            self._bytes -= len(fullest.popleft())
            self._count -= 1

    def _arm(self, name: str, space: dict[str, Any], lane: LaneOfRecent) -> None:
        """Have the next call of a method kept; the one after it finds the plain entry again."""
        if name not in lane.entries or space.get(name) is not lane.entries[name]:
            return  # another lane serves by now, or what looks at its calls: `serve` was told
        entry = lane.entries[name]

        def keep(*args: Any, **kwargs: Any) -> Any:
            if space.get(name) is keep:  # else a reference to it was kept: it is only passed on
                self.note(name, args, kwargs)
                if self._full:
                    space[name] = entry
                    self._later(EVERY_S, lambda: self._arm(name, space, lane))
            return entry(*args, **kwargs)

        space[name] = keep


__all__ = ["EVERY_S", "Recent"]
