"""Send a share of a module's calls to a second lane, while the first one serves.

A chain stays with the version that it met first: one that has been in either lane goes to that one
again. Which lane a new one enters is decided by counting, not by chance, so that a share of one in
twenty is every twentieth call. Nothing of this is on the way of a call at any other time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from replank.traffic.calls import chain_var
from replank.traffic.lane import Lane

Entry = Callable[..., Any]


class Sharing:
    """Shares the calls of a lane with another one.

    Args:
        first: The lane that serves.
        second: The lane that gets a share; its gate is the same.
        calls: Names of the calls that are shared.

    Attributes:
        share: How much the second one gets, from 0 to 1; may be changed at any time.
    """

    def __init__(self, first: Lane, second: Lane, calls: Iterable[str]) -> None:
        self.share = 0.0
        self._first = first
        self._second = second
        self._calls = frozenset(calls)
        self._whole: dict[str, Entry] | None = None

    def start(self) -> None:
        """Share the calls from now on; handles must look the first lane's entries up again."""
        assert self._whole is None, "the calls are shared already"
        self._whole = self._first.entries
        self._second.open = True
        self._first.entries = {
            name: self._shared(entry, self._second.entries[name]) if name in self._calls else entry
            for name, entry in self._whole.items()
        }

    def stop(self) -> None:
        """Have the first lane take all calls again; those in flight in the second one go on."""
        whole, self._whole = self._whole, None
        # What was handed out and has not begun finds the second lane closed, and enters the first.
        self._second.open = False
        if whole is not None and self._first.entries:  # it may have been unloaded meanwhile
            self._first.entries = whole

    def _shared(self, entry: Entry, other: Entry) -> Entry:
        first, second = self._first, self._second
        owed = 0.0

        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal owed
            if not (first.open and second.open):
                return entry(*args, **kwargs)
            chain = chain_var.get()
            if chain is not None and chain.first is not None:
                if second in chain.lanes:
                    return other(*args, **kwargs)
                if first in chain.lanes:
                    return entry(*args, **kwargs)
            owed += self.share
            if owed < 1:
                return entry(*args, **kwargs)
            owed -= 1
            return other(*args, **kwargs)

        return call


__all__ = ["Sharing"]
