"""The load generator of the demo, a process of its own: `python -m replank.demo.loadgen`.

It speaks HTTP to a running shop and keeps its own books. What it reads from standard input, one
word a line: `reload` and `reloaded` mark a reload, `stop` ends the traffic (as does the end of the
input). What it writes, one JSON object a line: `{"progress": ...}` four times a second, and
`{"verdict": ...}` at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import Sequence
from typing import Any

import msgspec

from replank.demo.accounting import Answer, Books, Verdict
from replank.demo.keepalive import Connection

OWNERS = 200
PROGRESS_S = 0.25
SETTLE_S = 10.0
STATUS_OK = range(200, 300)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How much traffic to make, and where to."""

    port: int
    host: str = "127.0.0.1"
    callers: int = 50
    senders: int = 4
    rate: float = 800.0
    """Calls a second, all callers together; 0 = as fast as answers come."""
    message_rate: float = 200.0
    """Messages a second, all senders together; 0 = as fast as they are taken."""
    seconds: float = 0.0
    """How long; 0 = until told to stop."""
    timeout_s: float = 30.0


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """What the traffic looks like right now."""

    seconds: float
    sent: int
    answered: int
    failed: int
    per_second: float
    version: str
    longest_ms: float


class LoadGenerator:
    """Drive the shop with calls and messages, and keep the books.

    Args:
        settings: How much, and where to.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.books = Books()
        self.stopping = asyncio.Event()
        self.answered = 0
        self.failed = 0
        self.version = ""
        self._started = time.monotonic()

    async def run(self) -> Verdict:
        """Send until stopped, then compare books.

        Raises:
            OSError: The shop cannot be reached at the end.
            TimeoutError: As above.
        """
        self._started = time.monotonic()
        limit = self.settings.seconds
        loop = asyncio.get_running_loop()
        alarm = loop.call_later(limit, self.stopping.set) if limit > 0 else None
        async with asyncio.TaskGroup() as group:
            for index in range(self.settings.callers):
                group.create_task(self._call(index))
            for index in range(self.settings.senders):
                group.create_task(self._send(index))
        if alarm is not None:
            alarm.cancel()
        seconds = time.monotonic() - self._started
        ledger, front = await self._statements()
        return self.books.close(ledger, front, seconds=seconds)

    def progress(self) -> Progress:
        """Return what the traffic looks like now."""
        seconds = time.monotonic() - self._started
        waits = self.books.waits
        return Progress(
            seconds=round(seconds, 2),
            sent=sum(sent.last for sent in self.books.senders.values()),
            answered=self.answered,
            failed=self.failed,
            per_second=round(self.answered / max(seconds, 0.001), 1),
            version=self.version,
            longest_ms=round(max(waits.with_reload_ms, waits.without_reload_ms), 2),
        )

    async def _call(self, index: int) -> None:
        """Be one caller: orders through the api module, or deposits straight into the ledger."""
        through_api = index % 2 == 0
        sender = f"order-{index}" if through_api else f"deposit-{index}"
        path = "/modules/api/place_order" if through_api else "/modules/ledger/deposit"
        pace = Pace(self.settings.rate, self.settings.callers, index)
        async with Connection(
            self.settings.host, self.settings.port, timeout_s=self.settings.timeout_s
        ) as connection:
            while await pace.wait(self.stopping):
                body = await self._one(connection, path, sender, index)
                if body is not None:
                    self._note(msgspec.json.decode(body), through_api=through_api)

    async def _send(self, index: int) -> None:
        """Be one sender of messages: deposits that nobody answers."""
        sender = f"message-{index}"
        pace = Pace(self.settings.message_rate, self.settings.senders, index)
        path = "/modules/ledger/messages/deposit"
        async with Connection(
            self.settings.host, self.settings.port, timeout_s=self.settings.timeout_s
        ) as connection:
            while await pace.wait(self.stopping):
                await self._one(connection, path, sender, index)

    async def _one(
        self, connection: Connection, path: str, sender: str, index: int
    ) -> bytes | None:
        """Send one request and note what became of it."""
        number = self.books.leaves(sender)
        owner = f"customer-{(number * 7 + index) % OWNERS}"
        cents = 1 + (number * 31 + index) % 5_000
        arguments = {"sender": sender, "seq": number, "owner": owner, "cents": cents}
        started = time.monotonic()
        try:
            status, body = await connection.post(path, arguments)
        except (OSError, TimeoutError) as error:
            self.failed += 1
            self.books.unanswered(sender, number, f"{type(error).__name__}: {error}")
            await asyncio.sleep(0.05)  # do not hammer a host that is down
            return None
        if status not in STATUS_OK:
            self.failed += 1
            text = body.decode(errors="replace")[:200]
            self.books.refused(sender, number, f"HTTP {status}: {text}")
            return None
        self.answered += 1
        self.books.answered(owner, cents, started=started, now=time.monotonic())
        return body

    def _note(self, answer: dict[str, Any], *, through_api: bool) -> None:
        entry = answer["booked"] if through_api else answer
        self.version = entry["version"]
        front = answer["version"] if through_api else ""
        self.books.answers.append(
            Answer(serial=entry["serial"], version=entry["version"], front=front)
        )

    async def _statements(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Read the modules' own books, when the messages that wait have been handled."""
        deadline = time.monotonic() + SETTLE_S
        async with Connection(self.settings.host, self.settings.port) as connection:
            while True:
                ledger = await self._statement(connection, "ledger")
                if ledger["serial"] >= self.books.accepted or time.monotonic() > deadline:
                    return ledger, await self._statement(connection, "api")
                await asyncio.sleep(0.02)

    async def _statement(self, connection: Connection, module: str) -> dict[str, Any]:
        status, body = await connection.post(f"/modules/{module}/statement", {})
        if status not in STATUS_OK:
            text = body.decode(errors="replace")[:300]
            raise ConnectionError(f"{module} gave no statement: HTTP {status}: {text}")
        statement: dict[str, Any] = msgspec.json.decode(body)
        return statement


