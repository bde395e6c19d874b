"""Durable messages: accepted means on the disk, and handled exactly once as the state sees it.

The theory, in four rules:

1. A message is accepted when the port has it in the module's stream; its place there is its
   *position*. Messages are handled one after the other in the order of their positions.
2. `position`, that of the last handled message, advances in memory in the same step in which the
   handling ends: at any moment when nothing is in flight, state and position belong together.
3. The position goes to the disk only inside a snapshot of the state (`mark`). After a crash state
   and position come from the same snapshot and everything after it is handled again: whatever the
   lost handling had done to the state is lost with it. Written apart, one of the two would be
   older, and messages would be handled twice or never.
4. A message is forgotten only when no snapshot that is kept could still need it (`saved`).

What a message does outside the state (a mail, a payment, another module's state) is done at least
once: a crash between that and the next snapshot does it again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec

from replank.definition import Call
from replank.errors import JournalError, ModuleCrashed, ReplankError, StorageError
from replank.journal.port import Entry, TrimmablePort, last_position
from replank.traffic.dead_letters import DeadLetters
from replank.traffic.gate import Gate
from replank.traffic.kept_positions import KeptPositions
from replank.traffic.messages import Inbox, Mark, Message
from replank.traffic.outgoing import Outgoing, OutgoingQueue, accept, refuse
from replank.traffic.payload import DeadLetter, encode_message, read_bare, read_message

T = TypeVar("T")

PAGE: Final = 128
"""Messages held in memory at most, beside the last batch that was published."""
_RETRY_MAX_S: Final = 5.0
_STOP_GRACE_S: Final = 1.0


_Attempt = Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]]


class DurableInbox(Inbox):
    """An inbox whose messages lie in a stream, from acceptance until no snapshot needs them.

    Set `position` to the one in the snapshot that the state was restored from, then `open`, then
    `start`.

    Args:
        gate: The module's gate.
        port: Where the streams are.
        calls: Returns the calls of the generation that serves: their annotations say what a
            message is turned into, at the time of its handling.
        messages_max: How many messages may be queued; a sender waits while it is full.
        on_failure: Called with a message and what its handling raised, also when it cannot be
            read; and with a message without a name and what is wrong with the disk.
        snapshots_kept: How many snapshots of the state are kept: messages after the oldest stay.
        save_after: Handled messages after which a save is asked for, so that the stream stays
            bounded whatever the module's policy is.
        ask_save: Asks for a snapshot of the state; must not block.
        retry_s: Seconds before the disk is tried again; doubled each time.
    """

    handles_again = True

    def __init__(
        self,
        gate: Gate,
        port: TrimmablePort,
        *,
        calls: Callable[[], Mapping[str, Call]],
        messages_max: int,
        on_failure: Callable[[Message, BaseException], None],
        snapshots_kept: int = 3,
        save_after: int = 100_000,
        ask_save: Callable[[], None] = lambda: None,
        retry_s: float = 0.1,
    ) -> None:
        super().__init__(gate, messages_max=messages_max, on_failure=on_failure)
        self.stream = f"inbox/{gate.module}"
        self.ask_save = ask_save
        self._port = port
        self._calls = calls
        self._kept = KeptPositions(port, self.stream, snapshots_kept)
        self._dead = DeadLetters(port, gate.module)
        self._save_after = save_after
        self._retry_s = retry_s
        self._last = 0
        self._asked_at = 0
        self._open = False
        self._opening: asyncio.Task[None] | None = None
        self._outgoing = OutgoingQueue()
        self._publishing: asyncio.Task[None] | None = None
        self._freed = asyncio.Event()
        self._returned: deque[bytes] = deque()
        self._page: deque[Entry] = deque()
        self._page_end = 0
        self._reading = False
        self._rewound = 0
        """How often it went back: what was read or handled before is of no account then."""

    @property
    def queued(self) -> int:
        """How many accepted messages wait to be handled, the one being handled included."""
        behind = self._last - self.position if self._open else 0
        return behind + len(self._returned)

    async def put(self, message: Message) -> None:
        """Accept a message: it is on the disk on return. Waits while the queue is full.

        A sender that is cancelled while its message is being written does not know: it is
        accepted, or is not. One that is cancelled while it waits for room has sent nothing.

        Args:
            message: What to handle; its call must exist in the version that serves now.

        Raises:
            UnknownCall: The module has no such call.
            WrongArguments: An argument cannot be written to the disk.
            UsageError: The message is larger than may be.
            HostStopped: The host takes no more messages.
            JournalError: It could not be written; it is not accepted.
        """
        if self._stopped:
            raise self._refusal()
        self._refuse_unknown(message)
        accepted = self._outgoing.add(encode_message(message, self.gate.module))
        if self._publishing is None:
            name = f"publisher of {self.gate.module}"
            self._publishing = asyncio.create_task(self._publish(), name=name)
        await accepted

    def put_back(self, messages: list[Message]) -> None:
        """Handle messages first that an earlier run had accepted when it was not durable.

        They stay part of the state's snapshots, by `mark`, until they are handled.
        """
        self._returned.extend(encode_message(message, self.gate.module) for message in messages)
        self.accepted += len(messages)
        self._filled.set()

    def rewind(self, position: int, messages: Sequence[dict[str, Any]]) -> None:
        """Go back with the state to its last snapshot: what came after it is handled again.

        Whatever the lost handling had done to the state is lost with it.

        Args:
            position: In the snapshot's mark.
            messages: In the snapshot's mark.
        """
        again = self.queued
        self._page.clear()
        self.position = self._page_end = self._asked_at = position
        self._kept.began_at = position
        self._returned = deque(msgspec.msgpack.encode(message) for message in messages)
        self.accepted += self.queued - again
        self._rewound += 1
        self._filled.set()

    async def settle(self, deadline_s: float) -> None:
        """Refuse new messages and wait until those being written are accepted.

        What is queued is on the disk and is handled at the next start: a backlog lengthens no stop.

        Args:
            deadline_s: How long to wait, in seconds.
        """
        self._refuse_all()
        if self._publishing is not None:
            await asyncio.wait((self._publishing,), timeout=deadline_s)

    async def stop(self) -> list[Message]:
        """Stop the worker; returns what `put_back` had brought and was not handled.

        A message that is cut off is handled again at the next start.
        """
        self._refuse_all()
        self._ending = True
        if self._opening is not None:
            self._opening.cancel()
        if self._worker is not None:
            self._worker.cancel()
        tasks = [one for one in (self._opening, self._publishing, self._worker) if one is not None]
        if tasks:
            # A handler may swallow the cancellation; the worker then ends after its message.
            await asyncio.wait(tasks, timeout=_STOP_GRACE_S)
        return [read_bare(payload) for payload in self._returned]

    def mark(self) -> Mark:
        """Return what a snapshot taken now must carry; call it when nothing is in flight."""
        messages = tuple(msgspec.msgpack.decode(payload) for payload in self._returned)
        return Mark(self.position, messages)

    async def saved(self, position: int) -> None:
        """Forget what no kept snapshot needs, now that one with this position is on the disk.

        Args:
            position: The position in the mark of that snapshot.

        Raises:
            JournalError: It could not be written; nothing that is needed was forgotten.
        """
        await self._kept.saved(position)

    async def dead_letters(self, after: int = 0, limit: int = 100) -> tuple[DeadLetter, ...]:
        """Return messages that could not be read, oldest first.

        The same position comes twice when a crash had it handled again.

        Args:
            after: How many to pass over.
            limit: How many at most.

        Raises:
            JournalError: They cannot be read.
        """
        return await self._dead.read(after, limit)

    # -- opening --------------------------------------------------------------------------------

    async def open(self) -> None:
        """Find the backlog, in a time that does not grow with it: `queued` is true afterwards.

        Without it the first sender or the worker does so, and until then `queued` knows nothing.

        Raises:
            JournalError: The stream cannot be read; trying again is up to the caller.
        """
        if not self._open:
            await self._find_ends(lambda action: action())

    async def _opened(self) -> None:
        """Return when it is known how long the stream is; whoever needs it first finds out."""
        if not self._open:
            if self._opening is None:
                name = f"opening the inbox of {self.gate.module}"
                self._opening = asyncio.create_task(self._find_ends(self._insist), name=name)
            await asyncio.shield(self._opening)

    async def _find_ends(self, attempt: _Attempt) -> None:
        last: int = await attempt(lambda: last_position(self._port, self.stream))
        if last < self.position:
            # Somebody put an older file back, or none. New messages must not get positions that
            # the state has seen: they would count as handled.
            self._trouble("the inbox file is older than the state", f"position {last}")
            await attempt(lambda: self._port.truncate(self.stream, self.position))
            last = self.position
        first = await attempt(lambda: self._port.read(self.stream, self.position, 1))
        begin = first[0].position - 1 if first else last
        if begin > self.position:
            self._trouble(
                "the state is older than every snapshot that was kept",
                f"messages {self.position + 1} to {begin} were handled and forgotten",
            )
            self.position = begin
        self._last, self._page_end, self._asked_at = last, self.position, self.position
        self._kept.began_at = self.position
        await attempt(lambda: self._kept.note([]))
        self.accepted += last - self.position
        self._open = True

    def _trouble(self, what: str, found: str) -> None:
        facts = {"found": found, "expected": f"position {self.position} or later"}
        self._on_failure(_NO_MESSAGE, JournalError(what, module=self.gate.module, **facts))

    # -- accepting ------------------------------------------------------------------------------

    async def _publish(self) -> None:
        """Write batch after batch, each as large as there is room, until no sender waits."""
        try:
            await self._opened()
            while self._outgoing:
                room = self.messages_max - self.queued
                if room <= 0:
                    self._freed.clear()
                    await self._freed.wait()
                    continue
                if batch := self._outgoing.next_batch(room):
                    await self._accept_all(batch)
        finally:
            self._publishing = None
            if self._outgoing:
                self._refuse_all()  # the opening was cancelled: the host stops

    async def _accept_all(self, batch: Sequence[Outgoing]) -> None:
        payloads = [one.payload for one in batch]
        try:
            positions = await self._port.publish(self.stream, payloads)
        except ReplankError as error:
            refuse(batch, error)
            return
        self.accepted += len(batch)
        self._last = positions[-1]
        if self._page_end + 1 == positions[0] and len(self._page) < PAGE and not self._reading:
            # Nothing lies between: what is in memory needs no reading back.
            self._page.extend(map(Entry, positions, payloads))
            self._page_end = positions[-1]
        accept(batch)
        self._filled.set()

    def _refuse_all(self) -> None:
        self._stopped = True
        self._outgoing.refuse_all(self._refusal)
        self._freed.set()

    # -- handling -------------------------------------------------------------------------------

    async def _arrival(self) -> None:
        await self._opened()
        while not self._page and not self._returned:
            if self.position < self._last:
                await self._read_page()
            else:
                self._filled.clear()
                await self._filled.wait()

    async def _read_page(self) -> None:
        self._reading, rewound = True, self._rewound
        try:
            page = await self._insist(lambda: self._port.read(self.stream, self.position, PAGE))
        finally:
            self._reading = False
        if rewound != self._rewound:
            return  # it is read again, from further back
        assert page, "messages are missing"
        assert page[0].position == self.position + 1, "a message is missing"
        self._page.extend(page)
        self._page_end = page[-1].position

    async def _handle_next(self) -> None:
        if not (self._returned or self._page):
            return  # it went back while the worker waited at the gate: it is read again
        position = 0 if self._returned else self._page[0].position
        payload = self._returned[0] if self._returned else self._page[0].payload
        rewound = self._rewound
        if self._dead.condemned(position):
            await self._put_aside(position, payload)
            self._advance(position)
            return
        try:
            message = read_message(payload, self._calls(), self.gate.module)
        except ReplankError as error:
            await self._bury(position, payload, error)
        else:
            try:
                await self._handle(message)
            except ModuleCrashed as error:
                self._dead.count_crash(position, error)
                return  # it is handled again, with the state from before it
        if rewound != self._rewound:
            return  # what it has done is lost with the state: it is handled again
        self._advance(position)

    def _advance(self, position: int) -> None:
        # No await from the end of the handling to here: whoever finds the module quiet finds the
        # position advanced.
        if position == 0:
            self._returned.popleft()
        else:
            self._page.popleft()
            self.position = position
        self._freed.set()
        if self.position - self._asked_at >= self._save_after:
            self._asked_at = self.position
            self.ask_save()

    async def _put_aside(self, position: int, payload: bytes) -> None:
        error = self._dead.take_reason(position)
        if error is not None:
            await self._bury(position, payload, error)
        else:
            self.failed += 1  # again: it went back beyond it

    async def _bury(self, position: int, payload: bytes, error: ReplankError) -> None:
        """Put a message aside; only then is it counted as dealt with."""
        await self._insist(lambda: self._dead.add(position, payload, error))
        self._fail(read_bare(payload), error)

    async def _insist(self, action: Callable[[], Awaitable[T]]) -> T:
        """Do something with the disk, again and again while the disk is not well."""
        wait_s = self._retry_s
        while True:
            try:
                return await action()
            except StorageError as error:
                self._on_failure(_NO_MESSAGE, error)
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, _RETRY_MAX_S)


_NO_MESSAGE: Final = Message("", (), {})


__all__ = ["PAGE", "DurableInbox"]
