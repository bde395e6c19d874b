"""The interpreter's own steps for a call through an open gate: `python -m bench.instructions`.

Counts the bytecode instructions that a call executes, bare and through its entry. The count is the
same on every machine and under any load, so it is what CI watches (`--limit` fails when a gate
costs more steps than that on top of the bare call). Not shown: what C code does within one step,
which is most of what a dict or a context variable costs; times are in `bench.call_cost`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import CodeType, FrameType, MethodType
from typing import Any, Self

from bench.call_cost import METHODS, SOURCE, real_lane
from replank.code.entries import collect_entries
from replank.code.loader import Loader
from replank.code.store import VersionStore
from replank.traffic.calls import chain_var
from replank.traffic.lane import Lane

WARM = 3
"""Calls before the one that is counted: what is made once is not a call's cost."""


async def steps(call: Callable[..., Any], args: tuple[object, ...]) -> int:
    """Return the instructions that one call executes.

    Args:
        call: A function, or a coroutine function.
        args: Its arguments.
    """
    for _ in range(WARM):
        await _done(call(*args))
    with _Counter() as counter:
        answer = call(*args)
        if isinstance(answer, Awaitable):
            _finished(answer)
    return counter.counted


class _Counter:
    """Count instructions: `sys.monitoring` where there is one, a trace function in Python 3.11.

    In 3.12 and later a trace function misses the instructions of a frame that runs for the first
    time; in 3.11 there is nothing else.
    """

    def __init__(self) -> None:
        self.counted = 0

    def __enter__(self) -> Self:
        if sys.version_info >= (3, 12):
            watch = sys.monitoring
            watch.use_tool_id(watch.PROFILER_ID, "bench.instructions")
            watch.register_callback(watch.PROFILER_ID, watch.events.INSTRUCTION, self._count)
            watch.set_events(watch.PROFILER_ID, watch.events.INSTRUCTION)
        else:
            sys.settrace(self._trace)
        return self

    def __exit__(self, *_: object) -> None:
        if sys.version_info >= (3, 12):
            watch = sys.monitoring
            watch.set_events(watch.PROFILER_ID, 0)
            watch.register_callback(watch.PROFILER_ID, watch.events.INSTRUCTION, None)
            watch.free_tool_id(watch.PROFILER_ID)
        else:
            sys.settrace(None)

    def _count(self, code: CodeType, _offset: int) -> None:
        # what this file does between the two marks is the same for both, and no part of a call
        if code.co_filename != __file__:
            self.counted += 1

    def _trace(self, frame: FrameType, event: str, _argument: object) -> Callable[..., Any]:
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        if event == "opcode":
            self._count(frame.f_code, 0)
        return self._trace


def _finished(answer: Any) -> Any:
    """Drive a coroutine that waits for nothing; its steps alone are counted, and no loop's."""
    try:
        answer.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("the call waits for something")


async def _done(answer: Any) -> Any:
    return await answer if isinstance(answer, Awaitable) else answer


def loaded(folder: Path, lane: Lane, number: int) -> type:
    """Return the class of the measured module, loaded as a host does."""
    source = folder / "bench_module.py"
    source.write_text(SOURCE)
    version = VersionStore(folder / "versions").put(source)
    names = {"__replank_lane__": lane, "__replank_chain__": chain_var.get}
    return Loader().load(version, "bench_module", number, runtime_names=names).module.Bench


def measure(folder: Path) -> list[dict[str, Any]]:
    """Count every kind of method, in a module that calls no other and in one that does.

    Args:
        folder: To work in.
    """
    rows = []
    for number, leaf in enumerate((True, False)):
        lane = real_lane(leaf=leaf)
        owner = loaded(folder, lane, number)
        entries = collect_entries(owner, METHODS)
        for name in METHODS:
            if name == "sleeping":
                continue  # it waits; the loop's steps would be counted too
            target, args = owner(), () if name == "empty" else (3,)
            bare = asyncio.run(steps(getattr(target, name), args))
            entry = asyncio.run(steps(MethodType(entries[name], target), args))
            rows.append(
                {
                    "python": ".".join(map(str, sys.version_info[:3])),
                    "lane": "calls no other module" if leaf else "calls other modules",
                    "method": name,
                    "bare_steps": bare,
                    "entry_steps": entry,
                    "gate_steps": entry - bare,
                }
            )
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=int, help="steps that a gate may cost on top")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(Path(folder))
    for row in rows:
        print(json.dumps(row), flush=True)
    over = [row for row in rows if options.limit is not None and row["gate_steps"] > options.limit]
    for row in over:
        print(
            f"{row['method']} in a module that {row['lane']}: {row['gate_steps']} steps for the "
            f"gate, {options.limit} are allowed",
            file=sys.stderr,
        )
    return 1 if over else 0


if __name__ == "__main__":
    raise SystemExit(main())
