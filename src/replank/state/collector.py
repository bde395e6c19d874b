"""Keep the garbage collector out of a reload, and freeing out of the pause.

A full collection over 1 M records takes 23 ms (msgspec) to 566 ms (pydantic), and building a second
state starts several. While a guard is entered, what exists is frozen and automatic collection is
off; young objects are collected by hand between slices. Freeing an old state in one go stalls for
44-276 ms: `release_in_slices` takes it apart a little at a time.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Final, Self

from replank.errors import MigrationError
from replank.memory import resident_bytes
from replank.state.layers import STEP, Steps

_FROZEN_BY_PYTHON_MAX = 2_000 if sys.version_info[:2] == (3, 12) else 0
"""Python 3.12 freezes some objects of its own as it starts (375 in 3.12.1): nobody's wish that
what we freeze stays frozen. A program that freezes has far more."""
YOUNG_MAX = 2_000
"""Young objects after which a collection by hand (some tens of microseconds) is worth it."""
LOOK_EVERY = 16
"""Breaths between two looks at the memory (10 microseconds) and two collections in any case: our
own new dicts must be frozen while they are small, for a collection walks through all they hold."""


class _Collector:
    """How many guards hold the process's collector, and what it was like before the first."""

    def __init__(self) -> None:
        self.holders = 0
        self.sharers = 0
        """Who wants what exists frozen, with the collector on for what is new."""
        self.was_enabled = True
        self.had_frozen = False

    def hold(self) -> None:
        if self.holders == 0:
            self.was_enabled = gc.isenabled()
            gc.disable()
            self._freeze()
        self.holders += 1

    def let_go(self) -> None:
        if not self.had_frozen:
            # What was made meanwhile goes to the oldest generation unseen: as young objects, a new
            # state would be walked through in one go by the next collection.
            gc.freeze()
        self.holders -= 1
        self._thaw()
        if self.holders == 0 and self.was_enabled:
            gc.enable()

    def share(self) -> None:
        self._freeze()
        self.sharers += 1

    def unshare(self) -> None:
        self.sharers -= 1
        self._thaw()

    def _freeze(self) -> None:
        if not self.holders and not self.sharers:
            self.had_frozen = gc.get_freeze_count() > _FROZEN_BY_PYTHON_MAX
        gc.freeze()

    def _thaw(self) -> None:
        # What the program froze itself is left alone.
        if not self.holders and not self.sharers and not self.had_frozen:
            gc.unfreeze()


_collector: Final = _Collector()


class CollectorGuard:
    """Hold the garbage collector still; several may overlap, the last one restores it.

    Args:
        growth_max_bytes: Memory that the process may grow by while the guard is entered; None for
            no limit.
    """

    def __init__(self, growth_max_bytes: int | None = None) -> None:
        self.growth_max_bytes = growth_max_bytes
        self.growth_bytes = 0
        """Largest growth seen so far, in bytes."""
        self._before = 0
        self._breaths = 0
        self._entered = False

    def __enter__(self) -> Self:
        if not self._entered:
            self._entered = True
            self._before = resident_bytes()
            _collector.hold()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let the collector go; a second time does nothing."""
        if self._entered:
            self._entered = False
            _collector.let_go()

    def breathe(self) -> None:
        """Collect the young by hand and look at the memory; call it between slices.

        Once the guard is closed it does nothing: the collector is on again, and what would be
        frozen now nobody would unfreeze.

        Raises:
            MigrationError: The process grew by more than the limit.
        """
        if not self._entered:
            return
        self._breaths += 1
        looks = self._breaths % LOOK_EVERY == 1
        if looks or gc.get_count()[0] > YOUNG_MAX:
            gc.collect(0)
            gc.freeze()
        if not looks:
            return
        self.growth_bytes = max(self.growth_bytes, resident_bytes() - self._before)
        limit = self.growth_max_bytes
        if limit is not None and self.growth_bytes > limit:
            raise MigrationError(
                "the reload needs more memory than it may",
                found=f"{self.growth_bytes:,} bytes more than before",
                expected=f"at most {limit:,}",
                do="raise max_memory_bytes, or reload when the state is smaller",
            )


@contextmanager
def shared_heap() -> Iterator[None]:
    """Keep the collector from what exists now: a collection would copy each page of a forked child.

    What is made inside is collected as ever.
    """
    _collector.share()
    try:
        yield
    finally:
        _collector.unshare()


def release_in_slices(containers: list[Any], step: int = STEP) -> Steps:
    """Empty containers in small steps, so that freeing what they hold is no pause.

    Only the containers themselves are taken apart, never what is in them: a record of the old
    state may live on in the new one.

    Args:
        containers: Dicts, sets, lists; nobody else may use them any more. The list is emptied too.
        step: Items between two yields.
    """
    count = 0
    while containers:
        container = containers.pop()
        take = container.popitem if isinstance(container, dict) else container.pop
        while container:
            take()
            count += 1
            if not count % step:
                yield
