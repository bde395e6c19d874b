"""Look at calls while a reload is in its window or on probation: which failed, how long each took.

Nothing of this is on the way of a call at any other time: a lane's entries are exchanged for
observing ones when it begins and put back when it ends; handles look entries up by lane. While it
lasts the first calls of a method are all timed, later ones one in seven.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from time import perf_counter
from typing import Any, Final, Protocol

from replank.errors import TrafficError, UsageError

KEPT_MAX: Final = 512
"""Latencies kept for each method; the oldest are left out beyond that."""
_ALL_UNTIL: Final = 256
_STRIDE: Final = 7
"""Prime, so that a caller with a rhythm of its own is not always met at the same beat."""

Entry = Callable[..., Any]


class LaneOfObserver(Protocol):
    """What an observer needs of a lane."""

    open: bool
    entries: dict[str, Entry]


class Seen:
    """What was seen of one method.

    Attributes:
        calls: How many calls were looked at.
        errors: How many of them raised.
        seconds: How long the last ones took, each.
    """

    __slots__ = ("calls", "errors", "seconds")

    def __init__(self) -> None:
        self.calls = 0
        self.errors = 0
        self.seconds: deque[float] = deque(maxlen=KEPT_MAX)

    def note(self, seconds: float, *, failed: bool) -> None:
        """Take in one call.

        Args:
            seconds: How long it took.
            failed: Whether it raised.
        """
        self.calls += 1
        if failed:  # how long a failure took says nothing about the answers
            self.errors += 1
        else:
            self.seconds.append(seconds)

    def with_earlier(self, earlier: Seen) -> Seen:
        """Return both together, this one's latencies last."""
        both = Seen()
        both.calls, both.errors = self.calls + earlier.calls, self.errors + earlier.errors
        both.seconds.extend((*earlier.seconds, *self.seconds))
        return both


class Observer:
    """Looks at the calls of one generation.

    Args:
        lane: Its lane.
        calls: Names of the calls to look at: no streams, which end when their reader likes.
        clock: Seconds that only go forward.
    """

    def __init__(
        self, lane: LaneOfObserver, calls: Iterable[str], clock: Callable[[], float] = perf_counter
    ) -> None:
        self._lane = lane
        self._calls = tuple(calls)
        self._clock = clock
        self._plain: dict[str, Entry] | None = None
        self._earlier: dict[str, Seen] = {}
        self.seen: dict[str, Seen] = {}

    @property
    def on(self) -> bool:
        """Whether calls are looked at now."""
        return self._plain is not None

    def start(self) -> None:
        """Look at every call from now on; what was seen before is kept as the earlier time."""
        assert self._plain is None, "the calls are observed already"
        self._earlier, self.seen = self.seen, {name: Seen() for name in self._calls}
        self._plain = self._lane.entries
        self._lane.entries = {
            name: self._observed(entry, self.seen[name]) if name in self.seen else entry
            for name, entry in self._plain.items()
        }

    def stop(self) -> None:
        """Give the lane its own entries back; what was seen stays."""
        plain, self._plain = self._plain, None
        if plain is not None and self._lane.entries:  # it may have been unloaded meanwhile
            self._lane.entries = plain

    def baseline(self, call: str, enough: int) -> Seen:
        """Return what was seen of a call: of late, or with the time before when that is little.

        Args:
            call: Its name.
            enough: How many latencies do by themselves.
        """
        late = self.seen.get(call) or Seen()
        earlier = self._earlier.get(call)
        if earlier is None or len(late.seconds) >= enough:
            return late
        return late.with_earlier(earlier)

    def _observed(self, entry: Entry, seen: Seen) -> Entry:
        lane, clock = self._lane, self._clock

        async def timed(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            began = clock()
            try:
                answer = await entry(*args, **kwargs)
            except (TrafficError, UsageError):
                raise  # the caller's own mistake, or ours: it says nothing about the version
            except Exception:
                seen.note(clock() - began, failed=True)
                raise
            seen.note(clock() - began, failed=False)
            return answer

        left = 1  # a variable of this function's own: half the price of an attribute

        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal left
            left -= 1
            if left:
                return entry(*args, **kwargs)
            left = 1 if seen.calls < _ALL_UNTIL else _STRIDE
            # A call that has to wait at a gate would be timed with its wait.
            return timed(args, kwargs) if lane.open else entry(*args, **kwargs)

        return call


__all__ = ["KEPT_MAX", "Observer", "Seen"]