class Pace:
    """Spread requests evenly over time.

    Args:
        rate: Requests a second of all senders together; 0 = no pause between two.
        senders: How many share the rate.
        index: Which of them this is: they start one after the other.
    """

    def __init__(self, rate: float, senders: int, index: int) -> None:
        self._period = senders / rate if rate > 0 else 0.0
        self._next = time.monotonic() + self._period * index / max(senders, 1)

    async def wait(self, stopping: asyncio.Event) -> bool:
        """Wait for the next turn.

        Returns:
            Whether to send; False when the traffic ends.
        """
        now = time.monotonic()
        if self._period:
            if self._next > now:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._next - now):
                        await stopping.wait()
            # after a long wait send at the agreed rate again, not in one burst
            self._next = max(self._next + self._period, time.monotonic() - self._period)
        return not stopping.is_set()


async def listen(generator: LoadGenerator, stream: asyncio.StreamReader) -> None:
    """Follow the words that come in, until told to stop."""
    while not generator.stopping.is_set():
        word = (await stream.readline()).decode().strip()
        if word == "reload":
            generator.books.reload_began()
        elif word == "reloaded":
            generator.books.reload_ended(time.monotonic())
        else:
            generator.stopping.set()


async def report(generator: LoadGenerator) -> None:
    """Write the progress until told to stop."""
    while not generator.stopping.is_set():
        write("progress", generator.progress())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PROGRESS_S):
                await generator.stopping.wait()


def write(key: str, value: Any) -> None:
    """Write one line of JSON."""
    sys.stdout.buffer.write(msgspec.json.encode({key: value}) + b"\n")
    sys.stdout.buffer.flush()


async def standard_input() -> asyncio.StreamReader:
    """Open standard input as a stream."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader


async def main(settings: Settings, *, follow: bool) -> int:
    """Run the traffic and write the verdict.

    Args:
        settings: How much, and where to.
        follow: Whether standard input says when to stop.

    Returns:
        The exit code: 0 when nothing went wrong, 1 otherwise.
    """
    generator = LoadGenerator(settings)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, generator.stopping.set)
    helpers = [asyncio.create_task(report(generator))]
    if follow:
        helpers.append(asyncio.create_task(listen(generator, await standard_input())))
    try:
        verdict = await generator.run()
    finally:
        for helper in helpers:
            helper.cancel()
        await asyncio.gather(*helpers, return_exceptions=True)
    write("verdict", verdict)
    return 0 if verdict.clean else 1


def parse(arguments: Sequence[str] | None = None) -> tuple[Settings, bool]:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m replank.demo.loadgen", description=__doc__)
    parser.add_argument("--port", type=int, required=True, help="port of the shop's host")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--callers", type=int, default=50)
    parser.add_argument("--senders", type=int, default=4)
    parser.add_argument("--rate", type=float, default=800.0, help="calls a second; 0 = no limit")
    parser.add_argument("--message-rate", type=float, default=200.0, help="messages a second")
    parser.add_argument("--seconds", type=float, default=0.0, help="0 = until told to stop")
    options = vars(parser.parse_args(arguments))
    return Settings(**options), options["seconds"] <= 0


if __name__ == "__main__":
    chosen, from_input = parse()
    sys.exit(asyncio.run(main(chosen, follow=from_input)))
