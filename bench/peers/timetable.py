"""One timetable for every peer: sales at a fixed rate, a good version, then a bad one.

Standard library only: it runs in the peers' own virtual environments. A call is due at its place in
the timetable and its latency counts from then, so that a stall is felt by all that came due.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import perf_counter

RATE = 400
BEFORE_S, AFTER_S = 1.5, 2.5
TIMEOUT_S = 5.0
BAD_LINE = "\nRETURNS = undefined_name  # the edit that nobody tried\n"

Sale = tuple[str, str, int]
Sell = Callable[[], Awaitable[Sale]]
Apply = Callable[[], Awaitable[None]]


class Timetable:
    """Sell on time and keep what came back.

    Args:
        sell: Makes one sale: version at its begin, version of the rules at its end, count.
        apply: Has the peer load what is on the disk; may raise.
        files: The sources that change.
        in_place: Write over the files: the peer does not see a file that was renamed into place.
    """

    def __init__(
        self, sell: Sell, apply: Apply, files: list[Path], *, in_place: bool = False
    ) -> None:
        self._sell, self._apply, self._files = sell, apply, files
        self._in_place = in_place
        self.sales: list[tuple[float, float, Sale | str]] = []
        self._running = True
        self._pending: set[asyncio.Task[None]] = set()

    async def run(self, **facts: object) -> dict[str, object]:
        """Follow the timetable; returns one row of the table."""
        selling = asyncio.create_task(self._sell_on_time())
        await asyncio.sleep(BEFORE_S)
        good_at = perf_counter()
        edit(self._files, "2", in_place=self._in_place)
        refused = await self._applied()
        await asyncio.sleep(AFTER_S)
        bad_at = perf_counter()
        edit(self._files, "3", BAD_LINE, in_place=self._in_place)
        bad_said = await self._applied()
        await asyncio.sleep(AFTER_S)
        self._running = False
        await selling
        await asyncio.gather(*self._pending)
        return {**facts, **self._row(good_at, bad_at), "good": refused or "taken", "bad": bad_said}

    async def _applied(self) -> str:
        try:
            await asyncio.wait_for(self._apply(), 20)
        except Exception as error:
            return type(error).__name__
        return ""

    async def _sell_on_time(self) -> None:
        due = perf_counter()
        while self._running:
            while due <= perf_counter():
                task = asyncio.create_task(self._one(due))
                self._pending.add(task)
                task.add_done_callback(self._pending.discard)
                due += 1 / RATE
            await asyncio.sleep(max(0.0, due - perf_counter()))

    async def _one(self, due: float) -> None:
        try:
            answer: Sale | str = await asyncio.wait_for(self._sell(), TIMEOUT_S)
        except Exception as error:
            answer = type(error).__name__
        self.sales.append((due, perf_counter(), answer))

    def _row(self, good_at: float, bad_at: float) -> dict[str, object]:
        quiet = [one for one in self.sales if one[1] < good_at]
        good = [one for one in self.sales if good_at <= one[1] and one[0] < bad_at]
        bad = [one for one in self.sales if one[0] >= bad_at]
        first = [one[1] for one in good if not isinstance(one[2], str) and one[2][0] == "2"]
        return {
            "sales": len(self.sales),
            "failed_good": failed(good),
            "mixed": sum(mixed(one[2]) for one in good),
            "old_after_new": old_after_new(good),
            "lost_state": lost_state(quiet + good),
            "longest_quiet_ms": longest(quiet),
            "longest_good_ms": longest(good),
            "new_code_ms": round((min(first) - good_at) * 1e3, 1) if first else None,
            "failed_bad": failed(bad),
            "answered_by_bad": sum(not isinstance(a, str) and a[0] == "3" for *_, a in bad),
            "mixed_bad": sum(mixed(one[2]) for one in bad),
            "lost_state_bad": lost_state(bad),
        }


def failed(sales: list[tuple[float, float, Sale | str]]) -> int:
    """Count the sales that ended in an error."""
    return sum(isinstance(answer, str) for *_, answer in sales)


def mixed(answer: Sale | str) -> bool:
    """Tell whether one sale met two versions."""
    return not isinstance(answer, str) and answer[0] != answer[1]


def old_after_new(sales: list[tuple[float, float, Sale | str]]) -> int:
    """Count the answers by the old version to sales that began after the first new answer."""
    new = [done for _, done, answer in sales if not isinstance(answer, str) and answer[0] == "2"]
    if not new:
        return 0
    return sum(
        not isinstance(answer, str) and answer[0] == "1" and due > min(new)
        for due, _, answer in sales
    )


def lost_state(sales: list[tuple[float, float, Sale | str]]) -> bool:
    """Tell whether a count ever fell back, far more than sales overtake one another."""
    highest = 0
    for _, _, answer in sorted(sales, key=lambda one: one[1]):
        if isinstance(answer, str):
            continue
        if answer[2] < highest - RATE // 4:
            return True
        highest = max(highest, answer[2])
    return False


def longest(sales: list[tuple[float, float, Sale | str]]) -> float | None:
    """Return the longest wait in milliseconds, failed sales included."""
    return round(max(done - due for due, done, _ in sales) * 1e3, 1) if sales else None


def edit(files: list[Path], version: str, line: str = "", *, in_place: bool = False) -> None:
    """Save files as an editor does: whole, under another name, then renamed; or in place."""
    for path in files:
        text = path.read_text()
        for old in "12":
            text = text.replace(f'VERSION = "{old}"', f'VERSION = "{version}"')
            text = text.replace(f'version="{old}"', f'version="{version}"')
            text = text.replace(f'return "{old}"', f'return "{version}"')
        if path.name in ("shop.py", "cog.py"):
            text += line
        if in_place:
            path.write_text(text)
            continue
        fresh = path.with_suffix(".new")
        fresh.write_text(text)
        fresh.replace(path)


def say(row: dict[str, object]) -> None:
    """Print one row for whoever started this."""
    print("ROW " + json.dumps(row), flush=True)
