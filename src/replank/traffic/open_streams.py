"""The streams that are open in one generation; one whose reader has dropped it is not counted."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from replank.traffic.streams import Stream


class OpenStreams:
    """A set that holds nobody, and says when it is empty."""

    def __init__(self) -> None:
        self._references: dict[int, weakref.ref[Stream]] = {}
        self.on_empty: Callable[[], None] | None = None

    def __len__(self) -> int:
        return len(self._references)

    def __iter__(self) -> Iterator[Stream]:
        found = [reference() for reference in list(self._references.values())]
        return iter([one for one in found if one is not None])

    def add(self, stream: Stream) -> None:
        """Count a stream in."""
        key = id(stream)
        self._references[key] = weakref.ref(stream, lambda _: self._drop(key))

    def discard(self, stream: Stream) -> None:
        """Count a stream out, if it is in."""
        self._drop(id(stream))

    def _drop(self, key: int) -> None:
        if self._references.pop(key, None) is not None and not self._references:
            on_empty = self.on_empty
            if on_empty is not None:
                on_empty()


__all__ = ["OpenStreams"]
