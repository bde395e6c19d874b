"""What must come to its end whatever happens, and what must not: a step that never ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine, Iterable
from typing import Any, TypeVar

from replank.errors import JournalError, MigrationError, PhaseTimeout
from replank.journal.journal import Journal
from replank.verification.checks import is_cancelled
from replank.verification.watchdog import Watchdog

T = TypeVar("T")


async def settled(work: Coroutine[Any, Any, T]) -> T:
    """Await something to its end, also while the running task is being cancelled.

    For what decides or tells how a reload ended: half of it would be worse than a late
    cancellation. The task stays marked as cancelled; who awaits it learns of it at its next wait.

    Args:
        work: What must be known; it has a limit of its own.
    """
    task = asyncio.ensure_future(work)
    while not task.done():
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError:
            continue
    return task.result()


async def is_committed(journal: Journal, tx_id: str, names: Iterable[str]) -> bool:
    """Ask the disk, to the end: a cancellation must not leave it open which version serves.

    Args:
        journal: In which a commit record may or may not have been written.
        tx_id: The transaction.
        names: Its modules.

    Raises:
        JournalError: It cannot be known.
    """
    try:
        return await settled(journal.state(tx_id)) == "committed"
    except JournalError:  # the connection for reading is another one, and may still work
        serving = journal.committed()
        return all(name in serving and serving[name].tx == tx_id for name in names)


async def guarded(
    watchdog: Watchdog, module: str, work: Awaitable[None], limit_s: float, what: str
) -> None:
    """Do what may run a module's own steps: they may hold the loop, or raise anything at all.

    Args:
        watchdog: Interrupts them.
        module: The module's name.
        work: What to do.
        limit_s: Seconds that it may take.
        what: What runs, for the error.

    Raises:
        PhaseTimeout: It took longer.
        MigrationError: A step tried to end more than itself.
    """
    try:
        await watchdog.call(lambda: work, limit_s, what)
    except PhaseTimeout as error:
        error.module = error.module or module
        raise
    except (asyncio.CancelledError, SystemExit, KeyboardInterrupt) as error:
        if is_cancelled():
            raise
        raise MigrationError(
            f"a step raised {type(error).__name__}",
            module=module,
            found=f"{type(error).__name__}: {error}",
            expected="a step that returns the new state",
            do="mend the step and reload again",
        ) from error


def joined(pairs: Iterable[tuple[str, str]]) -> tuple[str, str]:
    """Return the digests of all modules, before and after."""
    before, after = zip(*pairs, strict=True)
    return ",".join(before), ",".join(after)


def drop(_: object) -> None:
    """Return nothing, as an undo must."""
