"""The last calls of a module's queries, kept so that a candidate can be asked them again.

A call is kept as bytes, so what its caller does with the arguments later changes nothing, and so
that what is kept has a size. Most calls cost one count: after the first few only one in sixteen is
written down.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

from replank.errors import WrongArguments
from replank.traffic.messages import Message
from replank.traffic.payload import encode_message

_STRIDE: Final = 16
_PAYLOAD_BYTES_MAX: Final = 64 * 1024

Entry = Callable[..., Any]


class LaneOfRecent(Protocol):
    """What is needed of a lane."""

    entries: dict[str, Entry]


class Recent:
    """A bounded memory of calls.

    Args:
        module: Name of the module.
        calls_max: Calls kept; the oldest go first.
        bytes_max: Bytes kept.

    Attributes:
        left_out: Calls that could not be kept: an argument has no schema, or is too long.
    """

    def __init__(self, module: str, *, calls_max: int, bytes_max: int) -> None:
        self.left_out = 0
        self._module = module
        self._calls_max = calls_max
        self._bytes_max = bytes_max
        self._payloads: deque[bytes] = deque()
        self._bytes = 0

    @property
    def size_bytes(self) -> int:
        """How much is kept."""
        return self._bytes

    def payloads(self) -> tuple[bytes, ...]:
        """Return what is kept, for `read_message`, each call once, the newest first."""
        return tuple(dict.fromkeys(reversed(self._payloads)))

    def keep(self, lane: LaneOfRecent, calls: Iterable[str]) -> None:
        """Keep calls that come through a lane, from now on and for as long as it lives.

        Args:
            lane: The lane.
            calls: Names of the calls to keep.
        """
        for name in calls:
            lane.entries[name] = self._kept(name, lane.entries[name])

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
        self._payloads.append(payload)
        self._bytes += len(payload)
        while len(self._payloads) > self._calls_max or self._bytes > self._bytes_max:
            self._bytes -= len(self._payloads.popleft())

    def _kept(self, name: str, entry: Entry) -> Entry:
        left = 1  # a variable of this function's own: half the price of an attribute

        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal left
            left -= 1
            if not left:
                left = 1 if len(self._payloads) < self._calls_max else _STRIDE
                self.note(name, args, kwargs)
            return entry(*args, **kwargs)

        return call


__all__ = ["Recent"]
