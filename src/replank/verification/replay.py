"""Ask a candidate what the version that serves was asked lately, and compare the answers.

The version that serves is asked twice, before and after the candidate: what it answers differently
itself is noise (a clock, a random number, a write in between) and says nothing. A query that does
not wait is asked of both versions at one instant: the event loop does not turn in between.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from time import perf_counter
from typing import Any, Final

import msgspec

from replank.definition import Call
from replank.errors import PhaseTimeout, ReplankError
from replank.plain import show
from replank.report import ReplayDifference, ReplayReport
from replank.traffic.payload import read_bare, read_message
from replank.verification.checks import is_cancelled
from replank.verification.tree_difference import differences
from replank.verification.watchdog import Watchdog

Answer = tuple[str, Any]
"""How a version took a query, such as "answers" or "raises", and what came of it."""

_QUERY_S: Final = 0.5
"""Seconds for one query: one that holds the event loop must not hold it for long."""
_PLACES_MAX: Final = 5
"""Places told of one answer that differs."""
_TOLD_MAX: Final = 50
_SLICE_S: Final = 0.003
_ROUNDED_DIGITS: Final = 12


@dataclass(frozen=True, slots=True)
class Side:
    """One version."""

    calls: Mapping[str, Call]
    methods: Mapping[str, Callable[..., Any]]


class Replay:
    """Asks both versions of one module.

    Args:
        module: Its name.
        old: What serves.
        new: The candidate, with its copy of the state.
        align: Brings the copy to this instant, without a turn of the loop.
        watchdog: Interrupts what does not end.
        limit_s: Seconds for all of it.
        again: Copies the state anew, where no instant is common to both versions.
    """

    def __init__(
        self,
        module: str,
        old: Side,
        new: Side,
        align: Callable[[], None],
        watchdog: Watchdog,
        limit_s: float,
        again: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._again = again
        self._module = module
        self._old = old
        self._new = new
        self._align = align
        self._watchdog = watchdog
        self._limit_s = limit_s
        self._turned = True

    async def run(self, payloads: Iterable[bytes], expected: Callable[[str], bool]) -> ReplayReport:
        """Ask everything again.

        Args:
            payloads: The calls, as they were kept.
            expected: Whether answers of a call may change.
        """
        began = began_slice = perf_counter()
        same = noisy = waited_for = not_asked = 0
        told: list[ReplayDifference] = []
        differed = 0
        for payload in payloads:
            if perf_counter() - began > self._limit_s:
                not_asked += 1
                continue
            verdict = await self._ask(payload)
            if verdict is None:
                noisy += 1
            elif not verdict:
                same += 1
            elif expected(verdict[0].call):
                waited_for += 1
            else:
                differed += 1
                told += verdict[: max(0, _TOLD_MAX - len(told))]
            if perf_counter() - began_slice > _SLICE_S:
                await asyncio.sleep(0)
                began_slice = perf_counter()
        return ReplayReport(
            asked=same + noisy + waited_for + differed,
            same=same,
            differed=differed,
            expected=waited_for,
            noisy=noisy,
            not_asked=not_asked,
            differences=tuple(told),
        )

    async def _ask(self, payload: bytes) -> list[ReplayDifference] | None:
        """Return where the answers differ; None when the old one differs from itself."""
        found = await self._compare(payload)
        if found and self._again is not None:
            # Two processes have no common instant: what was written since the copy differs, too.
            found = await self._compare(payload, self._again)
        return found

    async def _compare(
        self, payload: bytes, again: Callable[[], Awaitable[None]] | None = None
    ) -> list[ReplayDifference] | None:
        self._to_one_instant()
        first = await self._answer(self._old, payload)
        if again is not None:
            await again()
        new = await self._answer(self._new, payload)
        second = await self._answer(self._old, payload)
        if list(islice(_compared(first, second), 1)):
            return None
        bare = read_bare(payload)
        given = [*map(show, bare.args), *(f"{k}={show(v)}" for k, v in bare.kwargs.items())]
        return [
            ReplayDifference(
                call=bare.call,
                arguments=", ".join(given)[:200],
                place=place,
                before=before,
                after=after,
            )
            for place, before, after in islice(_compared(first, new), _PLACES_MAX)
        ]

    def _to_one_instant(self) -> None:
        """Bring the copy up to date, if the loop has turned since that was done."""
        if self._turned:
            self._turned = False
            self._align()
            asyncio.get_running_loop().call_soon(self._note_turn)

    def _note_turn(self) -> None:
        self._turned = True

    async def _answer(self, side: Side, payload: bytes) -> Answer:
        """Return what a version answers, or raises, as plain values of no version's classes."""
        try:
            asked = read_message(payload, side.calls, self._module)
            method = side.methods[asked.call]
        except ReplankError as error:
            return "cannot be asked", error.found or error.what
        limit_s, what = min(self._limit_s, _QUERY_S), f"query {asked.call}"
        try:
            answer = await self._watchdog.call(
                lambda: method(*asked.args, **asked.kwargs), limit_s, what
            )
        except PhaseTimeout as error:
            return "does not answer", error.what
        except BaseException as error:
            if isinstance(error, GeneratorExit) or (
                isinstance(error, asyncio.CancelledError) and is_cancelled()
            ):
                raise
            return "raises", f"{type(error).__name__}: {error}"
        return "answers", plain_of(answer)


def _compared(one: Answer, other: Answer) -> Iterator[tuple[str, str, str]]:
    """Yield place, first and second wherever two answers differ."""
    if one[0] != other[0]:
        yield "the answer", f"{one[0]} {show(one[1])}", f"{other[0]} {show(other[1])}"
        return
    for place, before, after in differences(one[1], other[1]):
        yield place or "the answer", before, after


def plain_of(value: Any) -> Any:
    """Return an answer as values that can be compared across versions."""
    try:
        return _rounded(msgspec.to_builtins(value, builtin_types=(bytes,), enc_hook=_attributes))
    except (TypeError, ValueError, RecursionError):
        return show(value, 500)


def _attributes(value: Any) -> Any:
    if hasattr(value, "__dict__") and not inspect.isroutine(value):
        return {"$type": type(value).__qualname__, **vars(value)}
    return type(value).__qualname__  # its repr would hold an address, which always differs


def _rounded(value: Any) -> Any:
    """Round floats to twelve digits: a sum in another order is no difference."""
    if isinstance(value, float):
        return float(f"{value:.{_ROUNDED_DIGITS}g}")
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    return [_rounded(one) for one in value] if isinstance(value, list | tuple) else value


__all__ = ["Replay", "Side", "plain_of"]
