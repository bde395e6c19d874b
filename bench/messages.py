"""Messages a second, durable and plain: `python -m bench.messages [COUNT]`; prints JSON lines.

Each line is one way of sending: so many senders, each of which waits until its message is accepted
before it sends the next. What a durable message costs is its share of one flush of the disk, so the
number of senders decides; `flush_ms` is what one flush costs here. Not shown: other load on the
disk, and a handler that does any work.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path

from replank.code.entries import generic_entry
from replank.journal.embedded import EmbeddedPort
from replank.traffic.durable import DurableInbox
from replank.traffic.gate import Gate, Lane
from replank.traffic.messages import Inbox, Message
from tests.durable_helpers import calls_of


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
    while inbox.handled < count:
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


async def durable(folder: Path, count: int, senders: int) -> None:
    port = EmbeddedPort(folder / f"{senders}.sqlite").open()
    calls = calls_of(note)
    inbox = DurableInbox(
        open_gate(), port, calls=lambda: calls, messages_max=100_000, on_failure=fail
    )
    accepted, handled_rate = await send(inbox, count, senders)
    await inbox.stop()
    report(
        kind="durable",
        senders=senders,
        accepted_per_s=accepted,
        handled_per_s=handled_rate,
        messages_per_transaction=count // senders * senders / port.transactions,
    )
    await port.close()


async def plain(count: int, senders: int) -> None:
    inbox = Inbox(open_gate(), messages_max=100_000, on_failure=fail)
    accepted, handled_rate = await send(inbox, count, senders)
    await inbox.stop()
    report(kind="plain", senders=senders, accepted_per_s=accepted, handled_per_s=handled_rate)


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


async def flush_ms(folder: Path) -> float:
    port = EmbeddedPort(folder / "flush.sqlite").open()
    await port.publish("a", [b"x"])
    began = time.perf_counter()
    for _ in range(50):
        await port.publish("a", [b"x"])
    seconds = time.perf_counter() - began
    await port.close()
    return seconds / 50 * 1e3


def report(**values: object) -> None:
    rounded = {k: round(v, 4) if isinstance(v, float) else v for k, v in values.items()}
    print(json.dumps(rounded), flush=True)


async def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 50_000
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as name:
        folder = Path(name)
        report(kind="flush", python=sys.version.split()[0], flush_ms=await flush_ms(folder))
        for senders in (1, 16, 128, 1_024):
            await durable(folder, max(senders, count if senders > 16 else count // 50), senders)
        for senders in (1, 128):
            await plain(count, senders)
        await backlog(folder, 100_000)


if __name__ == "__main__":
    asyncio.run(main())
