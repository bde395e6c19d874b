"""Run a module's checks: each is one probe, and one that fails, raises or hangs says no."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from replank.definition import Check
from replank.errors import CheckError, PhaseTimeout
from replank.verification.watchdog import Watchdog


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One check that passed."""

    name: str
    seconds: float


async def run_checks(
    module: str,
    checks: Iterable[Check],
    methods: Mapping[str, Callable[..., Any]],
    *,
    where: str,
    limit_s: float,
    watchdog: Watchdog,
    skip: Container[str] = (),
) -> tuple[CheckResult, ...]:
    """Run the checks that belong here, in the order of their names; stop at the first that fails.

    Args:
        module: Name of the module.
        checks: What the definition declares.
        methods: The candidate's bound methods, by name.
        where: "rehearsal" or "pause".
        limit_s: Seconds for all of them together.
        watchdog: Interrupts one that holds the event loop.
        skip: Names of checks to leave out.

    Returns:
        What passed and how long it took.

    Raises:
        CheckError: A check raised or returned False.
        PhaseTimeout: A check did not end in time.
    """
    results = []
    deadline = perf_counter() + limit_s
    for check in sorted(checks, key=lambda one: one.name):
        if check.when not in ("both", where) or check.name in skip:
            continue
        started = perf_counter()
        left = max(deadline - started, 0.001)
        await _run_one(module, check.name, methods[check.name], left, watchdog)
        results.append(CheckResult(check.name, perf_counter() - started))
    return tuple(results)


async def _run_one(
    module: str, name: str, method: Callable[..., Any], limit_s: float, watchdog: Watchdog
) -> None:
    try:
        answer = await watchdog.call(method, limit_s, f"check {name}")
    except PhaseTimeout as error:
        error.module = module
        raise
    except BaseException as error:
        if isinstance(error, asyncio.CancelledError) and is_cancelled():
            raise  # the reload itself is cancelled or out of time; else it is the check's own
        if isinstance(error, GeneratorExit):
            raise
        said = f": {error}" if str(error) else ""
        raise CheckError(
            f"check {name} failed{said}",
            module=module,
            found=f"{type(error).__name__}{said}",
            expected="a check that returns without raising",
            do="mend the candidate or the check, and reload again",
        ) from error
    if answer is False:
        raise CheckError(
            f"check {name} failed: it returned False",
            module=module,
            expected="a check that returns nothing or True",
            do="mend the candidate or the check, and reload again",
        )


def is_cancelled() -> bool:
    """Tell whether the running task is being cancelled, or a candidate only raised the error."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
