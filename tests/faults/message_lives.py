"""A process that publishes, handles and saves until it is killed; and the nursery it comes from.

`python -m tests.faults.message_lives FOLDER` reads one order a line from its standard input and
forks a process for each, so that Python starts once. What that process says (`A sender number`:
this message was accepted) goes straight into the pipe and outlives it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import msgspec

from replank.journal.embedded import INBOX_FILE, EmbeddedPort
from replank.state.persistence import Persistence
from tests.durable_helpers import Module, message

SENDERS = 3
MESSAGES_A_LIFE = 60


class Order(msgspec.Struct):
    """What one life is to do, and at which of its steps it dies."""

    first: int = 0
    """Number of each sender's first message."""
    die_at: str = ""
    """The step to count; "" counts all steps."""
    count: int = 0
    """The process kills itself at this one; 0 lets it live until it is killed."""
    keep: str = "together"
    """Or "state first" or "position first": two files, one after the other. These must fail."""
    finish: bool = False
    """Send nothing, handle everything, save, and end."""


class Saved(msgspec.Struct):
    """What a snapshot holds."""

    state: list[tuple[int, int]] = []
    position: int = 0


class Steps:
    """Counts, and kills this process at the one that was ordered."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.count = 0

    def __call__(self, label: str) -> None:
        if self.order.die_at in ("", label):
            self.count += 1
            if self.count == self.order.count:
                os.kill(os.getpid(), signal.SIGKILL)


class SteppingPort(EmbeddedPort):
    """The real port, with steps around and inside each transaction."""

    def __init__(self, path: Path, step: Steps) -> None:
        super().__init__(path)
        self.step = step

    def _commit(self, work):
        self.step("before a transaction")
        inside = lambda db, moves: self.step("in a transaction")  # noqa: E731
        answers, moves = super()._commit([*work, inside])
        self.step("after a transaction")
        return answers[:-1], moves


class Files:
    """Snapshots the way the product writes them; or wrongly, as a control experiment."""

    def __init__(self, folder: Path, step: Steps, keep: str) -> None:
        self.folder = folder
        self.step = step
        self.keep = keep
        self.last = self.load().position

    def load(self) -> Saved:
        parts = {}
        for name in ("state", "position"):
            file = self.folder / ("snapshot" if self.keep == "together" else name)
            saved = msgspec.msgpack.decode(file.read_bytes(), type=Saved) if file.exists() else None
            parts[name] = getattr(saved or Saved(), name)
        return Saved(**parts)

    def write(self, saved: Saved) -> None:
        if self.keep == "together":
            self._put("snapshot", saved)
            return
        names = ["state", "position"]
        first, second = names if self.keep == "state first" else names[::-1]
        self._put(first, saved)
        if saved.position > self.last:
            self.step("between the two")
        self._put(second, saved)
        self.last = saved.position

    def _put(self, name: str, saved: Saved) -> None:
        temp = self.folder / f"{name}.new"
        with temp.open("wb") as file:
            file.write(msgspec.msgpack.encode(saved))
            file.flush()
            os.fsync(file.fileno())
        self.step("snapshot written")
        temp.rename(self.folder / name)
        self.step("snapshot in its place")


async def live(folder: Path, order: Order) -> None:
    step = Steps(order)
    port = SteppingPort(folder / INBOX_FILE, step).open()
    files = Files(folder, step, order.keep)
    saved = files.load()

    async def note(sender: int, number: int) -> None:
        module.state.append((sender, number))
        step("handled")
        if number % 3 == 0:
            await asyncio.sleep(0)

    module = Module(port, (saved.state, saved.position), note, messages_max=20, snapshots_kept=1)

    async def write(snapshot: Saved, reason: str) -> None:
        await asyncio.to_thread(files.write, snapshot)

    def freeze(mark) -> Saved:
        step("frozen")
        return Saved(list(module.state), mark.position)

    persistence = Persistence(
        "ledger",
        inbox=module.inbox,
        freeze=freeze,
        write=write,
        quiet=module.quiet,
        policy="interval",
        interval_s=0.001,
        on_failure=lambda reason, error: os.write(1, f"F {reason}: {error!r}\n".encode()),
    )
    module.inbox.start()
    persistence.start()

    async def send(sender: int) -> None:
        for number in range(order.first, order.first + MESSAGES_A_LIFE):
            await module.inbox.put(message("note", sender, number))
            os.write(1, f"A {sender} {number}\n".encode())

    if not order.finish:
        await asyncio.gather(*(send(sender) for sender in range(SENDERS)))
    await module.all_handled()
    if order.finish:
        await persistence.close()
        await module.inbox.stop()
        await persistence.finish()
        for failed, error in module.failures:
            os.write(1, f"F {failed}: {error!r}\n".encode())
        await port.close()


def main() -> None:
    folder = Path(sys.argv[1])
    for line in sys.stdin.buffer:
        order = msgspec.json.decode(line, type=Order)
        pid = os.fork()
        if pid == 0:
            try:
                asyncio.run(live(folder, order))
            finally:
                os._exit(0)
        os.write(1, f"P {pid}\n".encode())
        _, status = os.waitpid(pid, 0)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        os.write(1, f"D {'killed' if killed else 'ended'}\n".encode())


if __name__ == "__main__":
    main()
