"""Messages a second, durable and plain: `python -m bench.messages [COUNT]`; prints JSON lines.

Each line is one way of sending: so many senders, each of which waits until its message is accepted
before it sends the next. What a durable message costs is its share of one flush of the disk, so the
number of senders and the disk decide. A disk may flush in 0.3 ms or in 4 ms from one moment to the
next: rates are min/median/max of several rounds, the flush is measured beside them
(`fdatasync_ms`), and `slow disk` adds 4 ms to every transaction, as a bound from below.
Not shown: a handler that does any work.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

from tests.durable_helpers import calls_of

from replank.code.entries import generic_entry
from replank.journal.embedded import EmbeddedPort
from replank.traffic.durable import DurableInbox
from replank.traffic.gate import Gate
from replank.traffic.lane import Lane
from replank.traffic.messages import Inbox, Message

ROUNDS = 5
SLOW_FLUSH_S = 0.004


class SlowDisk(EmbeddedPort):
    """The real port on a disk that takes 4 ms more for each flush."""

    def _commit(self, work):
        answer = super()._commit(work)
        threading.Event().wait(SLOW_FLUSH_S)
        return answer


async def note(owner: str, cents: int) -> None:
    """Handle nothing: the machinery is measured."""


def open_gate() -> Gate:
    gate = Gate("ledger")
    lane = Lane(gate, 1)
    lane.methods = {"note": note}
    lane.entries = {"note": generic_entry(lane, "note", note, is_async=True)}
    gate.first_open(lane)
    return gate


def fail(message: Message, error: BaseException) -> None:
    raise SystemExit(f"{message}: {error!r}")


async def handled(inbox: Inbox, count: int) -> None:
    while inbox.handled < count:  # noqa: ASYNC110 - an event would be a cost of its own
        await asyncio.sleep(0.001)


async def send(inbox: Inbox, count: int, senders: int) -> tuple[float, float]:
    """Return messages accepted, and messages handled, per second."""

    async def sender(number: int) -> None:
        for cents in range(count // senders):
            await inbox.put(Message("note", (f"owner {number}", cents), {}))

    total = count // senders * senders
    inbox.start()
    began = time.perf_counter()
    await asyncio.gather(*(sender(number) for number in range(senders)))
    accepted_s = time.perf_counter() - began
    await handled(inbox, total)
    handled_s = time.perf_counter() - began
    return total / accepted_s, total / handled_s


async def durable(folder: Path, port_class: type[EmbeddedPort], count: int, senders: int) -> None:
    calls = calls_of(note)
    rates, per_transaction = [], []
    for number in range(ROUNDS):
        port = port_class(folder / f"{port_class.__name__}-{senders}-{number}.sqlite").open()
        inbox = DurableInbox(
            open_gate(), port, calls=lambda: calls, messages_max=100_000, on_failure=fail
        )
        rates.append(await send(inbox, count, senders))
        await inbox.stop()
        per_transaction.append(count // senders * senders / port.transactions)
        await port.close()
    report(
        kind="durable, slow disk" if port_class is SlowDisk else "durable",
        senders=senders,
        accepted_per_s=spread([accepted for accepted, _ in rates]),
        handled_per_s=spread([done for _, done in rates]),
        messages_per_transaction=round(statistics.median(per_transaction), 1),
    )


async def plain(count: int, senders: int) -> None:
    rates = []
    for _ in range(ROUNDS):
        inbox = Inbox(open_gate(), messages_max=100_000, on_failure=fail)
        rates.append(await send(inbox, count, senders))
        await inbox.stop()
    report(
        kind="plain",
        senders=senders,
        accepted_per_s=spread([accepted for accepted, _ in rates]),
        handled_per_s=spread([done for _, done in rates]),
    )


async def backlog(folder: Path, count: int) -> None:
    """Start with a backlog and handle it: how long the start takes, and how fast it goes."""
    port = EmbeddedPort(folder / "backlog.sqlite").open()
    calls = calls_of(note)

    def inbox() -> DurableInbox:
        return DurableInbox(
            open_gate(), port, calls=lambda: calls, messages_max=count, on_failure=fail
        )

    first = inbox()
    await asyncio.gather(
        *(first.put(Message("note", ("owner", number), {})) for number in range(count))
    )
    await first.stop()
    again = inbox()
    began = time.perf_counter()
    again.start()
    await handled(again, 1)
    first_s = time.perf_counter() - began
    await handled(again, count)
    report(
        kind="backlog",
        messages=count,
        first_handled_s=first_s,
        handled_per_s=count / (time.perf_counter() - began),
    )
    began = time.perf_counter()
    for _ in range(3):
        await again.saved(count)
    report(kind="forget", messages=count, seconds=time.perf_counter() - began)
    await again.stop()
    await port.close()


def fdatasync_ms(folder: Path) -> list[float]:
    """Return min, median and max of flushing 4 KiB, without any of our code."""
    fd = os.open(folder / "flushed", os.O_CREAT | os.O_WRONLY)
    taken = []
    for number in range(100):
        os.pwrite(fd, b"x" * 4096, 4096 * number)
        began = time.perf_counter()
        os.fdatasync(fd)
        taken.append((time.perf_counter() - began) * 1e3)
    os.close(fd)
    return [round(f(taken), 2) for f in (min, statistics.median, max)]


def spread(values: list[float]) -> list[int]:
    """Return min, median and max."""
    return [round(f(values)) for f in (min, statistics.median, max)]


def report(**values: object) -> None:
    rounded = {k: round(v, 4) if isinstance(v, float) else v for k, v in values.items()}
    print(json.dumps(rounded), flush=True)


async def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 50_000
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as name:
        folder = Path(name)
        python = sys.version.split()[0]
        report(kind="disk before", python=python, fdatasync_ms=fdatasync_ms(folder))
        for senders in (1, 16, 128, 1_024):
            few = max(senders, count if senders > 16 else count // 50)
            await durable(folder, EmbeddedPort, few, senders)
            await durable(folder, SlowDisk, max(senders, few // 5), senders)
        for senders in (1, 128):
            await plain(count, senders)
        await backlog(folder, 2 * count)
        report(kind="disk after", python=python, fdatasync_ms=fdatasync_ms(folder))


if __name__ == "__main__":
    asyncio.run(main())
